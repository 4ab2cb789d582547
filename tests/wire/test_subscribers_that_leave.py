"""Subscribers that leave with many subscriptions, which are removed little by little. Publishers are told of each."""

from itertools import islice

import pytest

from pollbroker import FORWARDER
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import MakeEngine
from tests.support.wire_ports import peer_count
from tests.wire.moving import Add, Relay, ReplacedRelay
from tests.wire.zmtp import Raw, RawPeer, command

COUNT = 100_000
"""Many more than are removed in one turn."""

SUBSCRIBE, CANCEL = b"\x09SUBSCRIBE", b"\x06CANCEL"

TOPICS = [b"%06d" % number for number in range(COUNT)]


def add() -> Add:
    return lambda engine, **more: engine.add("a", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT, **more)


def told(publisher: RawPeer, name: bytes) -> set[bytes]:
    """The topics of the next commands that a publisher is sent, which are all of this name."""
    commands = [publisher.read_command() for _ in TOPICS]
    assert all(body.startswith(name) for body in commands)
    return {body.removeprefix(name) for body in commands}


def subscribe_to_all(relay: Relay, raw: Raw) -> tuple[RawPeer, RawPeer]:
    """A publisher and a subscriber of everything, which the publisher was told of."""
    publisher = raw(endpoint(relay.broker.frontend)).shake_hands("PUB")
    subscriber = raw(endpoint(relay.broker.backend)).shake_hands("SUB")
    for begin in range(0, COUNT, 1000):
        subscriber.send(b"".join(command(b"SUBSCRIBE", topic) for topic in islice(TOPICS, begin, begin + 1000)))
    assert told(publisher, SUBSCRIBE) == set(TOPICS)
    return publisher, subscriber


def test_publisher_is_told_of_the_end_of_every_subscription(make_engine: MakeEngine, raw: Raw) -> None:
    publisher, subscriber = subscribe_to_all(Relay(make_engine, add()), raw)
    subscriber.close()
    assert told(publisher, CANCEL) == set(TOPICS)


@pytest.mark.parametrize("kind", [Relay, ReplacedRelay], ids=["to_another_engine", "in_one_engine"])
def test_broker_that_moves_amid_the_removal_tells_of_every_subscription(
    make_engine: MakeEngine, raw: Raw, kind: type[Relay]
) -> None:
    relay = kind(make_engine, add())
    publisher, subscriber = subscribe_to_all(relay, raw)
    subscriber.close()
    wait_until(lambda: peer_count(relay.engine, relay.broker, "backend") == 0)
    relay.move()
    assert told(publisher, CANCEL) == set(TOPICS)


def test_subscriber_that_comes_amid_the_removal_is_served(make_engine: MakeEngine, raw: Raw) -> None:
    """Its topic may be one that is yet to be removed. Then the publisher is told of no end."""
    relay = Relay(make_engine, add())
    publisher, subscriber = subscribe_to_all(relay, raw)
    subscriber.close()
    wait_until(lambda: peer_count(relay.engine, relay.broker, "backend") == 0)
    other = raw(endpoint(relay.broker.backend)).shake_hands("SUB")
    other.send(command(b"SUBSCRIBE", TOPICS[-1]))
    subscribed = set(TOPICS)
    while subscribed != {TOPICS[-1]}:
        body = publisher.read_command()
        (subscribed.add if body.startswith(SUBSCRIBE) else subscribed.remove)(body[-len(TOPICS[0]) :])
    publisher.send_message(TOPICS[-1], b"body")
    assert other.read_message() == [TOPICS[-1], b"body"]
