"""A puller: takes jobs from a streamer. Connects to the streamer's backend; several of them share the jobs.

pollbroker streamer tcp://127.0.0.1:5563 tcp://127.0.0.1:5564
python examples/pull.py tcp://127.0.0.1:5564 [COUNT, by default until Ctrl-C]
"""

import sys
from contextlib import suppress
from itertools import count, islice

import zmq


def main(endpoint: str, limit: int | None = None) -> None:
    with suppress(KeyboardInterrupt), zmq.Context() as context, context.socket(zmq.PULL) as puller:
        puller.connect(endpoint)
        for _ in islice(count(), limit):
            print(f"pulled {puller.recv_string()}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
