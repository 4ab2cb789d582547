"""Who is taken for dead: a peer that has not answered. Nobody is because the engine itself has stood still."""

import os
import socket
import threading
from contextlib import ExitStack

import pytest
import zmq

from pollbroker import STREAMER, Broker, Engine
from pollbroker.wire import native
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect
from tests.support.wire_ports import ended_by, in_engine, peer_count
from tests.wire.moving import adds
from tests.wire.tries import serve
from tests.wire.zmtp import Raw, command, connect_raw, greeting, ping, ready

PING = b"\x04PING\x00\x00"


def add(engine: Engine, **options: int) -> Broker:
    return engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, frontend_options=options)


def stand_still(engine: Engine, seconds: float) -> None:
    """Have a call of the engine take so long."""
    in_engine(engine, lambda: threading.Event().wait(seconds))


def test_engine_that_stood_still_asks_before_it_takes_a_peer_for_silent(engine: Engine, raw: Raw) -> None:
    """The peer has answered the last PING, and the next was due while nobody could send it."""
    broker = add(engine, heartbeat_ivl=100, heartbeat_timeout=2000)
    peer = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    assert peer.read_command() == PING
    peer.send(command(b"PONG"))
    wait_until(lambda: broker.peers()[0].silent_s < 0.05)
    stand_still(engine, 2.2)
    for _ in range(2):
        assert peer.read_command() == PING
        peer.send(command(b"PONG"))
    assert not ended_by(engine, broker)


def test_time_for_the_answer_may_be_as_long_as_an_option_can_say(engine: Engine, connect: Connect) -> None:
    broker = add(engine, heartbeat_ivl=1000, heartbeat_timeout=2**31 - 1)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    for number in range(3):
        push.send(b"%d" % number)
        assert pull.recv() == b"%d" % number
    assert not ended_by(engine, broker)


@pytest.mark.parametrize("before", [{}, {"heartbeat_ivl": 60_000, "heartbeat_timeout": 60_000}])
def test_quiet_peer_is_asked_by_a_broker_whose_interval_is_shorter(
    engine: Engine, raw: Raw, before: dict[str, int]
) -> None:
    """It has been silent for longer than it may be from now on, and nobody has asked it anything."""
    broker = adds(STREAMER, frontend_options=before)(engine)
    peer = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    wait_until(lambda: peer_count(engine, broker) == 1 and broker.peers()[0].silent_s > 1.1)
    options = {"heartbeat_ivl": 50, "heartbeat_timeout": 1000}
    broker = adds(STREAMER, frontend_options=options)(engine, replaces=broker)
    assert peer.read_command() == PING
    peer.send(command(b"PONG"))
    assert peer.read_command() == PING
    peer.read_to_the_end()  # it answers no more
    wait_until(lambda: ended_by(engine, broker) == {"silent": 1})


def test_peer_that_is_sent_nothing_any_more_need_not_answer(engine: Engine, raw: Raw) -> None:
    """The broker is drained: what the peer has still to send is waited for."""
    broker = add(engine, heartbeat_ivl=200, heartbeat_timeout=200)
    peer = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    consumer = raw(endpoint(broker.backend)).shake_hands("PULL")
    wait_until(lambda: peer_count(engine, broker) == 1)
    removed = engine.begin_removal("a", drain=True, timeout_s=DEADLINE_S)
    threading.Event().wait(0.8)
    for number in range(2):
        peer.send_message(b"%d" % number)
    peer.close()
    assert [consumer.read_message() for _ in range(2)] == [[b"0"], [b"1"]]
    assert "silent" not in removed.result(DEADLINE_S).ports["frontend"].connections_ended


PEERS = 300
"""More than the events that are fetched at once."""


def test_peers_that_have_been_heard_are_kept_however_many_there_are(port: tuple[native.Net, native.Port]) -> None:
    """All have said something while nobody looked, which was longer than they had promised to be silent at most."""
    net, pull = port
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0), backlog=PEERS) as listener:
        listener.setblocking(False)
        accepting = native.Listener(pull, os.dup(listener.fileno()))
        stack.callback(accepting.close)
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        peers = [stack.enter_context(connect_raw(address)) for _ in range(PEERS)]
        for peer in peers:
            peer.send(greeting() + ready("PUSH"))
        wait_until(lambda: serve(net) or pull.peer_count == PEERS)  # type: ignore[func-returns-value]
        for peer in peers:
            assert peer.read(64)
            assert peer.read_command().startswith(b"\x05READY")
            peer.send(ping(10))
        for _ in range(3):
            serve(net)
        net.flush()
        for peer in peers:
            assert peer.read_command() == b"\x04PONG"
            peer.send(ping(10))
        threading.Event().wait(1.1)
        serve(net)
        assert pull.ended_by == {}
        assert pull.peer_count == PEERS
