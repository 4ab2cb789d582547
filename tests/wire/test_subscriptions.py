"""Subscriptions of peers: which of them count, which are passed on to publishers, and which are refused."""

from collections.abc import Mapping
from typing import Final

import pytest
import zmq

from pollbroker import FORWARDER, Device, Engine, Route
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect
from tests.support.wire_ports import ended_by, peer_count
from tests.wire.zmtp import Raw, RawListener, command, message, ping


@pytest.mark.parametrize("how", ["command", "message"])
def test_long_subscription_ends_the_connection_of_its_peer(
    engine: Engine, connect: Connect, raw: Raw, how: str
) -> None:
    broker = engine.add("f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT, backend_options={"maxmsgsize": -1})
    publisher = connect(zmq.XPUB, endpoint(broker.frontend))
    steady = raw(endpoint(broker.backend)).shake_hands("SUB")
    steady.send(command(b"SUBSCRIBE", b"t"))
    assert publisher.recv() == b"\x01t"

    def subscribe(topic: bytes) -> bytes:
        return command(b"SUBSCRIBE", topic) if how == "command" else message(b"\x01" + topic)

    peer = raw(endpoint(broker.backend)).shake_hands("SUB")
    peer.send(subscribe(b"t" * 4096))
    assert publisher.recv() == b"\x01" + b"t" * 4096
    peer.send(subscribe(b"t" * 4097))
    peer.read_to_the_end()
    wait_until(lambda: ended_by(engine, broker, "backend") == {"subscriptions": 1})
    assert publisher.recv() == b"\x00" + b"t" * 4096
    publisher.send(b"t" * 5000)
    assert steady.read_message() == [b"t" * 5000]


@pytest.mark.parametrize("how", ["command", "message"])
def test_forwarder_refuses_long_subscriptions(engine: Engine, connect: Connect, raw: Raw, how: str) -> None:
    broker = engine.add("f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    peer = raw(endpoint(broker.backend)).shake_hands("SUB")
    topic = b"t" * 5000
    peer.send(command(b"SUBSCRIBE", topic) if how == "command" else message(b"\x01" + topic))
    peer.read_to_the_end()
    wait_until(lambda: sum(ended_by(engine, broker, "backend").values()) == 1)
    assert set(ended_by(engine, broker, "backend")) <= {"subscriptions", "large_frame"}
    subscriber = connect(zmq.SUB, endpoint(broker.backend), subscribe=b"t")
    publisher = connect(zmq.XPUB, endpoint(broker.frontend))
    assert publisher.recv() == b"\x01t"
    publisher.send(b"topic")
    assert subscriber.recv() == b"topic"


def test_every_subscription_counts_at_an_xpub_that_nobody_reads(engine: Engine, connect: Connect, raw: Raw) -> None:
    device = Device("publisher", zmq.PULL, zmq.XPUB, (Route("frontend", "backend"),))
    broker = engine.add("a", device, frontend=ANY_PORT, backend=ANY_PORT)
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    subscribers = {}
    for topic in (b"a", b"b", b"c"):
        subscribers[topic] = raw(endpoint(broker.backend)).shake_hands("SUB")
        subscribers[topic].send(command(b"SUBSCRIBE", topic) + ping(0, b"done"))
        subscribers[topic].socket.settimeout(1)
        assert subscribers[topic].read_command() == b"\x04PONGdone"
    for topic, subscriber in subscribers.items():
        push.send(topic)
        assert subscriber.read_message() == [topic]


def test_subscribing_twice_is_subscribing_once(engine: Engine, connect: Connect, raw: Raw) -> None:
    """Each subscription of a peer counts once: libzmq's SUB, which counts them itself, sends each of them once."""
    broker = engine.add("f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    publisher = raw(endpoint(broker.frontend)).shake_hands("PUB")
    peer = raw(endpoint(broker.backend)).shake_hands("SUB")
    peer.send(command(b"SUBSCRIBE", b"t") * 3 + command(b"CANCEL", b"other"))
    assert publisher.read_command() == b"\x09SUBSCRIBEt"
    publisher.send_message(b"topic")
    assert peer.read_message() == [b"topic"]
    peer.send(command(b"CANCEL", b"t"))
    assert publisher.read_command() == b"\x06CANCELt"


def test_subscriptions_of_a_peer_that_is_gone_are_cancelled(engine: Engine, connect: Connect, raw: Raw) -> None:
    broker = engine.add("f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    publisher = raw(endpoint(broker.frontend)).shake_hands("PUB")
    topics = [b"%03d" % number for number in range(200)]
    for how in ("closed", "reset"):
        peer = raw(endpoint(broker.backend)).shake_hands("SUB")
        peer.send(b"".join(command(b"SUBSCRIBE", topic) for topic in topics))
        assert [publisher.read_command() for _ in topics] == [b"\x09SUBSCRIBE" + topic for topic in topics]
        peer.close() if how == "closed" else peer.reset()
        assert sorted(publisher.read_command() for _ in topics) == [b"\x06CANCEL" + topic for topic in topics]


@pytest.mark.parametrize("transport", ["wire", "libzmq"])
@pytest.mark.parametrize("option", ["xpub_verbose", "xpub_verboser"])
def test_verbose_forwarder_passes_every_subscription_on(engine: Engine, raw: Raw, option: str, transport: str) -> None:
    """It is cancelled when all of them are, and of these an XPUB with `xpub_verbose` tells the last one only."""
    broker = engine.add(
        "f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT, backend_options={option: 1}, transport=transport
    )
    publisher = raw(endpoint(broker.frontend)).shake_hands("PUB", minor=0)
    peers = [raw(endpoint(broker.backend)).shake_hands("SUB") for _ in range(3)]
    for peer in peers:
        peer.send(command(b"SUBSCRIBE", b"t"))
        assert publisher.read_message() == [b"\x01t"]
    for peer in peers:
        peer.send(command(b"CANCEL", b"t"))
    if option == "xpub_verboser":
        assert publisher.read_message() == [b"\x00t"]
    peers[-1].send(command(b"SUBSCRIBE", b"u"))
    assert publisher.read_message() == [b"\x01u"]


VERBOSITY: Final[Mapping[str, tuple[dict[str, int], int, int]]] = {
    "neither": ({}, 1, 1),
    "verbose": ({"xpub_verbose": 1}, 3, 1),
    "verboser": ({"xpub_verboser": 1}, 3, 3),
    "verbose after verboser": ({"xpub_verboser": 1, "xpub_verbose": 1}, 3, 1),
    "verboser after verbose": ({"xpub_verbose": 1, "xpub_verboser": 1}, 3, 3),
    "not verboser after verbose": ({"xpub_verbose": 1, "xpub_verboser": 0}, 1, 1),
}
"""Options of an XPUB, and how many subscriptions and cancellations it tells of three peers with the same topic."""


@pytest.mark.parametrize("how", ["leave", "cancel"])
@pytest.mark.parametrize("transport", ["wire", "libzmq"])
@pytest.mark.parametrize(("options", "subscriptions", "cancellations"), VERBOSITY.values(), ids=VERBOSITY)
def test_xpub_tells_as_many_subscriptions_as_its_options_say(
    engine: Engine,
    connect: Connect,
    raw: Raw,
    options: dict[str, int],
    subscriptions: int,
    cancellations: int,
    transport: str,
    how: str,
) -> None:
    device = Device("told", zmq.XPUB, zmq.PUSH, (Route("frontend", "backend"),))
    broker = engine.add("a", device, frontend=ANY_PORT, backend=ANY_PORT, frontend_options=options, transport=transport)
    pull = connect(zmq.PULL, endpoint(broker.backend))
    peers = [raw(endpoint(broker.frontend)).shake_hands("SUB") for _ in range(3)]
    last = raw(endpoint(broker.frontend)).shake_hands("SUB")
    for peer in peers:
        peer.send(command(b"SUBSCRIBE", b"t"))
    assert [pull.recv() for _ in range(subscriptions)] == [b"\x01t"] * subscriptions
    last.send(command(b"SUBSCRIBE", b"between"))
    assert pull.recv() == b"\x01between"
    for peer in peers:
        peer.close() if how == "leave" else peer.send(command(b"CANCEL", b"t"))
    assert [pull.recv() for _ in range(cancellations)] == [b"\x00t"] * cancellations
    last.send(command(b"SUBSCRIBE", b"end"))
    assert pull.recv() == b"\x01end"


def test_subscriptions_are_told_again_at_each_connection(engine: Engine, connect: Connect) -> None:
    with RawListener() as listener:
        broker = engine.add(
            "f", FORWARDER, frontend=f">{listener.address}", backend=ANY_PORT, frontend_options={"reconnect_ivl": 5},
        )  # fmt: skip
        connect(zmq.SUB, endpoint(broker.backend), subscribe=b"t")
        for _ in range(3):
            with listener.accept() as publisher:
                publisher.shake_hands("PUB")
                assert publisher.read_command() == b"\x09SUBSCRIBEt"


def test_subscriptions_pass_a_forwarder_and_filter_at_the_publisher(engine: Engine, connect: Connect) -> None:
    broker = engine.add("f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    publisher = connect(zmq.XPUB, endpoint(broker.frontend))
    subscriber = connect(zmq.SUB, endpoint(broker.backend), subscribe=b"wanted")
    assert publisher.recv() == b"\x01wanted"
    late = connect(zmq.XPUB, endpoint(broker.frontend))  # a publisher that comes later is told, too
    assert late.recv() == b"\x01wanted"
    for number in range(20):
        publisher.send_multipart([b"unwanted", b"x"])
        publisher.send_multipart([b"wanted", b"%d" % number])
    for number in range(20):
        assert subscriber.recv_multipart() == [b"wanted", b"%d" % number]
    assert flow_of(engine, "f").received == 20
    subscriber.close()
    assert publisher.recv() == b"\x00wanted"
    assert late.recv() == b"\x00wanted"


def test_xpub_tells_the_first_and_the_last_of_each_subscription(engine: Engine, connect: Connect) -> None:
    broker = engine.add("f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    publisher = connect(zmq.XPUB, endpoint(broker.frontend))
    subscribers = [connect(zmq.SUB, endpoint(broker.backend), subscribe=b"t") for _ in range(3)]
    assert publisher.recv() == b"\x01t"
    wait_until(lambda: peer_count(engine, broker, "backend") == 3)
    subscribers[0].subscribe(b"u")
    assert publisher.recv() == b"\x01u"
    for subscriber in subscribers:
        subscriber.unsubscribe(b"t")
        assert not (subscriber is subscribers[0] and publisher.poll(0))
    assert publisher.recv() == b"\x00t"
    assert not publisher.poll(0)


def test_each_frame_of_a_message_may_be_a_subscription(engine: Engine, connect: Connect) -> None:
    broker = engine.add("f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    publisher = connect(zmq.XPUB, endpoint(broker.frontend))
    subscriber = connect(zmq.XSUB, endpoint(broker.backend))
    subscriber.send_multipart([b"\1EUR", b"note", b"\1USD", b"", b"\1GBP", b"\0EUR"])
    assert [publisher.recv() for _ in range(4)] == [b"\1EUR", b"\1USD", b"\1GBP", b"\0EUR"]
    publisher.send_multipart([b"EUR", b"1"])
    publisher.send_multipart([b"USD", b"2"])
    assert subscriber.recv_multipart() == [b"USD", b"2"]
