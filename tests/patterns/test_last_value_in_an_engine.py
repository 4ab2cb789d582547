"""A last value cache on real sockets."""

import random
from collections.abc import Iterator

import pytest
import zmq

from pollbroker import LAST_VALUE, Broker, Engine
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT
from tests.support.deadline import wait_until
from tests.support.types import Connect, Socket

Values = dict[bytes, bytes]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


@pytest.fixture
def cache(engine: Engine) -> Broker:
    return engine.add("a", LAST_VALUE, frontend=ANY_PORT, backend=ANY_PORT)


def publisher_to(cache: Broker, connect: Connect) -> Socket:
    """A publisher that waits for the cache's subscription, so that it loses nothing."""
    publisher = connect(zmq.XPUB, cache.ports["frontend"].endpoint, sndhwm=0)
    assert publisher.recv() == b"\1"
    return publisher


def subscriber_to(cache: Broker, connect: Connect, *prefixes: bytes) -> Socket:
    subscriber = connect(zmq.SUB, rcvhwm=0, sndhwm=0)  # what exceeds the latter in subscriptions is lost
    for prefix in prefixes:
        subscriber.subscribe(prefix)
    subscriber.connect(cache.ports["backend"].endpoint)
    return subscriber


def received(cache: Broker) -> int:
    return cache.statistics().flows["behaviour"].received


def counter(cache: Broker, name: str) -> int:
    return cache.statistics().counters.get(name, 0)


def values_of(subscriber: Socket, topics: int) -> Values:
    """The values that a subscriber has when it has been sent so many topics."""
    values: Values = {}
    while len(values) < topics:
        topic, value = subscriber.recv_multipart()
        values[topic] = value
    return values


# There are more topics than a socket's default high-water mark.
def test_late_subscriber_is_sent_the_last_value_of_each_of_many_topics(
    engine: Engine, cache: Broker, connect: Connect
) -> None:
    publisher = publisher_to(cache, connect)
    for number in range(6000):
        publisher.send_multipart([b"%04d" % (number % 3000), b"%d" % number])
    wait_until(lambda: received(cache) == 6000)
    subscriber = subscriber_to(cache, connect, b"1", b"25")
    assert values_of(subscriber, 1100) == {
        b"%04d" % topic: b"%d" % (3000 + topic) for topic in (*range(1000, 2000), *range(2500, 2600))
    }
    assert len(values_of(subscriber_to(cache, connect, b""), 3000)) == 3000
    wait_until(lambda: counter(cache, "resent") == 4100)
    assert balanced(flow_of(engine, "a", "behaviour"))


def test_values_that_are_published_meanwhile_are_not_overtaken_by_older_ones(cache: Broker, connect: Connect) -> None:
    publisher = publisher_to(cache, connect)
    for number in range(1000):
        publisher.send_multipart([b"%03d" % number, b"0"])
    wait_until(lambda: received(cache) == 1000)
    subscriber = subscriber_to(cache, connect, b"")
    chance = random.Random(1)
    for number in range(1, 1001):
        publisher.send_multipart([b"%03d" % chance.randrange(1000), b"%d" % number])
    last: dict[bytes, int] = {}
    while len(last) < 1000 or max(last.values()) < 1000:
        topic, value = subscriber.recv_multipart()
        assert int(value) >= last.get(topic, 0)
        last[topic] = int(value)


# An XPUB cannot send to one subscriber alone.
def test_subscriber_that_was_there_is_sent_a_value_again(cache: Broker, connect: Connect) -> None:
    publisher = publisher_to(cache, connect)
    first = subscriber_to(cache, connect, b"a")
    wait_until(lambda: counter(cache, "subscriptions") == 1)
    publisher.send_multipart([b"a", b"1"])
    assert first.recv_multipart() == [b"a", b"1"]
    second = subscriber_to(cache, connect, b"a")
    assert second.recv_multipart() == first.recv_multipart() == [b"a", b"1"]


def test_garbage_of_subscribers_is_counted_and_harms_nobody(engine: Engine, cache: Broker, connect: Connect) -> None:
    publisher = publisher_to(cache, connect)
    publisher.send_multipart([b"a", b"1"])
    wait_until(lambda: received(cache) == 1)
    peer = connect(zmq.XSUB, cache.ports["backend"].endpoint)
    chance = random.Random(1)
    for _ in range(100):
        peer.send_multipart(
            [bytes([2 + chance.randrange(254)]) + chance.randbytes(5), *[b"\1", b""][: chance.randrange(3)]]
        )
    wait_until(lambda: counter(cache, "malformed") >= 100)
    peer.send(b"\1" + bytes(10_000))  # the connection is closed, and made again
    assert subscriber_to(cache, connect, b"").recv_multipart() == [b"a", b"1"]
    assert balanced(flow_of(engine, "a", "behaviour"))


def test_flood_of_topics_and_subscriptions_is_bounded(engine: Engine, cache: Broker, connect: Connect) -> None:
    publisher = publisher_to(cache, connect)
    for number in range(12_000):
        publisher.send_multipart([b"%05d" % number, b"x"])
    wait_until(lambda: counter(cache, "forgotten") == 2000)
    subscriber = subscriber_to(cache, connect, *(b"%05d" % number for number in range(0, 12_000, 3)))
    assert min(values_of(subscriber, 3333)) == b"02001"
    wait_until(lambda: counter(cache, "subscriptions") == 4000)
    assert balanced(flow_of(engine, "a", "behaviour"))


def test_cache_that_is_started_again_learns_the_values_anew(engine: Engine, cache: Broker, connect: Connect) -> None:
    publisher = publisher_to(cache, connect)
    publisher.send_multipart([b"a", b"1"])
    subscriber = subscriber_to(cache, connect, b"a")
    assert subscriber.recv_multipart() == [b"a", b"1"]
    frontend, backend = cache.ports["frontend"].endpoint, cache.ports["backend"].endpoint
    cache.remove()
    again = engine.add("a", LAST_VALUE, frontend=frontend, backend=backend)
    # libzmq sends the subscriptions again when the subscriber looks for messages.
    wait_until(lambda: subscriber.poll(0) or counter(again, "subscriptions") == 1)
    publisher.send_multipart([b"a", b"2"])
    assert subscriber.recv_multipart() == [b"a", b"2"]
    assert subscriber_to(again, connect, b"").recv_multipart() == [b"a", b"2"]
