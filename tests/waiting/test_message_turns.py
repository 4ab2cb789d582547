"""The turns that are made natively: which ones they are, and what is left to the loop. The hubs here are the test's."""

import _thread
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
import zmq

from pollbroker.pump import Bursts, MessageTurns, choose_implementation
from pollbroker.waiting import FlatWaiter, NestedWaiter
from tests.support.clocks import Clock, Passing
from tests.support.deadline import DEADLINE_S
from tests.support.pollers import CountedPoller
from tests.support.wires import Wire, named, names_of


class Owner:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.given: list[object] = []

    def carry_out(self, flags: int) -> None:
        self.given.append(flags)
        if flags == 8:
            raise ValueError("flags")

    def fail(self, error: Exception) -> None:
        self.given.append(str(error))


class FakeHub:
    """Does in each burst what it was told, and is ready again as long as something is left of that."""

    def __init__(self, rig: "Rig", *results: Any, only_moves: bool = True) -> None:
        self.owner = Owner()
        self.only_moves = only_moves
        self.worked: list[tuple[int, int, float]] = []
        self._rig = rig
        self._results = list(results)
        rig.ready.append(self)

    def work(self, limit_messages: int, limit_bytes: int, now_s: float) -> int:
        self.worked.append((limit_messages, limit_bytes, now_s))
        result = self._results.pop(0)
        if self._results:
            self._rig.ready.append(self)
        if isinstance(result, BaseException):
            raise result
        return int(result() if callable(result) else result)


def rings(wire: Wire) -> Callable[[], int]:
    """A burst in which a descriptor becomes readable."""

    def work() -> int:
        wire.ring()
        return 0

    return work


class FakeNet:
    """A net whose descriptor is a test's."""

    def __init__(self, wire: Wire, *, alone: bool = True) -> None:
        self._wire = wire
        self.alone = alone
        self.calls: list[str] = []
        self.on_serve: Callable[[], object] = wire.drain_waker

    def fileno(self) -> int:
        return self._wire.number

    def serve_alone(self) -> bool:
        self.calls.append("serve")
        self.on_serve()
        return self.alone

    def flush(self) -> None:
        self.calls.append("flush")


class Rig:
    """Native turns, on a waiter of their own."""

    def __init__(self, wires: Callable[[], Wire], clock: Callable[[], float], spin_s: float, longest_s: float) -> None:
        self.ready: list[Any] = []
        self.finished: list[Any] = []
        self.waiter = NestedWaiter(zmq.Poller(), choose_implementation("native"), spin_s)
        bursts = Bursts(self.ready, 10, 1000, longest_s, clock, self._finish)
        turns = self.waiter.make_message_turns(bursts)
        assert turns is not None
        self.turns: MessageTurns = turns
        self.wire = wires()
        self.waiter.add(self.wire.number, named("wire"))

    def _finish(self, call: Callable[[Any], object], argument: Any) -> None:
        self.finished.append(argument)
        call(argument)

    def net(self, wire: Wire, **how: bool) -> FakeNet:
        net = FakeNet(wire, **how)
        self.waiter.add(wire.number, named("net"))
        self.turns.watch_net(net)
        return net


@pytest.fixture
def rig(wires: Callable[[], Wire]) -> Iterator[Callable[..., Rig]]:
    made: list[Rig] = []

    def make(clock: Callable[[], float] = time.monotonic, spin_s: float = 0.0, longest_s: float = math.inf) -> Rig:
        made.append(Rig(wires, clock, spin_s, longest_s))
        return made[-1]

    yield make
    for one in made:
        one.waiter.close()


def made(rig: Rig, timeout_ms: int | None = 500, *, only_one: bool = False) -> list[Any] | None:
    """What `make` returns: the names that the functions give which are to be called, or None."""
    wakes = rig.turns.make(timeout_ms, only_one)
    return None if wakes is None else names_of(wakes)


def test_hubs_work_until_something_else_is_to_be_done(rig: Callable[..., Rig]) -> None:
    turns = rig()
    hub = FakeHub(turns, 0, 0, rings(turns.wire), 0)
    assert made(turns, None) == ["wire"]
    assert [limits for *limits, _ in hub.worked] == [[10, 1000]] * 3
    assert turns.turns.made == 3
    assert turns.ready == [hub]  # its burst is for the turn that the loop makes of this


def test_what_is_to_be_called_comes_before_a_burst(rig: Callable[..., Rig]) -> None:
    turns = rig()
    hub = FakeHub(turns, 0)
    turns.wire.ring()
    assert (made(turns), hub.worked, turns.turns.made) == (["wire"], [], 0)


def test_hub_that_calls_somebody_is_left_to_the_loop_with_all_others(rig: Callable[..., Rig]) -> None:
    turns = rig()
    hubs = [FakeHub(turns, 0), FakeHub(turns, 0, only_moves=False)]
    assert (made(turns), [hub.worked for hub in hubs], turns.ready) == ([], [[], []], hubs)


def test_only_one_turn_is_made_if_no_more_are_asked_for(rig: Callable[..., Rig]) -> None:
    turns = rig()
    hub, other = FakeHub(turns, 0, 0, 0), FakeHub(turns, 0)
    assert made(turns, only_one=True) is None
    assert (len(hub.worked), len(other.worked), turns.turns.made, turns.ready) == (1, 1, 0, [hub])


@pytest.mark.parametrize("timeout_ms", [0, 1, 20])
def test_sleep_ends_when_the_time_is_over(rig: Callable[..., Rig], timeout_ms: int) -> None:
    turns = rig()
    for _ in range(20):  # at first the set is read before each sleep, and later before every eighth
        before_s = time.monotonic()
        assert made(turns, timeout_ms) is None
        assert time.monotonic() - before_s >= timeout_ms / 1000 - 0.002
    assert turns.turns.made == 0


@pytest.mark.parametrize("spin_s", [0.0, 0.001])
def test_sleep_ends_when_something_happens(rig: Callable[..., Rig], spin_s: float) -> None:
    turns = rig(spin_s=spin_s)
    for _ in range(20):
        later = threading.Timer(0.002, turns.wire.ring)
        later.start()
        assert made(turns, int(DEADLINE_S * 1000)) == ["wire"]
        later.join()
        turns.wire.drain_waker()


def test_turns_end_when_the_time_is_over_though_there_is_work(rig: Callable[..., Rig]) -> None:
    clock = Clock()
    turns = rig(clock)

    def pass_time() -> int:
        clock.now_s += 0.25
        return 0

    hub = FakeHub(turns, *[pass_time] * 10)
    assert made(turns, 1000) is None
    assert (len(hub.worked), turns.turns.made) == (4, 3)
    assert made(turns, None, only_one=True) is None
    assert made(turns, 0) is None  # a timer that is due waits for one turn at most
    assert len(hub.worked) == 6


def test_no_hub_begins_after_the_time_limit_and_those_left_come_first(rig: Callable[..., Rig]) -> None:
    turns = rig(Passing(), longest_s=0.25)
    hubs = [FakeHub(turns, 0, 0) for _ in range(3)]
    assert made(turns, only_one=True) is None
    assert ([len(hub.worked) for hub in hubs], turns.ready) == ([1, 1, 0], [hubs[2], hubs[0], hubs[1]])


@pytest.mark.parametrize(
    ("result", "given"),
    [(2, [2]), (8, [8, "flags"]), (ValueError("broken"), ["broken"]), (MemoryError("none"), ["none"])],
)
def test_owner_is_given_flags_and_errors_and_the_turn_ends(
    rig: Callable[..., Rig], result: object, given: list[object]
) -> None:
    turns = rig()
    hub, other = FakeHub(turns, result, 0), FakeHub(turns, 0)
    assert made(turns) is None
    assert hub.owner.given == given
    assert list(map(str, turns.finished)) == list(map(str, given))
    assert (len(other.worked), other.owner.given, turns.ready) == (1, [], [hub])


def test_hub_that_was_interrupted_comes_first_in_the_next_turn(rig: Callable[..., Rig]) -> None:
    turns = rig()
    hubs = [FakeHub(turns, 0), FakeHub(turns, KeyboardInterrupt()), FakeHub(turns, 0)]
    with pytest.raises(KeyboardInterrupt):
        made(turns)
    assert turns.ready == hubs[1:]
    assert [hub.owner.given for hub in hubs] == [[]] * 3


# A signal ends a sleep of poll(2), and its handler is called before the thread sleeps again.
@pytest.mark.parametrize("raises", [False, True])
def test_signal_handler_is_called_in_a_sleep(rig: Callable[..., Rig], raises: bool) -> None:
    turns, called = rig(), []

    def handler(number: int, frame: object) -> None:
        called.append(number)
        if raises:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        if raises:
            with pytest.raises(KeyboardInterrupt):
                made(turns, int(DEADLINE_S * 1000))
        else:
            assert made(turns, int(DEADLINE_S * 1000)) is None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert called == [signal.SIGALRM]


# Here every function is native that the turns call, so that Python itself calls no handler.
def test_signal_handler_is_called_between_turns(rig: Callable[..., Rig]) -> None:
    turns, net = rig(), SimpleNamespace(fileno=lambda: -1, serve_alone=None)
    net.flush = partial(_thread.interrupt_main, signal.SIGALRM)
    turns.turns.watch_net(cast(Any, net))
    turns.ready.append(SimpleNamespace(only_moves=True, work=partial(min, 0)))
    before = signal.signal(signal.SIGALRM, lambda number, frame: turns.wire.ring())
    try:
        assert made(turns) == ["wire"]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_net_serves_itself_and_is_flushed_in_each_turn_but_the_last(
    rig: Callable[..., Rig], wires: Callable[[], Wire]
) -> None:
    turns, wire = rig(), wires()
    net = turns.net(wire)
    FakeHub(turns, rings(wire), 0, rings(turns.wire))
    assert made(turns) == ["wire"]
    assert net.calls == ["flush", "serve", "flush", "flush"]
    FakeHub(turns, 0)
    turns.wire.drain_waker()
    net.calls.clear()
    assert made(turns, only_one=True) is None
    assert net.calls == []  # the loop flushes it, at the end of its turn


def test_net_that_has_somebody_called_is_left_to_the_loop(rig: Callable[..., Rig], wires: Callable[[], Wire]) -> None:
    turns, wire = rig(), wires()
    hub, net = FakeHub(turns, 0), turns.net(wire, alone=False)
    wire.ring()
    assert (made(turns), net.calls, hub.worked) == (["net"], ["serve"], [])


def test_error_of_the_net_is_raised_and_the_work_is_left(rig: Callable[..., Rig], wires: Callable[[], Wire]) -> None:
    def fail() -> None:
        raise MemoryError

    turns, wire = rig(), wires()
    hub, net = FakeHub(turns, 0), turns.net(wire)
    net.on_serve = fail
    wire.ring()
    with pytest.raises(MemoryError):
        made(turns)
    assert (hub.worked, turns.ready) == ([], [hub])


def test_waiters_that_poll_in_every_turn_make_none() -> None:
    def finish(call: Callable[[Any], object], argument: Any) -> None:
        raise AssertionError

    bursts, native = Bursts([], 1, 1, 1.0, time.monotonic, finish), choose_implementation("native")
    for waiter in (
        FlatWaiter(zmq.Poller(), 0.0),
        NestedWaiter(CountedPoller(), native, 0.0, always_polls=True),
        NestedWaiter(zmq.Poller(), choose_implementation("python"), 0.0),
    ):
        assert waiter.make_message_turns(bursts) is None
        waiter.close()
