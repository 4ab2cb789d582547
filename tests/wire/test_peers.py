"""Peers of older versions, peers that are slow, mistaken or hostile, and what becomes of their connections."""

import select
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Device, Engine, Route
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT, bind, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect, Socket
from tests.support.wire_ports import ended_by, peer_count, peers_alive
from tests.wire import zmtp
from tests.wire.zmtp import Ended, RawListener, RawPeer, command, frame, greeting, message, ping, ready

Raw = Callable[[str], RawPeer]


class Desk:
    """A QUEUE, with a client and a worker to whom nothing may happen."""

    def __init__(self, engine: Engine, connect: Connect, **options: Any) -> None:
        self.engine = engine
        self.broker = engine.add("desk", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, frontend_options=options)
        self.address = endpoint(self.broker.frontend)
        self.client: Socket = connect(zmq.DEALER, self.address)
        self.worker: Socket = connect(zmq.DEALER, endpoint(self.broker.backend))
        self.check()

    def check(self) -> None:
        """Requests and replies pass."""
        for number in range(3):
            self.client.send_multipart([b"", b"%d" % number])
            self.worker.send_multipart(self.worker.recv_multipart())
            assert self.client.recv_multipart() == [b"", b"%d" % number]

    def echo(self) -> list[bytes]:
        """Let the worker answer the next request, with what was asked: the request."""
        request = self.worker.recv_multipart()
        self.worker.send_multipart(request)
        return request

    def expect_end(self, peer: RawPeer, reason: str, times: int = 1) -> None:
        """The connection of this peer is ended, for this reason; and the others go on."""
        peer.read_to_the_end()
        self.expect(reason, times)

    def expect_any_end(self, times: int) -> None:
        """Peers have gone. If they had not read everything, the kernel has told of an error."""
        wait_until(lambda: sum(ended_by(self.engine, self.broker).values()) == times)
        assert set(ended_by(self.engine, self.broker)) <= {"left", "broken"}
        self.check()

    def expect(self, reason: str, times: int = 1) -> None:
        wait_until(lambda: ended_by(self.engine, self.broker) == {reason: times})
        self.check()
        assert all(balanced(flow) for flow in self.broker.statistics().flows.values())


@pytest.fixture
def desk(engine: Engine, connect: Connect) -> Desk:
    return Desk(engine, connect)


# -- versions of ZMTP --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", [None, b"", b"me", b"x" * 255])
@pytest.mark.parametrize("version", ["3.1", "3.0", "2.0"])
def test_client_of_any_version_is_answered(desk: Desk, raw: Raw, version: str, identity: bytes | None) -> None:
    client = raw(desk.address)
    if version == "2.0":
        client.shake_hands_2("DEALER", identity or b"")
    else:
        client.shake_hands("DEALER", identity, minor=int(version[-1]))
    for body in (b"", b"x", b"y" * 255, b"z" * 256, b"long" * 100_000):
        client.send_message(b"", body)
        request = desk.echo()
        assert request[1:] == [b"", body]
        if identity:
            assert request[0] == identity
        else:
            assert len(request[0]) == 5
            assert request[0][0] == 0
        assert client.read_message() == [b"", body]
    client.close()
    desk.expect("left")


def test_minor_version_of_the_future_is_served(desk: Desk, raw: Raw) -> None:
    client = raw(desk.address).shake_hands("DEALER", minor=7)
    client.send_message(b"question")
    desk.echo()
    assert client.read_message() == [b"question"]


def test_major_version_of_the_future_is_served(desk: Desk, raw: Raw) -> None:
    client = raw(desk.address)
    client.send(greeting(0, major=4) + ready("DEALER"))
    assert client.read(64)[10] == 3
    client.read_frame()
    client.send_message(b"question")
    desk.echo()
    assert client.read_message() == [b"question"]


def test_greeting_begins_before_the_peer_has_said_anything(desk: Desk, raw: Raw) -> None:
    client = raw(desk.address)
    assert client.read(11) == zmtp.SIGNATURE + b"\x03"
    client.send(greeting())
    assert client.read(53) == greeting(1)[11:]
    assert client.read_command() == b"\x05READY" + zmtp.properties((b"Socket-Type", b"ROUTER"), (b"Identity", b""))


def test_port_tells_its_routing_id(engine: Engine, raw: Raw) -> None:
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, backend_options={"routing_id": b"the desk"})
    worker = raw(endpoint(broker.backend))
    worker.send(greeting() + ready("ROUTER"))
    worker.read(64)
    assert worker.read_command().endswith(zmtp.properties((b"Identity", b"the desk")))
    older = raw(endpoint(broker.backend))
    older.send(zmtp.greeting_2("ROUTER"))
    assert older.read(12) == zmtp.SIGNATURE + bytes([3, zmtp.TYPES.index("DEALER")])
    assert older.read_frame().body == b"the desk"


@pytest.mark.parametrize("minor", [0, 1])
def test_subscriptions_are_commands_in_3_1_and_messages_before(engine: Engine, raw: Raw, minor: int) -> None:
    broker = engine.add("f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    publisher = raw(endpoint(broker.frontend)).shake_hands("PUB", minor=minor)
    subscriber = raw(endpoint(broker.backend)).shake_hands("SUB", minor=minor)
    for topic in (b"", b"news", b"x" * 300):
        subscriber.send(command(b"SUBSCRIBE", topic) if minor else message(b"\x01" + topic))
        told = publisher.read_frame()
        assert told.is_command == bool(minor)
        assert told.body == (b"\x09SUBSCRIBE" if minor else b"\x01") + topic
        publisher.send_message(topic + b"!", b"body")
        assert subscriber.read_message() == [topic + b"!", b"body"]
        subscriber.send(command(b"CANCEL", topic) if minor else message(b"\x00" + topic))
        assert publisher.read_frame().body == (b"\x06CANCEL" if minor else b"\x00") + topic


def test_subscriber_of_zmtp_2(engine: Engine, raw: Raw) -> None:
    broker = engine.add("f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    publisher = raw(endpoint(broker.frontend)).shake_hands_2("PUB")
    subscriber = raw(endpoint(broker.backend)).shake_hands_2("SUB")
    subscriber.send_message(b"\x01t")
    assert publisher.read_message() == [b"\x01t"]
    publisher.send_message(b"unwanted")
    publisher.send_message(b"topic", b"1")
    assert subscriber.read_message() == [b"topic", b"1"]


def test_commands_in_an_older_version_do_no_harm(desk: Desk, raw: Raw) -> None:
    """A PING is answered whatever the version."""
    client = raw(desk.address).shake_hands("DEALER", minor=0)
    client.send(ping(0, b"now"))
    assert client.read_command() == b"\x04PONGnow"


# -- handshakes that do not succeed ------------------------------------------------------------------------------------


GARBAGE = {
    "HTTP": b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c4030399"),
    "zeros": bytes(100),
    "ZMTP 1": b"\x01\x00\x06\x00hello",
    "almost a signature": b"\xff" + bytes(8) + b"\x7e" + bytes(54),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_no_zmtp_is_refused(desk: Desk, raw: Raw, kind: str) -> None:
    peer = raw(desk.address)
    peer.send(GARBAGE[kind])
    desk.expect_end(peer, "not_zmtp")


@pytest.mark.parametrize("revision", [0, 3])
def test_version_that_is_not_known_is_refused(desk: Desk, raw: Raw, revision: int) -> None:
    peer = raw(desk.address)
    peer.send(zmtp.SIGNATURE + bytes([revision]) + b"\xee" * 100)
    desk.expect_end(peer, "mechanism" if revision == 3 else "not_zmtp")


@pytest.mark.parametrize("mechanism", [b"CURVE", b"PLAIN", b"", b"NULLER", b"null"])
def test_other_mechanism_is_refused(desk: Desk, raw: Raw, mechanism: bytes) -> None:
    peer = raw(desk.address)
    peer.send(greeting(mechanism=mechanism) + ready("DEALER"))
    desk.expect_end(peer, "mechanism")


@pytest.mark.parametrize("kind", ["PUSH", "SUB", "REP", "PAIR", "STREAM", "", "dealer"])
def test_type_that_does_not_fit_is_refused(desk: Desk, raw: Raw, kind: str) -> None:
    peer = raw(desk.address)
    peer.send(greeting() + ready(kind))
    desk.expect_end(peer, "socket_type")


def test_type_that_does_not_fit_is_refused_in_zmtp_2(desk: Desk, raw: Raw) -> None:
    peer = raw(desk.address)
    peer.send(zmtp.greeting_2("PUSH"))
    desk.expect_end(peer, "socket_type")
    other = raw(desk.address)
    other.send(zmtp.SIGNATURE + b"\x01\xc8" + frame(b""))
    desk.expect_end(other, "socket_type", times=2)


def test_peer_of_libzmq_of_a_wrong_type_is_refused(engine: Engine, connect: Connect, desk: Desk) -> None:
    """Both sides look at the type of the other, and either of them may be the first to close the connection."""
    connect(zmq.PUSH, desk.address)
    wait_until(lambda: ended_by(engine, desk.broker))
    desk.check()


NO_READY = {
    "no properties": (command(b"READY"), "socket_type"),
    "cut in a name": (command(b"READY", b"\x0bSocket"), "bad_command"),
    "cut in a length": (command(b"READY", b"\x0bSocket-Type\x00\x00"), "bad_command"),
    "cut in a value": (command(b"READY", b"\x0bSocket-Type\x00\x00\x00\x06DEAL"), "bad_command"),
    "value of 4 GiB": (command(b"READY", b"\x0bSocket-Type\xff\xff\xff\xffDEALER"), "bad_command"),
    "long identity": (ready("DEALER", b"x" * 256), "bad_command"),
    "another command": (command(b"HELLO"), "bad_command"),
    "SUBSCRIBE": (command(b"SUBSCRIBE", b"x"), "bad_command"),
    "PING": (ping(), "bad_command"),
    "message": (message(b"x"), "bad_frame"),
    "no flags": (b"\xff\x01x", "bad_frame"),
    "long command": (command(b"READY", bytes(100_000)), "bad_command"),
    "announced command": (b"\x06" + b"\x7f" * 8, "bad_command"),
    "negative length": (b"\x06" + b"\xff" * 8, "bad_frame"),
    "ERROR": (command(b"ERROR", b"\x03why"), "refused"),
}


@pytest.mark.parametrize("kind", NO_READY)
def test_handshake_without_a_ready_is_refused(desk: Desk, raw: Raw, kind: str) -> None:
    sent, reason = NO_READY[kind]
    peer = raw(desk.address)
    peer.send(greeting() + sent)
    desk.expect_end(peer, reason)


def test_properties_of_others_are_ignored(desk: Desk, raw: Raw) -> None:
    peer = raw(desk.address)
    more = zmtp.properties((b"X-Colour", b"blue" * 100), (b"socket-type", b"DEALER"), (b"IDENTITY", b"me"), (b"X", b""))
    peer.send(greeting() + command(b"READY", more) + message(b"question"))
    assert desk.echo() == [b"me", b"question"]


# -- handshakes that take their time -----------------------------------------------------------------------------------


def test_handshake_and_messages_may_come_at_once_or_byte_by_byte(desk: Desk, raw: Raw) -> None:
    everything = greeting() + ready("DEALER", b"me") + message(b"1", b"", b"x" * 300) + ping(0, b"?") + message(b"2")
    expected = [[b"me", b"1", b"", b"x" * 300], [b"me", b"2"]]
    for pieces in ([everything], zmtp.byte_by_byte(everything), zmtp.cut(everything, range(0, len(everything), 7))):
        peer = raw(desk.address)
        for piece in pieces:
            peer.send(piece)
        assert [desk.echo(), desk.echo()] == expected
        peer.close()
        wait_until(lambda: peer_count(desk.engine, desk.broker) == 1)


def test_handshake_of_a_byte_now_and_then_is_ended(engine: Engine, connect: Connect, raw: Raw) -> None:
    desk = Desk(engine, connect, handshake_ivl=150)
    peer = raw(desk.address)
    peer.read(11)
    try:
        for byte in zmtp.byte_by_byte(greeting()):
            peer.send(byte)
            if select.select([peer.socket], [], [], 0.02)[0]:
                peer.read(1)
    except (Ended, ConnectionError):
        pass
    desk.expect("slow_handshake")


@pytest.mark.parametrize(
    "said", [b"", b"\xff", greeting()[:40], greeting(), greeting() + ready("DEALER")[:10]], ids=len
)
def test_handshake_that_stops_anywhere_is_ended(engine: Engine, connect: Connect, raw: Raw, said: bytes) -> None:
    desk = Desk(engine, connect, handshake_ivl=50)
    peer = raw(desk.address)
    peer.send(said)
    desk.expect_end(peer, "slow_handshake")


def test_hundreds_of_half_open_connections(engine: Engine, connect: Connect, raw: Raw) -> None:
    desk = Desk(engine, connect, handshake_ivl=400)
    peers = [raw(desk.address) for _ in range(300)]
    for number, peer in enumerate(peers):
        peer.send(greeting()[: number % 64])
    desk.check()
    for peer in peers:
        peer.read_to_the_end()
    desk.expect("slow_handshake", 300)
    assert peers_alive(engine) <= 3  # the last one may be forgotten with the next event


def test_connection_that_is_closed_during_its_handshake(desk: Desk, raw: Raw) -> None:
    for count in (0, 1, 10, 11, 63, 64, 70):
        peer = raw(desk.address)
        peer.send((greeting() + ready("DEALER"))[:count])
        peer.close()
    desk.expect_any_end(7)


def test_connections_that_are_reset(desk: Desk, raw: Raw) -> None:
    for number in range(5):
        peer = raw(desk.address).shake_hands("DEALER")
        peer.send(message(b"x" * 100_000)[: number * 25_000])
        peer.reset()
    desk.expect_any_end(5)


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


# -- subscriptions -----------------------------------------------------------------------------------------------------


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


# -- ports that connect ------------------------------------------------------------------------------------------------


def test_port_that_connects_meets_a_listener_that_is_no_zmtp(engine: Engine, connect: Connect) -> None:
    """It tries again and again, and its other connection goes on."""
    source = connect(zmq.PUSH, sndhwm=0)
    address = bind(source)
    with RawListener() as listener:
        broker = engine.add(
            "a", STREAMER, frontend=[f">{address}", f">{listener.address}"], backend=ANY_PORT,
            frontend_options={"reconnect_ivl": 5},
        )  # fmt: skip
        pull = connect(zmq.PULL, endpoint(broker.backend))
        for number in range(5):
            with listener.accept() as wrong:
                wrong.send(GARBAGE["HTTP"])
                wrong.read_to_the_end()
            source.send(b"%d" % number)
            assert pull.recv() == b"%d" % number
        wait_until(lambda: ended_by(engine, broker) == {"not_zmtp": 5})
        with listener.accept() as right:
            right.shake_hands("PUSH")
            right.send_message(b"from the listener")
            assert pull.recv() == b"from the listener"


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


def test_maxframes_counts_a_routing_id(engine: Engine, connect: Connect, raw: Raw) -> None:
    broker = engine.add("q", replace(QUEUE, name="short", maxframes=3), frontend=ANY_PORT, backend=ANY_PORT)
    worker = connect(zmq.DEALER, endpoint(broker.backend))
    peer = raw(endpoint(broker.frontend)).shake_hands("DEALER", b"me")
    peer.send(message(b"1", b"2") + message(b"1", b"2", b"3") + message(*[b""] * 5000) + message(b"last"))
    assert [worker.recv_multipart(), worker.recv_multipart()] == [[b"me", b"1", b"2"], [b"me", b"last"]]
    assert flow_of(engine, "q").too_many_frames == 2
