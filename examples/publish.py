"""A publisher: waits until somebody subscribes, then publishes weather and traffic. See subscribe.py.

pollbroker forwarder tcp://127.0.0.1:5561 tcp://127.0.0.1:5562
python examples/publish.py tcp://127.0.0.1:5561 [COUNT, by default until Ctrl-C]

A publisher drops messages to which nobody has subscribed yet, so one that begins at once loses its first messages. This
publisher has an XPUB socket: a PUB socket that can also receive subscriptions. A forwarder passes on the subscriptions
of its subscribers. A filter subscribes to the topics on its own list, even if it has no subscriber.
"""

import sys
from contextlib import suppress
from itertools import count, islice

import zmq

TOPICS = ("weather", "traffic")
INTERVAL_MS = 10


def main(endpoint: str, limit: int | None = None) -> None:
    with suppress(KeyboardInterrupt), zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.connect(endpoint)
        print_subscription(publisher.recv())
        for number in islice(count(), limit):
            topic = TOPICS[number % len(TOPICS)]
            publisher.send_multipart([topic.encode(), f"report {number}".encode()])
            print(f"published {topic}: report {number}")
            if publisher.poll(INTERVAL_MS):  # the pause between two reports, unless somebody else subscribes
                print_subscription(publisher.recv())


def print_subscription(message: bytes) -> None:
    verb = "subscribed to" if message[0] else "left"
    print(f"somebody {verb} {message[1:].decode() or 'everything'}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
