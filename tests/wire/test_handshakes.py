"""Handshakes with peers of every version of ZMTP: which succeed, which are refused, and which take too long."""

import select

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Engine
from tests.support.addresses import ANY_PORT, bind, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect
from tests.support.wire_ports import ended_by, peer_count, peers_alive
from tests.wire import zmtp
from tests.wire.desk import Desk
from tests.wire.zmtp import Ended, Raw, RawListener, command, frame, greeting, message, ping, ready

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
