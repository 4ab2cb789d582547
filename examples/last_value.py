"""A last value cache: a subscriber that comes late is sent the last value of each topic at once.

The publisher reports the weather of some cities, and is done before anybody has subscribed. docs/patterns/last_value.md
explains the cache.
"""

import time

import zmq

from pollbroker import LAST_VALUE, Engine

CITIES = ("bergen", "berlin", "bern", "lima")
REPORTS = 3


def subscribe(context: zmq.Context[zmq.Socket[bytes]], backend: str, prefix: str, expected: int) -> None:
    with context.socket(zmq.SUB) as subscriber:
        subscriber.subscribe(prefix)
        subscriber.connect(backend)
        print(f"a subscriber to {prefix}:")
        for _ in range(expected):
            topic, value = subscriber.recv_multipart()
            print(f"    {topic.decode()}: {value.decode()}")


def main() -> None:
    with Engine() as engine, zmq.Context() as context:
        cache = engine.add("weather", LAST_VALUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        with context.socket(zmq.XPUB) as publisher:
            publisher.connect(cache.ports["frontend"].endpoint)
            publisher.recv()  # the cache has subscribed
            for number in range(REPORTS):
                for city in CITIES:
                    publisher.send_multipart([city.encode(), f"report {number}".encode()])
            while cache.statistics().flows["behaviour"].received < REPORTS * len(CITIES):
                time.sleep(0.01)
        subscribe(context, cache.ports["backend"].endpoint, "ber", expected=3)
        subscribe(context, cache.ports["backend"].endpoint, "lima", expected=1)
        print(f"sent again: {cache.statistics().counters['resent']}")


if __name__ == "__main__":
    main()
