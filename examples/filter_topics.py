"""A broker that lets only some topics through, whatever its subscribers ask for.

python examples/filter_topics.py tcp://127.0.0.1:5561 tcp://127.0.0.1:5562 weather
pollbroker filter tcp://127.0.0.1:5561 tcp://127.0.0.1:5562 --topic weather  # does the same

The peers are publish.py and subscribe.py. A forwarder passes on what its subscribers want. A filter has its own list,
and sends it to the publishers: a topic that is not on it does not even leave them. Ctrl-C or SIGTERM ends it.
"""

import signal
import sys
from contextlib import closing

from pollbroker import FILTER, Engine


def main(frontend: str, backend: str, *topics: str) -> None:
    with closing(Engine()) as engine:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, lambda *_: engine.stop())
        engine.add("reports", FILTER, frontend=frontend, backend=backend, frontend_options={"subscribe": topics})
        print(f"lets through: {', '.join(topics)}", flush=True)
        engine.run()


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
