"""A subscriber: prints what is published on a topic. Connects to the backend of a forwarder or a filter.

pollbroker forwarder tcp://127.0.0.1:5561 tcp://127.0.0.1:5562
python examples/subscribe.py tcp://127.0.0.1:5562 TOPIC [COUNT, by default until Ctrl-C]

TOPIC is weather or traffic, or '' for both.
"""

import sys
from contextlib import suppress
from itertools import count, islice

import zmq


def main(endpoint: str, topic: str, limit: int | None = None) -> None:
    with suppress(KeyboardInterrupt), zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.subscribe(topic)  # a prefix of the first frame; every message begins with the empty one
        subscriber.connect(endpoint)
        for _ in islice(count(), limit):
            found, report = subscriber.recv_multipart()
            print(f"{found.decode()}: {report.decode()}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
