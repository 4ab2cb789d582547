"""Limits for peers: what exceeds one is refused, counted and logged, and nothing happens to the others."""

import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, ConfigError, Engine, Limits
from pollbroker.pump.limits import BURST_FRAMES
from pollbroker.wire import native
from pollbroker.wire.streams import Listening
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect
from tests.support.wire_ports import peer_count
from tests.wire.tries import options_with, serve
from tests.wire.zmtp import Raw, command, connect_raw, greeting, message, ping, ready


def ended(engine: Engine, port: str = "frontend") -> dict[str, int]:
    return dict(engine.statistics().brokers["a"].ports[port].connections_ended)


def counts(engine: Engine, expected: dict[str, int]) -> bool:
    return ended(engine) == expected


def echoes(client: Any, worker: Any) -> bool:
    client.send_multipart([b"", b"question"])
    worker.send_multipart(worker.recv_multipart())
    return bool(client.recv_multipart() == [b"", b"question"])


def test_connections_beyond_the_limit_are_refused_until_others_have_gone(
    engine: Engine, connect: Connect, raw: Raw
) -> None:
    broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, limits=Limits(connections=2))
    client = connect(zmq.DEALER, endpoint(broker.frontend))
    worker = connect(zmq.DEALER, endpoint(broker.backend))
    assert echoes(client, worker)
    second = raw(endpoint(broker.frontend)).shake_hands("DEALER")
    for times in (1, 2, 3):
        raw(endpoint(broker.frontend)).read_to_the_end()
        wait_until(partial(counts, engine, {"connections": times}))
    assert echoes(client, worker)
    second.close()
    wait_until(lambda: ended(engine) == {"connections": 3, "left": 1})
    raw(endpoint(broker.frontend)).shake_hands("DEALER")


def test_handshakes_beyond_the_limit_are_refused(engine: Engine, connect: Connect, raw: Raw) -> None:
    broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, limits=Limits(handshakes=3))
    client = connect(zmq.DEALER, endpoint(broker.frontend))
    worker = connect(zmq.DEALER, endpoint(broker.backend))
    assert echoes(client, worker)
    silent = [raw(endpoint(broker.frontend)) for _ in range(3)]
    for peer in silent:
        peer.read(10)  # so that each was accepted
    raw(endpoint(broker.frontend)).read_to_the_end()
    wait_until(lambda: ended(engine) == {"connections": 1})
    assert echoes(client, worker)
    silent[0].close()
    wait_until(lambda: ended(engine) == {"connections": 1, "left": 1})
    raw(endpoint(broker.frontend)).shake_hands("DEALER")  # it no longer counts
    raw(endpoint(broker.frontend)).read(10)


def test_one_address_has_no_more_connections_than_its_limit(engine: Engine, raw: Raw) -> None:
    limits = Limits(connections_per_address=1)
    broker = engine.add("a", QUEUE, frontend="tcp://0.0.0.0:*", backend=ANY_PORT, limits=limits)
    port = endpoint(broker.frontend).rpartition(":")[2]
    raw(f"tcp://127.0.0.1:{port}").shake_hands("DEALER")
    raw(f"tcp://127.0.0.1:{port}").read_to_the_end()
    wait_until(lambda: peer_count(engine, broker) == 1)
    other = raw(f"tcp://127.0.0.2;127.0.0.1:{port}").shake_hands("DEALER")
    other.close()
    wait_until(lambda: ended(engine) == {"connections": 1, "left": 1})
    raw(f"tcp://127.0.0.2;127.0.0.1:{port}").shake_hands("DEALER")  # the first of it has gone


def test_connections_over_ipc_have_no_address(engine: Engine, raw: Raw, tmp_path: Path) -> None:
    limits = Limits(connections_per_address=1)
    broker = engine.add("a", QUEUE, frontend=f"ipc://{tmp_path}/a", backend=ANY_PORT, limits=limits)
    for _ in range(3):
        raw(endpoint(broker.frontend)).shake_hands("DEALER")
    assert not ended(engine)


def test_subscriptions_have_the_limits_that_are_given(engine: Engine, raw: Raw) -> None:
    limits = Limits(subscriptions=2, subscription_bytes=10)
    broker = engine.add("a", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT, limits=limits)
    many = raw(endpoint(broker.backend)).shake_hands("SUB")
    many.send(b"".join(command(b"SUBSCRIBE", b"%d" % number) for number in range(3)))
    many.read_to_the_end()
    long = raw(endpoint(broker.backend)).shake_hands("SUB")
    long.send(command(b"SUBSCRIBE", b"0123456789") + command(b"SUBSCRIBE", b"0123456789-"))
    long.read_to_the_end()
    wait_until(lambda: ended(engine, "backend") == {"subscriptions": 2})


def test_topic_that_is_subscribed_to_again_is_none_too_many(engine: Engine, raw: Raw) -> None:
    broker = engine.add("a", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT, limits=Limits(subscriptions=2))
    subscriber = raw(endpoint(broker.backend)).shake_hands("SUB")
    subscriber.send(b"".join(command(b"SUBSCRIBE", topic) for topic in (b"1", b"2", b"1")) + ping())
    assert subscriber.read_command().startswith(b"\x04PONG")
    subscriber.send(command(b"SUBSCRIBE", b"3"))
    subscriber.read_to_the_end()
    wait_until(lambda: ended(engine, "backend") == {"subscriptions": 1})


def test_what_a_peer_did_wrong_is_logged_with_its_address(
    engine: Engine, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    with caplog.at_level(logging.WARNING, "pollbroker"):
        for _ in range(5):
            peer = raw(endpoint(broker.frontend))
            peer.send(b"GET / HTTP/1.1\r\n\r\n")
            peer.read_to_the_end()
        wait_until(lambda: ended(engine) == {"not_zmtp": 5})
    first = caplog.messages[0]
    assert first.startswith("brokers.a.frontend: the connection of tcp://127.0.0.1:")
    assert first.endswith(" has ended: its greeting is not that of ZMTP 2 or 3")
    assert len(caplog.messages) < 5  # one a second


def test_wrong_that_follows_another_within_a_second_is_logged_when_the_second_is_over(
    engine: Engine, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing else happens until then that would wake the engine."""
    broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    with caplog.at_level(logging.WARNING, "pollbroker"):
        for port in (broker.frontend, broker.backend):
            peer = raw(endpoint(port))
            peer.send(b"GET / HTTP/1.1\r\n\r\n")
            peer.read_to_the_end()
        wait_until(lambda: len(caplog.messages) == 2)
    assert [message.split(":")[0] for message in caplog.messages] == ["brokers.a.frontend", "brokers.a.backend"]


def test_wrong_that_was_not_told_yet_is_told_at_the_end_of_its_port(port: tuple[native.Net, native.Port]) -> None:
    """With that of peers at other ports, which is counted with it."""
    net, other = port
    told: list[int] = []
    net.on_fault = lambda *what: told.append(what[3])
    first = native.Port(net, zmq.PULL)
    for one in (first, first, other):
        before = sum(one.ended_by.values())
        listening = Listening(one, "tcp://127.0.0.1:*", options_with())
        with connect_raw(listening.address) as peer:
            peer.send(b"GET / HTTP/1.1\r\n\r\n")
            wait_until(lambda: serve(net) or sum(one.ended_by.values()) > before)  # type: ignore[func-returns-value] # noqa: B023
        listening.close()
    other.close()
    first.close()
    assert sum(told) == 3


def test_what_has_ended_is_told_after_the_removal(engine: Engine, raw: Raw) -> None:
    broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    raw(endpoint(broker.frontend)).shake_hands("DEALER")
    wait_until(lambda: peer_count(engine, broker) == 1)
    assert broker.remove().ports["frontend"].connections_ended == {"closed": 1}


@pytest.mark.parametrize(
    "wrong", [{"connections": 0}, {"handshakes": -1}, {"subscriptions": "x"}, {"connections": None}]
)
def test_limit_that_is_no_whole_number_is_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"limits: {name} is"):
        Limits(**wrong)


def test_limits_make_auto_the_wire_and_are_refused_for_libzmq(
    make_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pollbroker.transports.AUTO_PREFERS", "libzmq")
    engine = make_engine()
    broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend="inproc://a", limits=Limits())
    assert {name: port.transport for name, port in broker.statistics().ports.items()} == {
        "frontend": "wire",
        "backend": "libzmq",
    }
    expected = r"brokers.b.frontend: transport 'libzmq': it has no limits; expected 'auto' or 'wire'"
    with pytest.raises(ConfigError, match=expected):
        engine.add("b", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, limits=Limits(), transport="libzmq")


def test_peers_that_have_left_count_until_what_they_have_sent_is_taken(
    engine: Engine, connect: Connect, raw: Raw
) -> None:
    """It takes memory, and there is no consumer."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, limits=Limits(connections=3))
    for number in range(3):
        with raw(endpoint(broker.frontend)).shake_hands("PUSH") as producer:
            producer.send_message(b"%d" % number)
        wait_until(lambda: ended(engine) == {"left": number + 1})  # noqa: B023 - it is called here
    raw(endpoint(broker.frontend)).read_to_the_end()
    wait_until(lambda: counts(engine, {"left": 3, "connections": 1}))
    pull = connect(zmq.PULL, endpoint(broker.backend))
    assert {pull.recv() for _ in range(3)} == {b"0", b"1", b"2"}
    raw(endpoint(broker.frontend)).shake_hands("PUSH").send_message(b"3")
    assert pull.recv() == b"3"


@pytest.mark.parametrize("by", ["connections", "connections_per_address"])
def test_peer_that_has_left_nothing_does_not_count(engine: Engine, connect: Connect, raw: Raw, by: str) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, limits=Limits(**{by: 1}))
    for number in range(5):
        with raw(endpoint(broker.frontend)).shake_hands("PUSH"):
            pass
        wait_until(lambda: counts(engine, {"left": number + 1}))  # noqa: B023 - it is called here


class _Flood(native.Stream):
    """A peer that sends the same again and again, without end."""

    def __init__(self, first: bytes, again: bytes) -> None:
        self.given = 0
        self._begin = greeting() + first
        self._again = again * ((1 << 20) // len(again))
        self._at = 0

    def read(self, count: int) -> bytes:
        first, self._begin = self._begin[:count], self._begin[count:]
        self.given += count
        if first:
            return first
        at, self._at = self._at, (self._at + count) % (len(self._again) // 2)
        return self._again[at : at + count]

    def write(self, given: bytes) -> int:
        return len(given)

    def close(self) -> None:
        pass


def test_commands_without_end_are_no_burst_without_end() -> None:
    """A flow that is moved in Python takes one message after the other, and none of them comes."""
    net = native.Net(lambda: 1.0)
    port = native.Port(net, zmq.PULL)
    stream = _Flood(ready("PUSH"), command(b"x"))
    stream.begin(port, 1)
    receiver = native.Receiver(port)
    for _ in range(2):  # the handshake, and what follows it
        stream.tell(native.Event.INPUT)
        net.serve()
    assert port.peer_count == 1
    receiver.burst_frames = stream.given = 0
    while receiver.burst_frames < BURST_FRAMES:
        assert receiver() == []
    assert stream.given <= 2 << 20
    port.close()
    assert net.alive == (0, 0, 0, 0)
    net.close()


def test_what_is_not_passed_on_costs_more_than_its_bytes() -> None:
    """A port that nobody reads obeys a part of a flood of subscriptions in each turn."""
    net = native.Net(lambda: 1.0)
    port = native.Port(net, zmq.PUB)
    stream = _Flood(ready("SUB"), message(b"\1x") + message(b"\0x"))
    stream.begin(port, 1)
    for _ in range(2):  # the handshake, and what follows it
        stream.tell(native.Event.INPUT)
        stream.given = 0
        net.serve()
    assert 0 < stream.given <= 256 << 10
    port.close()
    assert net.alive == (0, 0, 0, 0)
    net.close()


@pytest.mark.parametrize("transport", ["wire", "libzmq", "auto"])
@pytest.mark.parametrize("limits", [{"connections": 3}, {}, 5, 0, "x", [Limits()], Limits])
def test_only_limits_are_limits(engine: Engine, limits: Any, transport: str) -> None:
    """A table of a configuration's file becomes one. Here a mapping is a mistake."""
    with pytest.raises(ConfigError, match=rf"^brokers\.a\.limits: {re.escape(repr(limits))}: expected a Limits$"):
        engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, limits=limits, transport=transport)
    assert not engine.brokers
