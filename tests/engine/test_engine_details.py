"""The engine, closer up: what it says, when it sleeps, and what it does where one thing crosses another.

A clock that stands still, and a poller that tells what it was asked, take the place of time.
"""

import contextlib
import logging
import os
import re
import select
import signal
import socket as net
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, ConfigError, Device, EndpointError, Engine, EngineError, Route
from pollbroker.broker import working_broker
from pollbroker.calls import Calls
from pollbroker.opening import ADDRESS_RELEASE_S, ReleasedAddresses
from pollbroker.pump import choose_implementation
from pollbroker.statistics import FlowStatistics
from pollbroker.timers import Timers
from pollbroker.working import BrokerState
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.types import Connect, MakeEngine, Socket

ANY = "tcp://127.0.0.1:*"


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class CountedPoller:
    """A `zmq.Poller` that tells how long it was asked to wait."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self.register = self._poller.register
        self.unregister = self._poller.unregister
        self.asked: list[int | None] = []

    def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
        self.asked.append(timeout)
        return self._poller.poll(0)


@contextlib.contextmanager
def apart(call: Callable[[], object]) -> Iterator[threading.Thread]:
    """A call in a thread of its own, which is to have returned at the end of the block."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    yield thread
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def within_a_turn(engine: Engine, call: Callable[[], Any]) -> Any:
    """What a call gives, or raises, in a turn of an engine that nobody runs."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 - raised below
            results.append(error)

    engine.call_soon_threadsafe(run)
    engine.step()
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result


def flow_of(engine: Engine, name: str, source: str = "frontend") -> FlowStatistics:
    return engine.statistics().brokers[name].flows[source]


def rest(engine: Engine) -> None:
    wait_until(lambda: not engine.step())


def holding(engine: Engine, connect: Connect, name: str = "a") -> str:
    """Add a streamer that holds a message, for want of consumers; where they may connect."""
    broker = engine.add(name, STREAMER, frontend=ANY, backend=ANY)
    connect(zmq.PUSH, broker.frontend.endpoint).send(b"held")
    wait_until(lambda: flow_of(engine, name).held and flow_of(engine, name).state == "stalled", engine=engine)
    return broker.backend.endpoint


# -- time -------------------------------------------------------------------------------------------------------------


def test_step_sleeps_as_long_as_it_is_told_and_no_timer_is_due(make_engine: MakeEngine) -> None:
    clock, poller = Clock(), CountedPoller()
    engine = make_engine(poller=poller, clock=clock)
    rest(engine)

    def asked(*timeout_ms: int | None) -> int | None:
        poller.asked.clear()
        engine.step(*(None if one is None else one / 1000 for one in timeout_ms))
        (sleep_ms,) = poller.asked
        return sleep_ms

    assert [asked(), asked(0), asked(5), asked(None)] == [0, 0, 5, None]
    engine.call_later(1e9, print)
    assert [asked(7), asked(None)] == [7, 86_400_000]
    engine.call_later(3.0, print)
    assert [asked(), asked(2999), asked(3000), asked(3001), asked(None)] == [0, 2999, 3000, 3000, 3000]
    soon = engine.call_later(0.0011, print)
    assert [asked(1), asked(5), asked(None)] == [1, 2, 2]  # not a moment before it is due
    soon.cancel()
    assert asked(None) == 3000
    clock.now_s += 4.0
    assert [asked(None), asked(9)] == [0, 9]


def test_step_does_not_sleep_with_work_left(make_engine: MakeEngine) -> None:
    poller = CountedPoller()
    engine = make_engine(poller=poller)
    engine.add("a", STREAMER, frontend="inproc://in", backend="inproc://out")
    assert engine.next_timer_s() == 0.0
    poller.asked.clear()
    engine.step(1.0)
    assert poller.asked == [0]
    rest(engine)
    assert engine.next_timer_s() is None


def test_next_timer_is_told_in_seconds(make_engine: MakeEngine) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    assert engine.next_timer_s() is None
    engine.call_later(3.0, print)
    assert engine.next_timer_s() == 3.0
    clock.now_s += 5.0
    assert engine.next_timer_s() == 0.0


def test_stopped_engine_makes_one_turn_that_does_not_sleep(make_engine: MakeEngine) -> None:
    poller = CountedPoller()
    engine = make_engine(poller=poller)
    rest(engine)
    poller.asked.clear()
    turns = engine.statistics().turns
    stopping = [engine.stopping]
    engine.stop()
    stopping.append(engine.stopping)
    engine.run()
    assert [*stopping, engine.stopping] == [False, True, False]
    assert (poller.asked, engine.statistics().turns) == ([0], turns + 1)


def test_run_sleeps_in_its_first_turn_unless_it_was_stopped(make_engine: MakeEngine) -> None:
    class Stopping(CountedPoller):
        def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
            engine.stop()
            return super().poll(timeout)

    poller = Stopping()
    engine = make_engine(poller=poller)
    engine.run()
    assert poller.asked == [None]


# Whoever sleeps on the descriptor is told of work that a call has made, though nothing has happened at any socket.
def test_descriptor_tells_of_work_that_came_by_a_call(
    make_engine: MakeEngine, connect: Connect, context: zmq.Context[Socket]
) -> None:
    engine = make_engine(waiter="nested")
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    engine.pause("a")
    pull = context.socket(zmq.PULL)
    pull.bind("inproc://source")
    connect(zmq.PUSH, "inproc://source").send(b"x")
    assert pull.poll(DEADLINE_MS)  # settled: its own descriptor is silent from here on

    def quiet() -> bool:
        rest(engine)
        return not select.select([engine.fileno()], [], [], 0)[0]

    def told() -> bool:
        return bool(select.select([engine.fileno()], [], [], 0)[0])

    wait_until(quiet)
    engine.statistics()
    assert not told()
    engine.resume("a")
    assert told()
    wait_until(quiet)
    engine.call_later(1e6, print)
    assert told()
    wait_until(quiet)
    engine.add_reader(pull, pull.recv)
    assert told()
    wait_until(quiet)
    engine.remove_reader(pull)


@pytest.mark.parametrize("pump", ["native", "python"])
def test_statistics_tell_how_the_engine_works(make_engine: MakeEngine, waiter: str, pump: str) -> None:
    engine = make_engine(pump=pump)
    statistics = engine.statistics()
    assert (statistics.pump, statistics.waiter, statistics.turns, statistics.brokers) == (pump, waiter, 0, {})
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    for turns in (1, 2):
        engine.step()
        assert engine.statistics().turns == turns
    assert engine.statistics().brokers == {"a": engine.broker_statistics("a")}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"burst_messages": 0}, "burst_messages: 0: expected a positive integer"),
        ({"burst_messages": 1 << 63}, f"burst_messages: {1 << 63}: expected a positive integer"),
        ({"burst_messages": None}, "burst_messages: None: expected a positive integer"),
        ({"burst_bytes": 0}, "burst_bytes: 0: expected a positive integer"),
        ({"burst_bytes": 1.5}, r"burst_bytes: 1\.5: expected a positive integer"),
        ({"spin_s": -0.001}, r"spin_s: -0\.001: expected 0 to 0\.01 seconds"),
        ({"spin_s": 0.0101}, r"spin_s: 0\.0101: expected 0 to 0\.01 seconds"),
        ({"spin_s": "1"}, r"spin_s: '1': expected 0 to 0\.01 seconds"),
    ],
)
def test_unfit_argument_is_told_with_what_was_expected(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{told}$"):
        Engine(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"burst_messages": 1, "burst_bytes": 1},
        {"burst_messages": (1 << 63) - 1, "burst_bytes": (1 << 63) - 1},
        {"spin_s": 0},
        {"spin_s": 0.01},
    ],
)
def test_bounds_of_arguments_are_fit(make_engine: MakeEngine, connect: Connect, arguments: dict[str, Any]) -> None:
    engine = make_engine(**arguments)
    broker = engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    connect(zmq.PUSH, broker.frontend.endpoint).send(b"passes")
    pull = connect(zmq.PULL, broker.backend.endpoint)
    wait_until(lambda: pull.poll(0), engine=engine)
    assert pull.recv() == b"passes"


# A burst, in messages and in bytes, is what one direction of a broker moves in one turn.
@pytest.mark.parametrize(
    ("arguments", "burst"), [({"burst_messages": 3}, 3), ({"burst_bytes": 45}, 5), ({}, 1000), ({"burst_bytes": 1}, 1)]
)
def test_a_turn_moves_one_burst(
    make_engine: MakeEngine, connect: Connect, arguments: dict[str, Any], burst: int
) -> None:
    engine = make_engine(**arguments)
    producer, frontend, backend = lent(connect)
    engine.register(frontend, backend, STREAMER, name="a")
    connect(zmq.PULL, "inproc://backend", rcvhwm=0)
    rest(engine)
    for _ in range(burst * 2):
        producer.send(b"123456789")
    engine.step()
    sent = [flow_of(engine, "a").sent]
    while engine.step():
        sent.append(flow_of(engine, "a").sent)
    assert {later - sooner for sooner, later in zip([0, *sent], sent, strict=False)} <= {0, burst}
    assert flow_of(engine, "a").sent == burst * 2


def test_timer_that_is_set_by_a_timer_has_its_turn_in_the_next(make_engine: MakeEngine) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    called: list[str] = []

    def first() -> None:
        called.append("first")
        engine.call_later(0.0, called.append, "third")

    engine.call_later(1.0, first)
    engine.call_later(1.0, called.append, "second")
    engine.step()
    assert called == []
    clock.now_s += 1.0
    engine.step()
    assert called == ["first", "second"]
    engine.step()
    assert called == ["first", "second", "third"]


def test_call_that_a_timer_brings_about_has_its_turn_in_the_next(make_engine: MakeEngine) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    called: list[str] = []
    engine.call_later(1.0, engine.call_soon_threadsafe, called.append, "third")
    engine.call_later(1.0, called.append, "first")
    engine.call_soon_threadsafe(called.append, "second")
    clock.now_s += 1.0
    engine.step()
    assert called == ["first", "second"]
    engine.step()
    assert called == ["first", "second", "third"]


def test_timer_that_interrupts_leaves_those_that_others_have_set() -> None:
    clock = Clock()
    timers = Timers(clock)
    called: list[str] = []

    def interrupt() -> None:
        timers.add(0.0, lambda: called.append("set meanwhile"))
        timers.add(-1.0, lambda: called.append("overdue"))
        timers.add(-2.0, lambda: called.append("more so"))
        raise KeyboardInterrupt

    timers.add(0.0, interrupt)
    timers.add(0.0, lambda: called.append("after"))
    with pytest.raises(KeyboardInterrupt):
        timers.run_due(lambda handle: handle.run())
    timers.run_due(lambda handle: handle.run())
    assert called == ["more so", "overdue", "after", "set meanwhile"]


# How long each waits unless it is told otherwise, which its signature promises.
@pytest.mark.parametrize(
    ("call", "patience_s"), [(lambda e: e.remove("a"), 1.0), (Engine.drain, 5.0), (Engine.close, 1.0)]
)
def test_patience_is_what_the_signature_says(
    make_engine: MakeEngine, connect: Connect, call: Callable[[Engine], Any], patience_s: float
) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    holding(engine, connect)
    assert engine.next_timer_s() is None
    with apart(lambda: call(engine)) as waiting:
        wait_until(lambda: engine.next_timer_s())
        assert engine.next_timer_s() == patience_s
        clock.now_s += patience_s - 0.1
        assert engine.next_timer_s() == pytest.approx(0.1)
        assert waiting.is_alive()
        clock.now_s += 0.2


class Passing(Clock):
    """An eighth of a second passes each time that it is read."""

    def __call__(self) -> float:
        self.now_s += 0.125
        return self.now_s


def streamers(engine: Engine, connect: Connect, number: int, device: Device = STREAMER) -> list[tuple[Socket, Socket]]:
    """So many brokers at rest, each with its producer and consumer."""
    peers = []
    for i in range(number):
        producer, consumer = connect(zmq.PUSH), connect(zmq.PULL)
        frontend, backend = producer.context.socket(zmq.PULL), producer.context.socket(zmq.PUSH)
        for socket, peer, side in ((frontend, producer, "in"), (backend, consumer, "out")):
            socket.bind(f"inproc://{side}-{i}")
            peer.connect(f"inproc://{side}-{i}")
        engine.register(frontend, backend, device, name=f"s{i}")
        peers.append((producer, consumer))
    rest(engine)
    return peers


# After a while of bursts the turn ends, and whoever had none comes first in the next.
def test_no_burst_begins_in_a_turn_that_has_lasted_long(
    make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(clock=Passing())
    peers = streamers(engine, connect, 5)
    monkeypatch.setattr("pollbroker.loop._LONGEST_WORK_S", 0.25)
    served: list[list[int]] = []
    for _ in range(2):
        for producer, _ in peers:
            producer.send(b"x")
        while sum(map(len, served)) < 5:
            engine.step()
            served.append([i for i, (_, consumer) in enumerate(peers) if consumer.poll(0) and consumer.recv()])
        assert [len(turn) for turn in served if turn] == [2, 2, 1]
        assert sorted(i for turn in served for i in turn) == [0, 1, 2, 3, 4]
        served.clear()
        rest(engine)


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_interrupt_in_one_broker_leaves_the_others_their_turn(
    make_engine: MakeEngine, connect: Connect, victim: int
) -> None:
    engine = make_engine()
    begun: list[int] = []

    def handle(frames: list[bytes]) -> list[bytes]:
        begun.append(1)
        if len(begun) == victim + 1:
            raise KeyboardInterrupt
        return frames

    device = Device("handled", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", handle),))
    peers = streamers(engine, connect, 3, device)
    for producer, _ in peers:
        producer.send(b"x")
    with pytest.raises(KeyboardInterrupt):
        wait_until(lambda: False, engine=engine)
    rest(engine)
    assert sum(bool(consumer.poll(0)) for _, consumer in peers) == 2
    assert [engine.statistics().brokers[f"s{i}"].flows["frontend"].received for i in range(3)] == [1, 1, 1]


# -- brokers ----------------------------------------------------------------------------------------------------------


def test_broker_that_holds_a_message_is_removed_while_nobody_runs_the_engine(
    make_engine: MakeEngine, connect: Connect
) -> None:
    engine = make_engine()
    holding(engine, connect)
    final = engine.remove("a", timeout_s=0.05)
    assert (final.state, final.flows["frontend"].held, final.flows["frontend"].sent) == ("removed", 1, 0)
    assert not engine.brokers


def lent(connect: Connect) -> tuple[Socket, Socket, Socket]:
    """A producer, and the sockets of a streamer, which consumers reach at `inproc://backend`; all without limits."""
    producer = connect(zmq.PUSH, linger=0)
    frontend, backend = producer.context.socket(zmq.PULL), producer.context.socket(zmq.PUSH)
    for socket in (producer, frontend, backend):
        socket.set_hwm(0)
    frontend.bind("inproc://frontend")
    backend.bind("inproc://backend")
    producer.connect("inproc://frontend")
    return producer, frontend, backend


# Readers come before brokers: here one removes a broker that has been told of room, and has not had its turn.
def test_message_is_offered_once_more_by_a_removal_within_a_turn(make_engine: MakeEngine, connect: Connect) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    producer, frontend, backend = lent(connect)
    engine.register(frontend, backend, STREAMER, name="a")
    for message in (b"held", b"left in the source"):
        producer.send(message)
    wait_until(lambda: flow_of(engine, "a").state == "stalled", engine=engine)
    clock.now_s += 7.0
    here, there = net.socketpair()
    finals: list[Any] = []

    def remove() -> None:
        here.recv(1)
        finals.append(engine.remove("a"))

    engine.add_reader(here.fileno(), remove)
    consumer = connect(zmq.PULL, "inproc://backend")
    there.send(b"x")
    wait_until(lambda: finals, engine=engine)
    (final,) = finals
    flow = final.flows["frontend"]
    assert (final.state, flow.held, flow.sent, flow.stalls, flow.stalled_s) == ("removed", 0, 1, 1, 7.0)
    assert consumer.recv() == b"held"
    engine.step()
    assert engine.next_timer_s() is None  # nothing of it is left to come
    here.close()
    there.close()


# The room comes in the very turn of the removal, so the flow has not been told of it.
@pytest.mark.parametrize("no_drop", [False, True])
def test_removal_within_a_turn_offers_what_is_stalled(make_engine: MakeEngine, connect: Connect, no_drop: bool) -> None:
    engine = make_engine()
    kinds = (zmq.SUB, zmq.XPUB) if no_drop else (zmq.PULL, zmq.PUSH)
    producer = connect(zmq.PUB if no_drop else zmq.PUSH, linger=0)
    frontend, backend = (producer.context.socket(kind) for kind in kinds)
    consumer = producer.context.socket(zmq.SUB if no_drop else zmq.PULL)
    if no_drop:
        backend.xpub_nodrop = 1
        frontend.subscribe(b"")
        consumer.subscribe(b"")
    for socket in (backend, consumer):
        socket.set_hwm(1)
    frontend.bind("inproc://frontend")
    backend.bind("inproc://backend")
    producer.connect("inproc://frontend")
    consumer.connect("inproc://backend")
    device = Device("d", *kinds, (Route("frontend", "backend"),))
    for socket in (frontend, backend, producer, backend):
        socket.getsockopt(zmq.EVENTS)  # who is connected, and what is subscribed to
    engine.register(frontend, backend, device, name="a")
    for number in range(5):
        producer.send(b"%d" % number)
    wait_until(lambda: flow_of(engine, "a").state in ("stalled", "retrying"), engine=engine)
    held = flow_of(engine, "a").sent
    received: list[bytes] = []

    def remove() -> Any:
        while consumer.poll(0):
            received.append(consumer.recv())
        return engine.remove("a")

    final = within_a_turn(engine, remove).flows["frontend"]
    assert (final.held, final.sent) == (0, held + 1)
    while consumer.poll(0):
        received.append(consumer.recv())
    assert received == [b"%d" % number for number in range(held + 1)]


# Ctrl-C may come while it waits for a message that is held.
def test_a_close_that_was_interrupted_can_be_made_again(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    holding(engine, connect)
    wait = engine._calls.wait

    def interrupted(*args: Any) -> None:
        engine._calls.wait = wait  # type: ignore[method-assign]
        raise KeyboardInterrupt

    engine._calls.wait = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        engine.close(timeout_s=0.01)
    assert not engine.closed
    engine.close(timeout_s=0.01)
    assert engine.closed


def test_removal_within_a_turn_finds_a_socket_closed(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    producer, frontend, backend = lent(connect)
    engine.register(frontend, backend, STREAMER, name="a")
    producer.send(b"held")
    wait_until(lambda: flow_of(engine, "a").state == "stalled", engine=engine)

    def remove() -> Any:
        backend.close()
        return engine.remove("a")

    final = within_a_turn(engine, remove)
    assert (final.state, final.flows["frontend"].held) == ("failed", 1)
    assert final.error is not None
    assert not engine.brokers


def test_what_cannot_be_steered_says_why(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    context = connect(zmq.PUSH).context
    source, sink = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    engine.register(source, sink, STREAMER, name="closed")
    source.close()
    for steer in (engine.pause, engine.resume):
        engine.statistics()
        with pytest.raises(
            EngineError, match=r"^brokers\.closed: it is failed: frontend: the socket was closed under the engine$"
        ):
            steer("closed")
    own: zmq.Context[Socket] = zmq.Context()
    left, right = own.socket(zmq.PULL), own.socket(zmq.PUSH)
    engine.register(left, right, STREAMER, name="ended")
    rest(engine)
    with apart(own.term):
        wait_until(lambda: engine.brokers["ended"].state == "ended", engine=engine)
        with pytest.raises(EngineError, match=r"^brokers\.ended: it is ended$"):
            engine.pause("ended")
        left.close()
        right.close()
    holding(engine, connect, "leaving")
    with apart(lambda: engine.remove("leaving", timeout_s=0.2)):
        wait_until(lambda: engine.brokers.get("leaving") is None or engine.brokers["leaving"].state == "removing")
        with pytest.raises(EngineError, match=r"^brokers\.leaving: it is removing$"):
            engine.pause("leaving")


def test_unknown_broker_is_told_with_those_that_there_are(make_engine: MakeEngine) -> None:
    engine = make_engine()
    for name, known in (("a", "none"), ("b", "a"), ("c", "a, b")):
        for call in (engine.remove, engine.pause, engine.resume, engine.broker_statistics):
            with pytest.raises(EngineError, match=rf"^no broker is named 'x'; there are: {known}$"):
                call("x")
        engine.add(name, STREAMER, frontend=ANY, backend=ANY)


@pytest.mark.parametrize("name", ["", "a\nb", None, 7])
def test_unfit_name_is_told(make_engine: MakeEngine, name: Any) -> None:
    engine = make_engine()
    expected = rf"^{re.escape(repr(name))} cannot name a broker; expected a non-empty, printable string$"
    with pytest.raises(EngineError, match=expected):
        engine.add(name, STREAMER, frontend=ANY, backend=ANY)
    assert not engine.brokers


def test_what_is_taken_is_told_in_full(make_engine: MakeEngine, context: zmq.Context[Socket]) -> None:
    engine = make_engine(context)
    pull, push, other = context.socket(zmq.PULL), context.socket(zmq.PUSH), context.socket(zmq.PULL)
    engine.register(pull, push, STREAMER, name="a")
    expected = r"^brokers\.a: the name is taken; expected one that no broker of this engine has$"
    with pytest.raises(EngineError, match=expected):
        engine.register(other, context.socket(zmq.PUSH), STREAMER, name="a")
    with pytest.raises(
        EngineError, match=r"^brokers\.b\.backend: the socket is registered already, as brokers\.a\.backend$"
    ):
        engine.register(other, push, STREAMER, name="b")
    both = Device("both", zmq.DEALER, zmq.DEALER, (Route("frontend", "backend"),))
    twice = context.socket(zmq.DEALER)
    with pytest.raises(
        EngineError, match=r"^brokers\.c\.frontend: the socket is registered twice here, as backend too$"
    ):
        engine.register(twice, twice, both, name="c")
    assert list(engine.brokers) == ["a"]


def test_drained_engine_is_drained_once(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    engine.add("a", STREAMER, frontend=ANY, backend=ANY)
    assert engine.drain(2.0) == ()
    clock.now_s += 3.0
    engine.step()
    assert engine.next_timer_s() is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (Engine.drain, r"^drain\(\) was called from within a turn of the loop, which it would wait for$"),
        (Engine.close, r"^close\(\) was called from within a turn of the loop; call stop\(\) there$"),
        (Engine.step, r"^step\(\) was called from within a turn of the loop$"),
    ],
)
def test_what_waits_for_the_loop_says_so_within_it(
    make_engine: MakeEngine, call: Callable[[Engine], Any], told: str
) -> None:
    engine = make_engine()
    with pytest.raises(EngineError, match=told):
        within_a_turn(engine, lambda: call(engine))
    engine.step()


@pytest.mark.parametrize("registered", [False, True])
def test_captured_copies_tell_where_they_came_from(
    make_engine: MakeEngine, connect: Connect, context: zmq.Context[Socket], registered: bool
) -> None:
    engine = make_engine(context)
    prefixes = (b"request", b"reply")
    if registered:
        sockets = [context.socket(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.PUSH)]
        for name, socket in zip(("in", "out", "copies"), sockets, strict=True):
            socket.bind(f"inproc://{name}")
        engine.register(sockets[0], sockets[1], QUEUE, capture=sockets[2], capture_prefixes=prefixes)
    else:
        engine.add(
            "q",
            QUEUE,
            frontend="inproc://in",
            backend="inproc://out",
            capture="inproc://copies",
            capture_type=zmq.PUSH,
            capture_prefixes=prefixes,
        )
    client, worker, reader = (
        connect(kind, f"inproc://{name}") for kind, name in ((zmq.REQ, "in"), (zmq.REP, "out"), (zmq.PULL, "copies"))
    )
    client.send(b"ask")
    wait_until(lambda: worker.poll(0), engine=engine)
    assert worker.recv() == b"ask"
    worker.send(b"answer")
    wait_until(lambda: client.poll(0), engine=engine)
    assert client.recv() == b"answer"
    copies = [reader.recv_multipart(), reader.recv_multipart()]
    assert [(copy[0], *copy[2:]) for copy in copies] == [(b"request", b"", b"ask"), (b"reply", b"", b"answer")]


def test_each_port_has_the_options_that_are_for_it(make_engine: MakeEngine) -> None:
    engine = make_engine()
    broker = engine.add(
        "a",
        STREAMER,
        frontend=ANY,
        backend=ANY,
        capture=ANY,
        frontend_options={"rcvhwm": 11},
        backend_options={"sndhwm": 12},
        capture_options={"sndhwm": 13},
    )
    frontend, backend, capture = (port.socket for port in working_broker(broker).ports)
    assert (frontend.rcvhwm, backend.sndhwm, capture.sndhwm) == (11, 12, 13)
    assert broker.capture.type == zmq.PUB


class Fleeting:
    """A clock on which an eighth of a second passes with each sleep, however short."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.slept_s: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        self.now_s += 0.125


# libzmq closes a listener some time after its socket: an address that was released here is tried for a second.
@pytest.mark.parametrize("within", [False, True])
def test_released_address_is_tried_again_but_never_within_a_turn(
    make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch, within: bool
) -> None:
    # The table of the process may know this very port from a test a moment ago: the kernel gives ports out again.
    released = ReleasedAddresses()
    monkeypatch.setattr("pollbroker.table.RELEASED", released)
    engine = make_engine()
    taken = connect(zmq.PULL)
    taken.bind(ANY)
    address = taken.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(address, bytes)
    clock = Fleeting()
    monkeypatch.setattr("pollbroker.engine.time", clock)

    def add() -> object:
        return engine.add("a", STREAMER, frontend=address.decode(), backend=ANY)

    with pytest.raises(EndpointError, match="Address already in use"):
        add()
    assert clock.slept_s == []  # another's address is not waited for
    released.note([address.decode()])
    with pytest.raises(EndpointError, match="Address already in use"):
        within_a_turn(engine, add) if within else add()
    assert clock.slept_s == ([] if within else [0.001] * int(8 * ADDRESS_RELEASE_S))


# -- beginning and end ------------------------------------------------------------------------------------------------


def test_engine_that_is_about_to_run_cannot_be_started_again(waiter: str) -> None:
    may_run = threading.Event()

    class Late(Engine):
        def run(self) -> None:
            assert may_run.wait(DEADLINE_S)
            super().run()

    engine = Late(waiter=waiter)
    engine.start()
    with pytest.raises(EngineError, match=r"^the engine is running already$"):
        engine.start()
    may_run.set()
    wait_until(lambda: engine.running)
    for call in (engine.start, engine.run, engine.step):
        with pytest.raises(EngineError, match=r"^the engine is running already$"):
            call()
    engine.close()


def test_engine_runs_in_a_thread_of_that_name_which_ends_no_process(make_engine: MakeEngine) -> None:
    engine = make_engine()
    before = set(threading.enumerate())
    engine.start()
    (thread,) = set(threading.enumerate()) - before
    assert (thread.name, thread.daemon) == ("pollbroker", True)
    engine.close()
    assert not thread.is_alive()


def test_close_ends_a_run_in_the_callers_own_thread(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with apart(engine.run) as thread:
        wait_until(lambda: engine.running)
        engine.close()
        assert engine.closed
        thread.join(DEADLINE_S)
    assert not engine.running


def test_broker_that_is_added_while_the_engine_closes_is_removed(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    holding(engine, connect)
    late: list[Any] = []
    engine.call_later(0.05, lambda: late.append(engine.add("late", STREAMER, frontend=ANY, backend=ANY)))
    engine.close(timeout_s=0.2)
    (broker,) = late
    assert broker.state == BrokerState.REMOVED
    assert working_broker(broker).frontend.socket.closed


def test_undelivered_messages_are_told_at_the_end(
    make_engine: MakeEngine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine()
    holding(engine, connect)
    engine.add("idle", STREAMER, frontend=ANY, backend=ANY)
    engine.close(timeout_s=0.01)
    messages = [(record.levelno, record.message) for record in caplog.records]
    assert messages == [(logging.WARNING, "brokers.a: closed with 1 messages undelivered")]


def test_context_in_which_others_have_sockets_is_left_behind(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pollbroker.engine.TERM_S", 0.02)
    engine = make_engine()
    with engine.context.socket(zmq.PULL) as socket:
        socket.linger = 0
        engine.close()
        assert [(record.levelno, record.message) for record in caplog.records] == [
            (
                logging.WARNING,
                "the engine's context is left behind: sockets of others are open in it, or its own still send",
            )
        ]
        (ending,) = (thread for thread in threading.enumerate() if thread.name == "pollbroker-term")
        assert ending.daemon
    ending.join(DEADLINE_S)
    assert engine.context.closed


def test_fork_is_told_whose_the_engine_is(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = make_engine()
    here = os.getpid()
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: 1)
        for call in (engine.statistics, engine.step, engine.run, engine.start, engine.stop, engine.close):
            with pytest.raises(
                EngineError, match=rf"^this engine belongs to process {here}, and cannot be used in its fork 1$"
            ):
                call()
    assert engine.statistics().brokers == {}


# -- signals and calls ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_first_ctrl_c_ends_the_run_and_the_second_the_turn(make_engine: MakeEngine, times: int) -> None:
    engine = make_engine()
    begun: list[int] = []

    def interrupt() -> None:
        for number in range(times):
            begun.append(number)
            signal.raise_signal(signal.SIGINT)
        begun.append(-1)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        engine.call_soon_threadsafe(interrupt)
        with pytest.raises(KeyboardInterrupt):
            engine.run()
        assert begun == ([0, -1] if times == 1 else [0, 1])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.set_wakeup_fd(-1) == -1
        engine.stop()
        engine.run()  # and no interrupt is left over
    finally:
        signal.signal(signal.SIGINT, before)


# What the engine has asked of the process is taken back, even if the second Ctrl-C comes while that is done.
def test_second_ctrl_c_leaves_no_wakeup_descriptor_behind(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine()
    engine.call_later(0, lambda: signal.raise_signal(signal.SIGINT))
    set_handler = signal.signal

    def interrupted(number: int, handler: Any) -> Any:
        before = set_handler(number, handler)
        if handler is signal.default_int_handler:
            signal.raise_signal(signal.SIGINT)
        return before

    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.set_wakeup_fd(-1) == -1


def test_signal_handling_of_others_is_left_alone(make_engine: MakeEngine) -> None:
    engine = make_engine()
    here, there = net.socketpair()
    there.setblocking(False)
    heard: list[int] = []
    seen: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    theirs = signal.getsignal(signal.SIGINT)
    wakeup = signal.set_wakeup_fd(there.fileno())
    try:

        def look() -> None:
            signal.raise_signal(signal.SIGINT)
            seen.append(signal.getsignal(signal.SIGINT))
            engine.stop()

        engine.call_soon_threadsafe(look)
        engine.run()
        assert (heard, seen, signal.getsignal(signal.SIGINT)) == ([signal.SIGINT], [theirs], theirs)
        assert here.recv(10) == bytes([signal.SIGINT])
        assert signal.set_wakeup_fd(wakeup) == there.fileno()
    finally:
        signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGINT, before)
        here.close()
        there.close()


def test_interrupt_in_a_call_is_the_callers_and_the_loops() -> None:
    calls = Calls(lambda: None)
    caught: list[BaseException] = []

    def interrupt() -> None:
        raise KeyboardInterrupt

    def ask() -> None:
        try:
            calls.call(interrupt)
        except KeyboardInterrupt as error:
            caught.append(error)

    with calls.claimed(), apart(ask):
        wait_until(calls.pending)
        with pytest.raises(KeyboardInterrupt):
            calls.run()
    assert len(caught) == 1
    calls.close()


def test_waker_that_is_broken_is_no_secret() -> None:
    calls = Calls(lambda: None)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, calls.fileno())  # nobody hears it any more
    os.close(nothing)
    with pytest.raises(BrokenPipeError):
        calls.wake()
    calls.close()
    calls.wake()  # after the end there is nobody to wake


def test_wake_ups_without_number_are_one() -> None:
    calls = Calls(lambda: None)
    for _ in range(20_000):  # more than a socket's buffer holds
        calls.wake()
    calls.drain_waker()
    calls.wake()
    calls.drain_waker()
    calls.close()


# -- opening ----------------------------------------------------------------------------------------------------------


def test_path_whose_listener_is_overrun_is_taken(make_engine: MakeEngine, tmp_path: Path) -> None:
    path = str(tmp_path / "taken")
    engine = make_engine()
    clients = []
    with net.socket(net.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        while True:  # until it would block
            clients.append(net.socket(net.AF_UNIX))
            clients[-1].setblocking(False)
            try:
                clients[-1].connect(path)
            except BlockingIOError:
                break
            assert len(clients) < 1000
        with pytest.raises(EndpointError, match="Address already in use"):
            engine.add("a", STREAMER, frontend=f"ipc://{path}", backend=ANY)
        for client in clients:
            client.close()


def test_brokers_and_ports_show_what_they_are(make_engine: MakeEngine, context: zmq.Context[Socket]) -> None:
    engine = make_engine(context)
    broker = engine.add("a", STREAMER, frontend="inproc://in", backend=["inproc://out", "inproc://too"])
    assert repr(broker) == "<Broker a streamer running>"
    assert repr(broker.backend) == "<Port backend PUSH inproc://out inproc://too>"
    lent = engine.register(context.socket(zmq.PULL), context.socket(zmq.PUSH), STREAMER)
    assert (repr(lent), repr(lent.frontend)) == (
        "<Broker streamer-1 streamer running>",
        "<Port frontend PULL registered>",
    )


def test_missing_native_pump_is_told_if_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POLLBROKER_PUMP", raising=False)
    monkeypatch.setitem(sys.modules, "pollbroker.pump.native", None)
    assert choose_implementation().name == "python"
    with pytest.raises(ConfigError, match=r"^pump: the native pump cannot be loaded here: "):
        choose_implementation("native")
    monkeypatch.setenv("POLLBROKER_PUMP", "native")
    with pytest.raises(ConfigError, match=r"^POLLBROKER_PUMP: the native pump cannot be loaded here: "):
        choose_implementation()


def test_own_handler_cannot_steer_and_is_told_what_can(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    told: list[str] = []

    def handle(frames: list[bytes]) -> list[bytes]:
        try:
            engine.pause("own")
        except EngineError as error:
            told.append(str(error))
        return frames

    device = Device("own", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", handle),))
    broker = engine.add("own", device, frontend=ANY, backend=ANY)
    connect(zmq.PUSH, broker.frontend.endpoint).send(b"x")
    wait_until(lambda: told, engine=engine)
    assert told == ["brokers.own: its own handler cannot steer it; use engine.call_soon_threadsafe"]
