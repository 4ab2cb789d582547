"""Ports from which no flow takes anything: what peers send there is of no use, and stops nobody."""

import pytest
import zmq

from pollbroker import Device, Engine, Limits, Route
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect
from tests.support.wire_ports import ended_by, in_engine, peer_count, wire_port
from tests.wire.zmtp import Raw, command, message, ping

TO_SUBSCRIBERS = Device("to_subscribers", zmq.PULL, zmq.XPUB, (Route("frontend", "backend"),))
TO_DEALERS = Device("to_dealers", zmq.PULL, zmq.DEALER, (Route("frontend", "backend"),))


@pytest.mark.parametrize("leaves", [False, True], ids=["it stays", "it leaves"])
def test_message_of_one_subscriber_does_not_keep_others_from_subscribing(
    engine: Engine, raw: Raw, connect: Connect, leaves: bool
) -> None:
    broker = engine.add("a", TO_SUBSCRIBERS, frontend=ANY_PORT, backend=ANY_PORT)
    talker = raw(endpoint(broker.backend)).shake_hands("XSUB")
    talker.send(message(b"\x02hello") + message(b"") + ping())
    assert talker.read_command().startswith(b"\x04PONG")
    if leaves:
        talker.close()
        wait_until(lambda: peer_count(engine, broker, "backend") == 0)
    subscriber = raw(endpoint(broker.backend)).shake_hands("SUB")
    subscriber.send(command(b"SUBSCRIBE", b"a") + ping())
    assert subscriber.read_command().startswith(b"\x04PONG")
    connect(zmq.PUSH, endpoint(broker.frontend)).send(b"a message")
    assert subscriber.read_message() == [b"a message"]


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_peers_that_leave_unread_messages_do_not_use_up_the_connections(
    engine: Engine, raw: Raw, connect: Connect, size: int
) -> None:
    broker = engine.add("a", TO_DEALERS, frontend=ANY_PORT, backend=ANY_PORT, limits=Limits(connections=3))
    for _ in range(5):
        worker = raw(endpoint(broker.backend)).shake_hands("DEALER")
        worker.socket.setblocking(False)
        worker.socket.send(message(b"x" * size))
        worker.close()
        wait_until(lambda: in_engine(engine, lambda: wire_port(broker, "backend").connections) == 0)
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    push.send(b"work")
    assert raw(endpoint(broker.backend)).shake_hands("DEALER").read_message() == [b"work"]


def test_connection_that_is_reset_is_counted_as_broken(engine: Engine, raw: Raw) -> None:
    broker = engine.add("a", TO_SUBSCRIBERS, frontend=ANY_PORT, backend=ANY_PORT)
    raw(endpoint(broker.backend)).shake_hands("SUB").reset()
    wait_until(lambda: ended_by(engine, broker, "backend") == {"broken": 1})
