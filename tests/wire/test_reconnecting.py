"""Ports that connect: again when the other side comes back, at its present address, and never after they are closed."""

import errno
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Engine
from pollbroker.wire import connecting, native
from pollbroker.wire.addresses import parse_connected
from pollbroker.wire.connecting import Connection
from pollbroker.wire.served import STREAM_OPTIONS
from pollbroker.wire.streams import Listening
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, address_of, bind, endpoint
from tests.support.deadline import wait_until
from tests.support.descriptors import descriptors, opened_since
from tests.support.threads import started_since
from tests.support.turns import makes_no_turns
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import ended_by, peer_count, peers_alive
from tests.wire.places import address_in
from tests.wire.zmtp import RawListener, command, connect_raw, greeting, message, ready

NOWHERE = "tcp://127.0.0.1:1"
"""Nobody listens there: the port is tcpmux's."""


def lookups() -> list[threading.Thread]:
    """The threads that look up names."""
    return [thread for thread in threading.enumerate() if thread.name == "pollbroker-resolve"]


# -- the other side comes back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["tcp", "ipc at a path", "ipc by an abstract name", "tcp of IPv6"])
def test_port_connects_again_when_the_other_side_comes_back(
    engine: Engine, connect: Connect, place: str, tmp_path: Path
) -> None:
    source, sink = connect(zmq.PUSH, sndhwm=0, ipv6=1), connect(zmq.PULL, ipv6=1)
    addresses = []
    for peer in (source, sink):
        peer.bind(address_in(place, tmp_path))
        addresses.append(address_of(peer))
    options = {"reconnect_ivl": 5}
    engine.add(
        "a", STREAMER, frontend=f">{addresses[0]}", backend=f">{addresses[1]}",
        frontend_options=options, backend_options=options,
    )  # fmt: skip
    broker = engine.brokers["a"]
    for number in range(5):
        for text in (b"%d" % number, b"again"):
            source.send(text)
            assert sink.recv() == text
        for port, kind in (("frontend", zmq.PUSH), ("backend", zmq.PULL)):
            old = source if port == "frontend" else sink
            address = address_of(old)
            old.close()
            wait_until(lambda p=port: peer_count(engine, broker, p) == 0)  # type: ignore[misc]
            new = connect(kind, ipv6=1)
            wait_until(lambda s=new, a=address: _can_bind(s, a))  # type: ignore[misc]
            source, sink = (new, sink) if port == "frontend" else (source, new)
        wait_until(lambda: peer_count(engine, broker, "frontend") == peer_count(engine, broker, "backend") == 1)
    flow = flow_of(engine, "a")
    assert (flow.received, flow.sent, flow.dropped) == (10, 10, 0)


def _can_bind(peer: Any, address: str) -> bool:
    """Bind, if libzmq has closed the old socket already."""
    try:
        peer.bind(address)
    except zmq.ZMQError:
        return False
    return True


def test_port_connects_to_what_comes_later(engine: Engine, connect: Connect, tmp_path: Path) -> None:
    path = f"ipc://{tmp_path}/later"
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=f">{path}", backend_options={"reconnect_ivl": 5})
    push = connect(zmq.PUSH, endpoint(engine.brokers["a"].frontend))
    push.send(b"waits")
    wait_until(lambda: peer_count(engine, engine.brokers["a"]) == 1)
    pull = connect(zmq.PULL)
    pull.bind(path)
    assert pull.recv() == b"waits"


def test_messages_for_the_other_side_wait_until_it_is_back(engine: Engine, connect: Connect) -> None:
    with RawListener() as listener:
        broker = engine.add(
            "a", STREAMER, frontend=ANY_PORT, backend=f">{listener.address}", backend_options={"reconnect_ivl": 5}
        )
        push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0)
        sent, received = 0, 0
        for _ in range(10):
            with listener.accept() as consumer:
                consumer.shake_hands("PULL")
                for _ in range(5):
                    push.send(b"%d" % sent)
                    sent += 1
                    assert int(consumer.read_message()[0]) == received
                    received += 1
                consumer.close()
                push.send(b"%d" % sent)  # before or after the port knows that the consumer has gone
                sent += 1
                wait_until(lambda: peer_count(engine, broker, "backend") == 0)
                # If the kernel had taken it before that, it is lost, and counted as sent.
                lost = flow_of(engine, "a").sent - received
                assert lost in (0, 1)
                received += lost
            if not lost:
                with listener.accept() as consumer:
                    consumer.shake_hands("PULL")
                    assert int(consumer.read_message()[0]) == received
                    received += 1


def test_one_of_several_endpoints_is_away(engine: Engine, connect: Connect) -> None:
    workers = [connect(zmq.REP) for _ in range(2)]
    addresses = [bind(worker) for worker in workers]
    broker = engine.add(
        "q", QUEUE, frontend=ANY_PORT, backend=[f">{NOWHERE}", *(f">{address}" for address in addresses)],
        backend_options={"reconnect_ivl": 5},
    )  # fmt: skip
    wait_until(lambda: peer_count(engine, broker, "backend") == 2)
    client = connect(zmq.REQ, endpoint(broker.frontend))
    for number in range(4):
        client.send(b"%d" % number)
        worker = workers[number % 2] if workers[number % 2].poll(100) else workers[1 - number % 2]
        worker.send(worker.recv())
        assert client.recv() == b"%d" % number


def test_source_address_is_that_of_the_connection(engine: Engine, connect: Connect) -> None:
    with RawListener() as listener:
        host = listener.address.removeprefix("tcp://")
        engine.add("a", STREAMER, frontend=f">tcp://127.0.0.1:0;{host}", backend=ANY_PORT)
        with listener.accept() as producer:
            assert producer.socket.getpeername()[0] == "127.0.0.1"
            producer.shake_hands("PUSH")
            pull = connect(zmq.PULL, endpoint(engine.brokers["a"].backend))
            producer.send_message(b"1")
            assert pull.recv() == b"1"


def test_listener_that_says_nothing_is_left_after_the_handshake_interval(engine: Engine) -> None:
    options = {"reconnect_ivl": 5, "handshake_ivl": 50}
    with RawListener() as listener:
        broker = engine.add("a", STREAMER, frontend=f">{listener.address}", backend=ANY_PORT, frontend_options=options)
        for _ in range(3):
            with listener.accept() as silent:
                silent.read_to_the_end()
        wait_until(lambda: ended_by(engine, broker).get("slow_handshake", 0) >= 3)


def test_reconnect_ivl_of_minus_1_means_never(engine: Engine) -> None:
    with RawListener() as listener:
        broker = engine.add(
            "a", STREAMER, frontend=f">{listener.address}", backend=ANY_PORT, frontend_options={"reconnect_ivl": -1}
        )
        with listener.accept() as peer:
            peer.shake_hands("PUSH")
        wait_until(lambda: ended_by(engine, broker) == {"left": 1})
        assert makes_no_turns(engine)
        assert not select.select([listener.socket], [], [], 0.05)[0]


# -- when it tries again -----------------------------------------------------------------------------------------------


class Waits:
    """The times of a loop that never come, unless a test says so."""

    def __init__(self) -> None:
        self.delays_s: list[float] = []
        self.calls: list[Callable[[], None]] = []

    def call_later(self, delay_s: float, call: Callable[[], None], /) -> "Waits":
        self.delays_s.append(delay_s)
        self.calls.append(call)
        return self

    def call_soon(self, call: Callable[[], None], /) -> None:
        self.calls.append(call)

    def cancel(self) -> None:
        self.calls.clear()

    def come(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


def options_with(**options: int) -> dict[str, int]:
    return dict(STREAM_OPTIONS) | options


def serve(net: native.Net) -> None:
    for call in net.serve():
        call()


@pytest.mark.parametrize(
    ("options", "expected_ms"),
    [
        ({"reconnect_ivl": 100}, [100] * 6),
        ({"reconnect_ivl": 100, "reconnect_ivl_max": 1000}, [100, 200, 400, 800, 1000, 1000]),
        ({"reconnect_ivl": 100, "reconnect_ivl_max": 100}, [100] * 6),
        ({"reconnect_ivl": 100, "reconnect_ivl_max": 50}, [100] * 6),
        ({"reconnect_ivl": 0}, [10] * 6),
        ({"reconnect_ivl": 0, "reconnect_ivl_max": 40}, [10, 20, 40, 40, 40, 40]),
    ],
)
def test_waits_between_tries_grow_up_to_the_maximum(
    port: tuple[native.Net, native.Port], options: dict[str, int], expected_ms: list[int]
) -> None:
    net, pull = port
    waits = Waits()
    connection = Connection(pull, NOWHERE, options_with(**options), waits)
    for count in range(1, 1 + len(expected_ms)):
        wait_until(lambda n=count: serve(net) or len(waits.delays_s) == n)  # type: ignore[misc, func-returns-value]
        waits.come()
    for delay_s, ms in zip(waits.delays_s, expected_ms, strict=True):
        assert 1.0 <= delay_s * 1000 / ms <= 1.25
    connection.close()


def test_wait_is_short_again_after_a_connection(port: tuple[native.Net, native.Port]) -> None:
    net, pull = port
    waits = Waits()
    with RawListener() as listener:
        number = listener.port
    connection = Connection(
        pull, f"tcp://127.0.0.1:{number}", options_with(reconnect_ivl=100, reconnect_ivl_max=10_000), waits
    )
    for count in range(1, 5):
        wait_until(lambda n=count: serve(net) or len(waits.delays_s) == n)  # type: ignore[misc, func-returns-value]
        if count < 4:
            waits.come()
    assert waits.delays_s[-1] >= 0.8
    with RawListener(port=number) as listener:
        waits.come()
        with listener.accept() as peer:
            peer.send(greeting() + ready("PUSH"))
            wait_until(lambda: serve(net) or pull.peer_count == 1)  # type: ignore[func-returns-value]
        wait_until(lambda: serve(net) or len(waits.delays_s) == 5)  # type: ignore[func-returns-value]
    assert waits.delays_s[-1] <= 0.125
    connection.close()
    assert not waits.calls


REFUSALS = {
    "at once": b"",
    "not zmtp": b"HTTP/1.0 400 Bad Request\r\n\r\n" + bytes(64),
    "another mechanism": greeting(mechanism=b"CURVE"),
    "a type that does not fit": greeting() + ready("SUB"),
    "by ERROR": greeting() + command(b"ERROR", b"\x03not"),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_waits_grow_while_a_peer_accepts_and_then_refuses(port: tuple[native.Net, native.Port], refusal: bytes) -> None:
    """Each wait is followed by one connection."""
    net, pull = port
    waits = Waits()
    with RawListener() as listener:
        options = options_with(reconnect_ivl=100, reconnect_ivl_max=1000)
        connection = Connection(pull, listener.address, options, waits)
        for count in range(1, 7):
            with listener.accept() as peer:
                peer.send(refusal)
            wait_until(lambda n=count: serve(net) or len(waits.delays_s) == n)  # type: ignore[misc, func-returns-value]
            assert not select.select([listener.socket], [], [], 0)[0]
            waits.come()
        for delay_s, ms in zip(waits.delays_s, [100, 200, 400, 800, 1000, 1000], strict=True):
            assert 1.0 <= delay_s * 1000 / ms <= 1.25
        connection.close()


def test_peer_that_refuses_is_asked_no_more_often_than_the_interval_says(engine: Engine) -> None:
    with RawListener() as listener:
        options = {"reconnect_ivl": 20, "reconnect_ivl_max": 40}
        broker = engine.add("a", STREAMER, frontend=f">{listener.address}", backend=ANY_PORT, frontend_options=options)
        began_s = time.monotonic()
        for _ in range(5):
            with listener.accept() as peer:
                peer.send(greeting() + ready("SUB"))
                peer.read_to_the_end()
        assert time.monotonic() - began_s >= 0.02 + 3 * 0.04  # a lower bound, which a busy machine does not break
        wait_until(lambda: ended_by(engine, broker) == {"socket_type": 5})


def test_no_try_follows_the_close(port: tuple[native.Net, native.Port]) -> None:
    net, pull = port
    waits = Waits()
    before = descriptors()
    connection = Connection(pull, NOWHERE, options_with(), waits)
    connection.close()
    serve(net)
    assert not waits.calls
    again = Connection(pull, NOWHERE, options_with(), waits)
    wait_until(lambda: serve(net) or waits.calls)  # type: ignore[func-returns-value]
    (call,) = waits.calls
    again.close()
    call()  # as if the timer had been due already
    serve(net)
    assert not waits.calls
    assert not opened_since(before)


def test_connection_that_cannot_be_watched_any_more_is_made_again(port: tuple[native.Net, native.Port]) -> None:
    _, pull = port
    waits = Waits()
    connection = Connection(pull, NOWHERE, options_with(), waits)
    connection.suspend()
    assert connection.connector is not None
    connection.connector.close()
    closed: list[bool] = []

    class Lost:
        def resume(self) -> None:
            raise OSError(errno.ENOMEM, "no memory")

        def close(self) -> None:
            closed.append(True)

    connection._connector = Lost()  # type: ignore[assignment]
    connection.resume()
    assert closed
    assert len(waits.delays_s) == 1
    waits.come()  # which makes another
    connection.close()


@pytest.mark.parametrize("address", ["tcp://localhost:1", NOWHERE], ids=["no more threads", "no such interface"])
def test_attempt_that_cannot_be_made_is_followed_by_another(
    port: tuple[native.Net, native.Port], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "away") if address == NOWHERE else RuntimeError("no more threads")

    net, pull = port
    waits = Waits()
    connection = Connection(pull, NOWHERE, options_with(reconnect_ivl=100), waits)
    connection.address = address
    wait_until(lambda: serve(net) or waits.calls)  # type: ignore[func-returns-value]
    with monkeypatch.context() as failing:
        failing.setattr(threading.Thread, "start", fail)
        failing.setattr(connecting, "parse_connected", fail)
        waits.come()
    _, delay_s = waits.delays_s
    assert 0.1 <= delay_s <= 0.125
    waits.come()
    wait_until(lambda: connection.connector or waits.calls)
    connection.close()
    wait_until(lambda: not lookups())


def test_listener_that_cannot_be_copied_leaves_no_descriptor(port: tuple[native.Net, native.Port]) -> None:
    _, pull = port
    before = descriptors()
    reader, writer = os.pipe()
    with pytest.raises(OSError, match=r"not a socket|non-socket"):
        Listening(pull, "tcp://127.0.0.1:1", options_with(use_fd=reader, backlog=1))
    for one in (reader, writer):
        os.close(one)
    assert not opened_since(before)


# -- names -------------------------------------------------------------------------------------------------------------


class Names:
    """Takes the place of the system's names: `broker.test` is where a test says, or nowhere."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port: int | None = None
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        ask_system = socket.getaddrinfo

        def getaddrinfo(host: Any, port: Any, *arguments: Any, **more: Any) -> Any:
            if host != "broker.test":
                return ask_system(host, port, *arguments, **more)
            self.asked += 1
            found = self.port
            assert self.may_answer.wait(10)
            if found is None:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", found))]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    made = Names(monkeypatch)
    yield made
    made.may_answer.set()
    wait_until(lambda: not lookups())


def test_name_is_looked_up_again_at_each_try(
    engine: Engine, connect: Connect, names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pollbroker"):
        broker = engine.add(
            "a", STREAMER, frontend=">tcp://broker.test:5555", backend=ANY_PORT, frontend_options={"reconnect_ivl": 5}
        )
        wait_until(lambda: names.asked > 3)
    assert any("broker.test does not resolve" in record.getMessage() for record in caplog.records)
    pull = connect(zmq.PULL, endpoint(broker.backend))
    for number in range(3):
        with RawListener() as listener:
            names.port = listener.port
            with listener.accept() as producer:
                producer.shake_hands("PUSH")
                producer.send_message(b"%d" % number)
                assert pull.recv() == b"%d" % number
    asked = names.asked
    wait_until(lambda: names.asked > asked)


def test_name_that_there_was_no_memory_to_look_up_is_looked_up_again(
    engine: Engine, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = parse_connected
    fails = [MemoryError, MemoryError]

    def fail_first(*arguments: Any, **more: Any) -> Any:
        if fails:
            raise fails.pop()
        return look_up(*arguments, **more)

    with RawListener() as listener:
        names.port = listener.port
        monkeypatch.setattr(connecting, "parse_connected", fail_first)
        engine.add(
            "a", STREAMER, frontend=">tcp://broker.test:5555", backend=ANY_PORT, frontend_options={"reconnect_ivl": 5}
        )
        listener.accept().shake_hands("PUSH").close()
    assert not fails


@pytest.mark.parametrize("resolves", [True, False])
def test_broker_is_removed_while_a_name_is_looked_up(engine: Engine, names: Names, resolves: bool) -> None:
    names.may_answer.clear()
    with RawListener() as listener:
        names.port = listener.port if resolves else None
        engine.add("a", STREAMER, frontend=">tcp://broker.test:5555", backend=ANY_PORT)
        wait_until(lambda: names.asked)
        before = engine.remove("a", timeout_s=0)
        assert before.state == "removed"
        names.may_answer.set()
        wait_until(lambda: not lookups())
        engine.statistics()  # a turn follows what the thread has left
        assert not select.select([listener.socket], [], [], 0.05)[0]
    assert engine.running
    assert engine.next_timer_s() is None


@pytest.mark.parametrize("resolves", [True, False])
def test_name_that_is_found_after_the_close_is_not_connected_to(
    port: tuple[native.Net, native.Port], names: Names, resolves: bool
) -> None:
    net, pull = port
    names.may_answer.clear()
    waits = Waits()
    with RawListener() as listener:
        names.port = listener.port if resolves else None
        connection = Connection(pull, "tcp://broker.test:5555", options_with(), waits)
        wait_until(lambda: names.asked)
        connection.close()
        names.may_answer.set()
        wait_until(lambda: waits.calls)
        waits.come()
        serve(net)
        assert not select.select([listener.socket], [], [], 0.02)[0]
    assert not waits.delays_s


def test_engine_is_closed_while_a_name_is_looked_up(make_engine: MakeEngine, names: Names) -> None:
    names.may_answer.clear()
    engine = make_engine()
    engine.start()
    engine.add("a", STREAMER, frontend=">tcp://broker.test:5555", backend=ANY_PORT)
    wait_until(lambda: names.asked)
    engine.close(timeout_s=0)
    names.may_answer.set()
    wait_until(lambda: not lookups())  # an exception in the thread would fail the test


def test_slow_name_does_not_hold_up_the_engine(engine: Engine, connect: Connect, names: Names) -> None:
    names.may_answer.clear()
    engine.add("slow", STREAMER, frontend=">tcp://broker.test:5555", backend=ANY_PORT)
    wait_until(lambda: names.asked)
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    push.send(b"passes")
    assert pull.recv() == b"passes"


def test_localhost_is_a_name(engine: Engine, connect: Connect) -> None:
    source = connect(zmq.PUSH)
    number = bind(source).rpartition(":")[2]
    broker = engine.add("a", STREAMER, frontend=f">tcp://localhost:{number}", backend=ANY_PORT)
    pull = connect(zmq.PULL, endpoint(broker.backend))
    source.send(b"passes")
    assert pull.recv() == b"passes"


# -- what it costs, and what is left -----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [NOWHERE, "ipc:///nowhere/at/all", "ipc://@pollbroker-nobody"])
def test_connecting_to_nowhere_costs_nothing_between_the_tries(engine: Engine, address: str) -> None:
    engine.add("a", STREAMER, frontend=f">{address}", backend=ANY_PORT, frontend_options={"reconnect_ivl": 60_000})
    wait_until(lambda: makes_no_turns(engine))
    assert peers_alive(engine) == 0


def test_tries_do_not_add_up(engine: Engine) -> None:
    """Each try takes a few turns, and leaves no descriptor, thread or timer behind."""
    options = {"reconnect_ivl": 1}
    engine.add("a", STREAMER, frontend=[f">{NOWHERE}"] * 5, backend=">ipc:///nowhere/at/all",
               frontend_options=options, backend_options=options)  # fmt: skip
    engine.add("b", STREAMER, frontend=">tcp://localhost:1", backend=ANY_PORT, frontend_options=options)
    most = []
    for _ in range(20):
        turns = engine.statistics().turns
        wait_until(lambda t=turns: engine.statistics().turns > t + 10)  # type: ignore[misc]
        most.append(len(descriptors()))
    assert max(most) - min(most) < 20
    for name in ("a", "b"):
        engine.remove(name)
    wait_until(lambda: not lookups())
    wait_until(lambda: makes_no_turns(engine))
    assert engine.next_timer_s() is None


def test_removed_brokers_leave_no_descriptor_and_no_thread(engine: Engine, connect: Connect) -> None:
    engine.add("first", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)  # what the engine itself needs is open then
    engine.remove("first")
    wait_until(lambda: not lookups())
    threads = threading.enumerate()
    before = descriptors()
    with RawListener() as listener:
        for number in range(10):
            broker = engine.add(
                "a", STREAMER,
                frontend=[f">{NOWHERE}", f">{listener.address}", ">tcp://localhost:1", ANY_PORT],
                backend=[">ipc:///nowhere/at/all", "ipc://*"], frontend_options={"reconnect_ivl": 1},
            )  # fmt: skip
            with listener.accept() as peer:
                if number % 2:
                    peer.shake_hands("PUSH")
                assert broker.state == "running"
                engine.remove("a", timeout_s=0)
                peer.read_to_the_end()
    wait_until(lambda: not lookups())
    wait_until(lambda: not opened_since(before))
    assert not started_since(threads)


def test_closed_engine_leaves_no_descriptor(make_engine: MakeEngine, context: Any) -> None:
    def once() -> None:
        engine = make_engine(context)
        engine.start()
        engine.add("a", STREAMER, frontend=[ANY_PORT, f">{NOWHERE}"], backend="ipc://*")
        engine.close()
        wait_until(lambda: not lookups())

    once()
    before = descriptors()
    for _ in range(3):
        once()
    wait_until(lambda: not opened_since(before))


@pytest.mark.parametrize("why", ["stalled", "paused"])
@pytest.mark.parametrize("said", [b"", message(b"question"), message(bytes(50_000)), message(b"cut")[:4]], ids=len)
def test_clients_that_leave_a_broker_that_reads_nothing_cost_no_descriptor(
    engine: Engine, connect: Connect, why: str, said: bytes
) -> None:
    """Otherwise clients that ask a broker without workers again and again, each time from a new connection, would use
    up the descriptors. What they have asked is passed on all the same."""
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    if why == "paused":
        broker.pause()
    before = descriptors()
    for _ in range(30):
        with connect_raw(endpoint(broker.frontend)) as client:
            client.shake_hands("DEALER").send(said)
    wait_until(lambda: not opened_since(before))
    assert ended_by(engine, broker) == {"left": 30}
    if why == "paused":
        broker.resume()
    worker = connect(zmq.DEALER, endpoint(broker.backend))
    if len(said) > 4:
        for _ in range(30):
            assert message(*worker.recv_multipart()[1:]) == said
    assert not worker.poll(20)
    wait_until(lambda: peers_alive(engine) <= 2)


def test_port_of_a_broker_that_reads_nothing_connects_again(engine: Engine) -> None:
    with RawListener() as listener:
        broker = engine.add(
            "a", STREAMER, frontend=f">{listener.address}", backend=ANY_PORT, frontend_options={"reconnect_ivl": 5}
        )
        for number in range(3):
            with listener.accept() as producer:
                producer.shake_hands("PUSH")
                for _ in range(number):
                    producer.send_message(b"x" * 1000)
        assert flow_of(engine, "a").received == 0
        assert broker.state == "running"
