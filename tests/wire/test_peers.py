"""Peers that are silent, mistaken or hostile, or like another one, and what becomes of their connections."""

import select
from dataclasses import replace

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Engine
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect
from tests.support.wire_ports import ended_by, peer_count
from tests.wire import zmtp
from tests.wire.desk import Desk
from tests.wire.zmtp import Raw, command, frame, greeting, message, ping, ready

# -- heartbeats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("carried", [b"", b"x", b"y" * 16])
def test_ping_is_answered_with_its_context(desk: Desk, raw: Raw, carried: bytes) -> None:
    peer = raw(desk.address).shake_hands("DEALER")
    peer.send(ping(0, carried))
    assert peer.read_command() == b"\x04PONG" + carried
    # between the frames of a message, too
    peer.send(frame(b"1", zmtp.MORE) + ping(0, carried) + frame(b"2"))
    assert peer.read_command() == b"\x04PONG" + carried
    assert desk.echo()[1:] == [b"1", b"2"]
    assert peer.read_message() == [b"1", b"2"]


def test_ping_is_answered_while_nothing_is_read(engine: Engine, connect: Connect, raw: Raw) -> None:
    """The port of a broker that is stalled, or sends only, answers all the same."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    for port, kind in ((broker.backend, "PULL"), (broker.frontend, "PUSH")):
        peer = raw(endpoint(port)).shake_hands(kind)
        peer.send(ping(0, b"there?"))
        assert peer.read_command() == b"\x04PONGthere?"


def test_peer_that_promised_to_be_heard_and_is_silent_is_ended(desk: Desk, raw: Raw) -> None:
    peer = raw(desk.address).shake_hands("DEALER")
    peer.send(ping(1))
    desk.expect_end(peer, "silent")


def test_promise_is_kept_by_whatever_a_peer_sends(desk: Desk, raw: Raw) -> None:
    peer = raw(desk.address).shake_hands("DEALER")
    peer.send(ping(2))
    assert peer.read_command() == b"\x04PONG"
    for _ in range(10):
        peer.send_message(b"still here")
        desk.echo()
        assert not select.select([peer.socket], [], [], 0.03)[0] or peer.read_message() == [b"still here"]
    peer.send(ping(0))  # it takes its promise back
    while peer.read_frame().body != b"\x04PONG":
        pass
    assert not ended_by(desk.engine, desk.broker)


def test_silent_peer_is_asked_and_then_ended(engine: Engine, connect: Connect, raw: Raw) -> None:
    desk = Desk(engine, connect, heartbeat_ivl=50, heartbeat_timeout=100)
    peer = raw(desk.address).shake_hands("DEALER")
    assert peer.read_command() == b"\x04PING\x00\x00"
    desk.expect_end(peer, "silent")


def test_peer_that_answers_is_kept(engine: Engine, connect: Connect, raw: Raw) -> None:
    desk = Desk(engine, connect, heartbeat_ivl=20, heartbeat_timeout=2000, heartbeat_ttl=1500)
    peer = raw(desk.address).shake_hands("DEALER")
    for _ in range(10):
        assert peer.read_command() == b"\x04PING\x00\x0f"
        peer.send(command(b"PONG"))
    peer.send_message(b"still here")
    desk.echo()
    desk.check()  # libzmq's peers answer, too
    assert not ended_by(engine, desk.broker)


def test_heartbeats_do_not_ask_peers_that_do_not_know_them(engine: Engine, connect: Connect, raw: Raw) -> None:
    desk = Desk(engine, connect, heartbeat_ivl=20, heartbeat_timeout=40)
    older = raw(desk.address).shake_hands_2("DEALER")
    newer = raw(desk.address).shake_hands("DEALER")
    newer.read_to_the_end()
    desk.expect("silent")
    older.send_message(b"question")
    desk.echo()
    assert older.read_message() == [b"question"]


def test_libzmq_keeps_a_peer_that_is_only_read(engine: Engine, connect: Connect) -> None:
    """A PUSH port with heartbeats, whose consumers never send, and a consumer that asks for heartbeats itself."""
    options = {"heartbeat_ivl": 20, "heartbeat_timeout": 500}
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, backend_options=options)
    pull = connect(zmq.PULL, endpoint(broker.backend), heartbeat_ivl=20, heartbeat_timeout=500, heartbeat_ttl=500)
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    for number in range(20):
        assert not pull.poll(30)
        push.send(b"%d" % number)
        assert pull.recv() == b"%d" % number
    assert not ended_by(engine, broker, "backend")


# -- frames and commands that are wrong --------------------------------------------------------------------------------


WRONG = {
    "flags": (b"\x08\x01x", "bad_frame"),
    "all flags": (b"\xff\x01x", "bad_frame"),
    "command with more": (b"\x05\x01x", "bad_frame"),
    "negative length": (b"\x02" + b"\xff" * 8, "bad_frame"),
    "empty command": (frame(b"", zmtp.COMMAND), "bad_command"),
    "name beyond the body": (frame(b"\xf0PING", zmtp.COMMAND), "bad_command"),
    "PING without TTL": (command(b"PING"), "bad_command"),
    "PING with a long context": (ping(0, b"x" * 17), "bad_command"),
    "second READY": (ready("DEALER"), "bad_command"),
    "SUBSCRIBE at a ROUTER": (command(b"SUBSCRIBE", b"t"), "bad_command"),
    "ERROR": (command(b"ERROR", b"\x02no"), "refused"),
    "long command": (command(b"PONG", bytes(100_000)), "large_frame"),
    "second greeting": (greeting(), "bad_frame"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_ends_its_own_connection_alone(desk: Desk, raw: Raw, kind: str) -> None:
    sent, reason = WRONG[kind]
    peer = raw(desk.address).shake_hands("DEALER", b"wrong")
    peer.send(message(b"before") + frame(b"torn", zmtp.MORE) + sent + message(b"after"))
    assert desk.worker.recv_multipart() == [b"wrong", b"before"]  # what was whole is passed on
    desk.expect_end(peer, reason)


def test_unknown_commands_are_ignored(desk: Desk, raw: Raw) -> None:
    peer = raw(desk.address).shake_hands("DEALER", b"me")
    peer.send(command(b"DANCE") + message(b"1") + frame(b"torn", zmtp.MORE) + command(b"DANCE", b"on") + message(b"2"))
    assert desk.worker.recv_multipart() == [b"me", b"1"]
    assert desk.worker.recv_multipart() == [b"me", b"torn", b"2"]
    desk.check()


def test_message_that_is_cut_by_the_end_is_not_passed_on(desk: Desk, raw: Raw) -> None:
    whole = message(b"1", b"x" * 300, b"2")
    for end in (0, 1, 2, 3, 5, 12, 100, len(whole) - 1):
        peer = raw(desk.address).shake_hands("DEALER", b"me")
        peer.send(message(b"before") + whole[:end])
        peer.close()
        assert desk.worker.recv_multipart() == [b"me", b"before"]
        wait_until(lambda: peer_count(desk.engine, desk.broker) == 1)
    desk.expect("left", 8)


def test_frame_that_is_only_announced_takes_no_memory(desk: Desk, raw: Raw) -> None:
    peers = [raw(desk.address).shake_hands("DEALER") for _ in range(20)]
    for peer in peers:
        peer.send(b"\x02" + (1 << 62).to_bytes(8, "big") + b"x" * 1000)
    desk.check()
    for peer in peers:
        peer.close()
    desk.expect("left", 20)


@pytest.mark.parametrize("flags", [0, zmtp.MORE, zmtp.LONG])
def test_frames_larger_than_maxmsgsize_are_refused(engine: Engine, connect: Connect, raw: Raw, flags: int) -> None:
    desk = Desk(engine, connect, maxmsgsize=1000)
    peer = raw(desk.address).shake_hands("DEALER")
    peer.send_message(b"x" * 1000, b"y" * 1000)  # the limit is that of a frame, as in libzmq
    desk.echo()
    assert peer.read_message() == [b"x" * 1000, b"y" * 1000]
    peer.send(frame(b"x" * 1001, flags)[:20])  # it is refused before it has come
    desk.expect_end(peer, "large_frame")


def test_maxmsgsize_0_lets_empty_frames_pass(engine: Engine, connect: Connect, raw: Raw) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, frontend_options={"maxmsgsize": 0})
    pull = connect(zmq.PULL, endpoint(broker.backend))
    peer = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    peer.send_message(b"", b"")
    assert pull.recv_multipart() == [b"", b""]
    peer.send_message(b"x")
    peer.read_to_the_end()
    wait_until(lambda: ended_by(engine, broker) == {"large_frame": 1})


# -- routing ids -------------------------------------------------------------------------------------------------------


def test_second_peer_with_a_routing_id_is_refused(desk: Desk, raw: Raw) -> None:
    first = raw(desk.address).shake_hands("DEALER", b"me")
    second = raw(desk.address)
    second.send(greeting() + ready("DEALER", b"me") + message(b"never passed on"))
    desk.expect_end(second, "routing_id")
    first.send_message(b"question")
    assert desk.echo() == [b"me", b"question"]
    assert first.read_message() == [b"question"]


def test_second_peer_with_a_routing_id_takes_over_if_it_may(engine: Engine, connect: Connect, raw: Raw) -> None:
    desk = Desk(engine, connect, router_handover=1)
    first = raw(desk.address).shake_hands("DEALER", b"me")
    first.send_message(b"first")
    request = desk.worker.recv_multipart()
    second = raw(desk.address).shake_hands("DEALER", b"me")
    desk.expect_end(first, "routing_id")
    desk.worker.send_multipart(request)
    assert second.read_message() == [b"first"]
    second.send_message(b"second")
    assert desk.echo() == [b"me", b"second"]
    assert second.read_message() == [b"second"]


@pytest.mark.parametrize("handover", [0, 1])
def test_peer_of_libzmq_comes_back_with_its_routing_id_while_the_old_connection_stands(
    engine: Engine, connect: Connect, raw: Raw, handover: int
) -> None:
    """Without `router_handover` it is let in as soon as the old connection is closed."""
    desk = Desk(engine, connect, router_handover=handover)
    old = raw(desk.address).shake_hands("DEALER", b"me")
    new = connect(zmq.DEALER, routing_id=b"me", reconnect_ivl=10)
    new.connect(desk.address)
    wait_until(lambda: ended_by(engine, desk.broker).get("routing_id"))
    old.close()
    new.send(b"question")
    assert desk.echo() == [b"me", b"question"]
    assert new.recv() == b"question"


@pytest.mark.parametrize("identity", [b"\0", b"\0\0\0\0\1", b"\0" * 255])
@pytest.mark.parametrize("version", [2, 3])
def test_routing_ids_that_begin_with_0_are_the_routers_own(desk: Desk, raw: Raw, version: int, identity: bytes) -> None:
    peer = raw(desk.address)
    peer.send(zmtp.greeting_2("DEALER", identity) if version == 2 else greeting() + ready("DEALER", identity))
    desk.expect_end(peer, "routing_id")


def test_routing_ids_of_every_size_are_told_apart(desk: Desk, raw: Raw) -> None:
    peers = {b"x" * size: raw(desk.address).shake_hands("DEALER", b"x" * size) for size in (1, 2, 4, 5, 100, 254, 255)}
    requests = []
    for peer in peers.values():
        peer.send_message(b"question")
        requests.append(desk.worker.recv_multipart())
    assert [request[0] for request in requests] == list(peers)
    for request in reversed(requests):
        desk.worker.send_multipart([request[0], b"answer to %d" % len(request[0])])
    for identity, peer in peers.items():
        assert peer.read_message() == [b"answer to %d" % len(identity)]


def test_maxframes_counts_a_routing_id(engine: Engine, connect: Connect, raw: Raw) -> None:
    broker = engine.add("q", replace(QUEUE, name="short", maxframes=3), frontend=ANY_PORT, backend=ANY_PORT)
    worker = connect(zmq.DEALER, endpoint(broker.backend))
    peer = raw(endpoint(broker.frontend)).shake_hands("DEALER", b"me")
    peer.send(message(b"1", b"2") + message(b"1", b"2", b"3") + message(*[b""] * 5000) + message(b"last"))
    assert [worker.recv_multipart(), worker.recv_multipart()] == [[b"me", b"1", b"2"], [b"me", b"last"]]
    assert flow_of(engine, "q").too_many_frames == 2
