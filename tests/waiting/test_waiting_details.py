"""The waiters, driven directly: on pollers that are counted, on every kind of set, and on pipes that a test fills."""

import errno
import os
import select
import selectors
import socket as net
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import ConfigError, Engine, EngineError
from pollbroker.pump import Implementation, choose_implementation
from pollbroker.waiting import FlatWaiter, NestedWaiter, Waiter, make_waiter
from tests.support.types import Connect, Socket

PYTHON = choose_implementation("python")


class CountedPoller:
    """A `zmq.Poller` that tells what it was asked, and what is registered in it."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self.asked: list[int | None] = []
        self.registered: dict[Any, int] = {}

    def register(self, socket: Any, flags: int) -> None:
        self._poller.register(socket, flags)
        self.registered[socket] = flags

    def unregister(self, socket: Any) -> None:
        self._poller.unregister(socket)
        del self.registered[socket]

    def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
        self.asked.append(timeout)
        return self._poller.poll(timeout)


class Wire:
    """A pair of connected descriptors: readable at `number` once `ring` was called, until `drain_waker`."""

    def __init__(self) -> None:
        self.here, self.there = net.socketpair()
        self.here.setblocking(False)

    @property
    def number(self) -> int:
        return self.here.fileno()

    def ring(self) -> None:
        self.there.send(b"x")

    def drain_waker(self) -> None:
        self.here.recv(100)

    def close(self) -> None:
        self.here.close()
        self.there.close()


@pytest.fixture
def wires() -> Iterator[Callable[[], Wire]]:
    """Makes wires; they are closed at the end of the test."""
    made: list[Wire] = []

    def make() -> Wire:
        made.append(Wire())
        return made[-1]

    yield make
    for wire in made:
        wire.close()


@pytest.fixture(params=["epoll", "selector"])
def nested(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, implementation: Implementation
) -> Iterator[Callable[..., NestedWaiter]]:
    """Makes nested waiters on both kinds of set: epoll, and what `selectors` has, as where there is no epoll."""
    made: list[NestedWaiter] = []
    if request.param == "selector":
        monkeypatch.delattr(select, "epoll")

    def make(poller: Any = None, spin_s: float = 0.0, **options: Any) -> NestedWaiter:
        made.append(NestedWaiter(zmq.Poller() if poller is None else poller, implementation, spin_s, **options))
        return made[-1]

    yield make
    for waiter in made:
        waiter.close()


def names_of(wakes: list[Any]) -> list[Any]:
    """The wakes here are functions that give a name."""
    return sorted(wake() for wake in wakes)


def named(name: str) -> Any:
    return lambda: name


# -- nested -----------------------------------------------------------------------------------------------------------


def test_readable_descriptors_are_reported_until_they_are_removed(
    nested: Callable[..., NestedWaiter], wires: Callable[[], Wire]
) -> None:
    waiter = nested()
    one, other, silent = wires(), wires(), wires()
    for name, wire in (("one", one), ("other", other), ("silent", silent)):
        waiter.add(wire.number, named(name))
    assert waiter.wait(0) == []
    assert waiter.wait(1) == []
    one.ring()
    other.ring()
    for timeout_ms in (0, 1, None):
        assert names_of(waiter.wait(timeout_ms)) == ["one", "other"]
    other.drain_waker()
    assert names_of(waiter.wait(None)) == ["one"]
    waiter.remove(one.number)
    assert waiter.wait(1) == []
    waiter.remove(one.number)
    waiter.add(one.number, named("again"))
    assert names_of(waiter.wait(None)) == ["again"]


# The native collector has room for 256 events of one turn; the kernel tells the others first in the next.
@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
def test_more_descriptors_at_once_than_there_is_room_for_are_all_told(
    implementation: Implementation, count: int
) -> None:
    waiter = NestedWaiter(zmq.Poller(), implementation, 0.0)
    descriptors = [os.eventfd(1) for _ in range(count)]
    try:
        for number, descriptor in enumerate(descriptors):
            waiter.add(descriptor, named(str(number)))
        told: set[str] = set()
        for _ in range(4 if count > 256 else 1):
            wakes = waiter.wait(0)
            assert len(wakes) <= (256 if implementation.name == "native" else count)
            told.update(names_of(wakes))
        assert told == {str(number) for number in range(count)}
    finally:
        waiter.close()
        for descriptor in descriptors:
            os.close(descriptor)


# As long as another process, or another number, holds the file open, the kernel goes on telling of it.
def test_closed_descriptor_that_is_open_elsewhere_is_not_told_of(
    implementation: Implementation, wires: Callable[[], Wire]
) -> None:
    waiter, wire = NestedWaiter(zmq.Poller(), implementation, 0.0), wires()
    number = os.dup(wire.number)
    waiter.add(number, named("closed"))
    wire.ring()
    assert names_of(waiter.wait(0)) == ["closed"]
    os.close(number)
    waiter.remove(number)
    assert waiter.wait(0) == []
    waiter.close()


def test_what_comes_while_the_waiter_spins_is_told_without_sleep(
    nested: Callable[..., NestedWaiter], wires: Callable[[], Wire]
) -> None:
    poller = CountedPoller()
    waiter, wire = nested(poller, 10.0), wires()
    waiter.add(wire.number, named("wire"))
    ringing = threading.Timer(0.02, wire.ring)
    ringing.start()
    assert names_of(waiter.wait(None)) == ["wire"]
    assert poller.asked == []
    ringing.join()


def test_watched_descriptor_cannot_be_added_again(
    nested: Callable[..., NestedWaiter], wires: Callable[[], Wire]
) -> None:
    waiter, wire = nested(), wires()
    waiter.add(wire.number, named("first"))
    with pytest.raises(EngineError, match=rf"^{wire.number} is watched already: "):
        waiter.add(wire.number, named("second"))
    wire.ring()
    assert names_of(waiter.wait(None)) == ["first"]


def test_closed_descriptor_may_be_removed(nested: Callable[..., NestedWaiter], wires: Callable[[], Wire]) -> None:
    waiter, wire, other = nested(), wires(), wires()
    number = wire.number
    waiter.add(number, named("closed"))
    waiter.add(other.number, named("other"))
    wire.close()
    waiter.remove(number)
    other.ring()
    assert names_of(waiter.wait(None)) == ["other"]


# A socket that is closed behind the waiter's back, and whose descriptor's number another is given.
def test_owner_of_a_number_that_was_given_out_again_is_told(
    nested: Callable[..., NestedWaiter], context: zmq.Context[Socket], connect: Connect, wires: Callable[[], Wire]
) -> None:
    waiter, wire = nested(), wires()
    closed = context.socket(zmq.PULL)
    waiter.add(closed, named("closed"))
    other = context.socket(zmq.PULL)
    waiter.add(other, named("other"))
    number = closed.getsockopt(zmq.FD)
    assert isinstance(number, int)
    kept = os.dup(number)  # so that nobody else is given the number once the socket is closed
    try:
        os.dup2(wire.number, number)
        waiter.add(number, named("fresh"))
        wire.ring()
        assert names_of(waiter.wait(None)) == ["closed"]
        assert names_of(waiter.wait(None)) == ["fresh"]
        waiter.remove(closed)  # by its owner, who has found out: nothing of the other's is touched
        assert names_of(waiter.wait(None)) == ["fresh"]
        waiter.remove(number)
        assert waiter.wait(0) == []
    finally:
        os.dup2(kept, number)
        os.close(kept)


def test_own_poller_is_asked_to_sleep_only(nested: Callable[..., NestedWaiter], wires: Callable[[], Wire]) -> None:
    poller = CountedPoller()
    waiter, wire = nested(poller), wires()
    waiter.add(wire.number, named("wire"))
    assert poller.registered == {waiter.fileno(): zmq.POLLIN}
    assert waiter.wait(0) == []
    assert poller.asked == []
    assert waiter.wait(1) == []
    assert poller.asked == [1]
    wire.ring()
    assert names_of(waiter.wait(7)) == ["wire"]
    assert names_of(waiter.wait(None)) == ["wire"]
    assert poller.asked == [1]


# Whoever hands a poller in may have others to run while it is asked.
def test_poller_that_was_handed_in_is_asked_in_every_turn(
    nested: Callable[..., NestedWaiter], wires: Callable[[], Wire]
) -> None:
    poller = CountedPoller()
    waiter, wire = nested(poller, 0.01, always_polls=True), wires()
    waiter.add(wire.number, named("wire"))
    assert waiter.wait(0) == []
    wire.ring()
    assert names_of(waiter.wait(0)) == ["wire"]
    assert names_of(waiter.wait(None)) == ["wire"]
    assert poller.asked == [0, 0, None]


def test_descriptor_of_a_nested_waiter_is_readable_when_it_would_not_sleep(
    nested: Callable[..., NestedWaiter], wires: Callable[[], Wire]
) -> None:
    waiter, wire = nested(), wires()
    waiter.add(wire.number, named("wire"))
    assert select.select([waiter.fileno()], [], [], 0)[0] == []
    wire.ring()
    assert select.select([waiter.fileno()], [], [], 0)[0] == [waiter.fileno()]


def test_closed_waiter_gives_its_descriptor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for absent in (False, True):
        if absent:
            monkeypatch.delattr(select, "epoll")
        poller = CountedPoller()
        waiter = NestedWaiter(poller, PYTHON, 0.0)
        descriptor = waiter.fileno()
        waiter.close()
        assert poller.registered == {}
        with pytest.raises(OSError, match="Bad file descriptor") as raised:
            os.fstat(descriptor)
        assert raised.value.errno == errno.EBADF


def test_selector_is_asked_without_sleeping(monkeypatch: pytest.MonkeyPatch, wires: Callable[[], Wire]) -> None:
    asked: list[float | None] = []

    class Counted(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            asked.append(timeout)
            return super().select(0)

    monkeypatch.setattr(selectors, "DefaultSelector", Counted)
    monkeypatch.delattr(select, "epoll")
    waiter, wire = NestedWaiter(zmq.Poller(), PYTHON, 0.0), wires()
    waiter.add(wire.number, named("wire"))
    assert (waiter.wait(0), waiter.wait(1)) == ([], [])
    wire.ring()
    assert names_of(waiter.wait(None)) == ["wire"]
    assert set(asked) == {0}
    waiter.close()


class Recorder:
    """A collector, and the factory of it, that writes down what it was made of and asked."""

    def __init__(self, events: bool = False) -> None:
        self.events = events
        self.made_of: list[Any] = []
        self.spins_s: list[float] = []

    def make(self, epoll: int, wakes: dict[int, Callable[[], None]], /) -> "Recorder":
        self.made_of += [epoll, wakes]
        return self

    def __call__(self) -> list[Any]:
        return [named("collected")]

    def has_events(self, spin_s: float, /) -> bool:
        self.spins_s.append(spin_s)
        return self.events


def test_collector_of_the_pump_reads_the_epoll_set(wires: Callable[[], Wire]) -> None:
    for events in (True, False):
        recorder, poller = Recorder(events), CountedPoller()
        waiter, wire = NestedWaiter(poller, replace(PYTHON, make_collector=recorder.make), 0.001), wires()
        wake = named("wire")
        waiter.add(wire.number, wake)
        assert recorder.made_of == [waiter.fileno(), {wire.number: wake}]
        assert names_of(waiter.wait(0)) == ["collected"]
        assert (recorder.spins_s, poller.asked) == ([], [])
        assert names_of(waiter.wait(1)) == (["collected"] if events else [])
        assert (recorder.spins_s, poller.asked) == ([0.001], [] if events else [1])
        waiter.remove(wire.number)
        assert recorder.made_of[1] == {}
        waiter.close()


def test_collector_of_the_pump_is_for_epoll_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    recorder = Recorder()
    waiter = NestedWaiter(zmq.Poller(), replace(PYTHON, make_collector=recorder.make), 0.0)
    assert (waiter.wait(0), recorder.made_of) == ([], [])
    waiter.close()


def test_engine_runs_where_there_is_no_epoll(
    monkeypatch: pytest.MonkeyPatch, context: zmq.Context[Socket], connect: Connect
) -> None:
    monkeypatch.delattr(select, "epoll")
    with Engine(context, pump="python", waiter="nested", spin_s=0.001) as engine:
        broker = engine.add("a", "streamer", frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint)
        for number in range(100):
            push.send(b"%d" % number)
        assert [pull.recv() for _ in range(100)] == [b"%d" % number for number in range(100)]
        engine.remove("a")


# -- spinning ---------------------------------------------------------------------------------------------------------


class Passing:
    """A clock on which 0.001 s pass each time that it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def monotonic(self) -> float:
        self.reads += 1
        return self.reads / 1000


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Passing:
    """The clock by which the Python waiters spin."""
    clock = Passing()
    monkeypatch.setattr("pollbroker.waiting.time", clock)
    return clock


@pytest.mark.parametrize("kind", ["epoll", "selector"])
def test_nested_waiter_spins_for_its_time_and_then_sleeps(
    monkeypatch: pytest.MonkeyPatch, passing: Passing, wires: Callable[[], Wire], kind: str
) -> None:
    if kind == "selector":
        monkeypatch.delattr(select, "epoll")
    poller = CountedPoller()
    waiter, wire = NestedWaiter(poller, PYTHON, 0.0055), wires()
    waiter.add(wire.number, named("wire"))
    assert waiter.wait(0) == []
    assert (passing.reads, poller.asked) == (0, [])
    assert waiter.wait(3) == []
    assert (passing.reads, poller.asked) == (7, [3])  # from the first reading on until 0.0055 s are over
    wire.ring()
    assert names_of(waiter.wait(3)) == ["wire"]
    assert (passing.reads, poller.asked) == (8, [3])
    waiter.close()


def test_flat_waiter_spins_for_its_time_and_then_sleeps(passing: Passing, wires: Callable[[], Wire]) -> None:
    poller = CountedPoller()
    waiter, wire = FlatWaiter(poller, 0.002), wires()
    waiter.add(wire.number, named("wire"))
    assert waiter.wait(0) == []
    assert (passing.reads, poller.asked) == (0, [0])
    poller.asked.clear()
    assert waiter.wait(3) == []
    assert (passing.reads, poller.asked) == (3, [0, 0, 3])
    wire.ring()
    poller.asked.clear()
    assert names_of(waiter.wait(None)) == ["wire"]
    assert (passing.reads, poller.asked) == (4, [0, 0])
    waiter.close()


def test_waiter_that_does_not_spin_asks_once(passing: Passing) -> None:
    poller = CountedPoller()
    waiter = FlatWaiter(poller, 0.0)
    assert waiter.wait(3) == []
    assert (passing.reads, poller.asked) == (0, [3])


# -- flat -------------------------------------------------------------------------------------------------------------


def test_flat_waiter_watches_for_what_it_is_told(context: zmq.Context[Socket], connect: Connect) -> None:
    poller = CountedPoller()
    waiter = FlatWaiter(poller, 0.0)
    socket = context.socket(zmq.PUSH)
    socket.bind("inproc://sink")
    waiter.add(socket, named("sink"))
    assert poller.registered == {socket: zmq.POLLIN}
    with pytest.raises(EngineError, match="is watched already"):
        waiter.add(socket, named("again"))
    connect(zmq.PULL, "inproc://sink")
    assert waiter.wait(0) == []
    waiter.watch(socket, zmq.POLLOUT)
    assert poller.registered == {socket: zmq.POLLOUT}
    assert names_of(waiter.wait(None)) == ["sink"]
    for _ in range(2):
        waiter.watch(socket, 0)
        assert poller.registered == {}
    assert waiter.wait(0) == []
    waiter.watch(socket, zmq.POLLOUT)
    assert names_of(waiter.wait(None)) == ["sink"]
    for _ in range(2):
        waiter.remove(socket)
        assert (poller.registered, waiter.wait(0)) == ({}, [])
    waiter.add(socket, named("again"))
    assert poller.registered == {socket: zmq.POLLIN}
    waiter.close()
    assert poller.registered == {}


def test_flat_waiter_tells_the_owners_of_closed_sockets_only(
    context: zmq.Context[Socket], wires: Callable[[], Wire]
) -> None:
    poller = CountedPoller()
    waiter, wire = FlatWaiter(poller, 0.0), wires()
    closed, unwatched, other = (context.socket(zmq.PULL) for _ in range(3))
    waiter.add(wire.number, named("wire"))
    for name, socket in (("closed", closed), ("unwatched", unwatched), ("other", other)):
        waiter.add(socket, named(name))
    waiter.watch(unwatched, 0)
    closed.close()
    unwatched.close()
    assert names_of(waiter.wait(None)) == ["closed"]
    assert poller.asked == []
    waiter.remove(closed)
    wire.ring()
    assert names_of(waiter.wait(None)) == ["wire"]
    waiter.close()


class FailingPoller(CountedPoller):
    def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
        super().poll(0)
        raise zmq.ZMQError(zmq.ETERM)


@pytest.mark.parametrize("spin_s", [0.0, 0.001])
def test_all_look_when_the_poller_fails(wires: Callable[[], Wire], spin_s: float) -> None:
    waiter = FlatWaiter(FailingPoller(), spin_s)
    for name in ("one", "other"):
        waiter.add(wires().number, named(name))
    assert names_of(waiter.wait(5)) == ["one", "other"]


def test_flat_waiter_has_no_descriptor_and_says_what_to_do() -> None:
    with pytest.raises(
        EngineError, match=r"^the flat waiter has no descriptor: call step\(\) at intervals, or use the nested waiter$"
    ):
        FlatWaiter(zmq.Poller(), 0.0).fileno()


# -- choosing ---------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a test says which waiter is wanted."""
    monkeypatch.delenv("POLLBROKER_WAITER", raising=False)


@pytest.fixture
def choose() -> Iterator[Callable[..., Waiter]]:
    """Makes waiters as an engine does; they are closed at the end of the test."""
    made: list[Waiter] = []

    def make(name: str | None = None, poller: Any = None, spin_s: float = 0.0) -> Waiter:
        made.append(make_waiter(name, poller, PYTHON, spin_s))
        return made[-1]

    yield make
    for waiter in made:
        waiter.close()


@pytest.mark.parametrize(
    ("asked", "environment", "expected"),
    [
        (None, None, "nested"),
        (None, "", "nested"),
        (None, "flat", "flat"),
        (None, "nested", "nested"),
        ("flat", "nested", "flat"),
        ("nested", "flat", "nested"),
        ("nested", "nonsense", "nested"),
    ],
)
def test_argument_comes_before_the_environment_and_nested_is_the_rule(
    choose: Callable[..., Waiter],
    monkeypatch: pytest.MonkeyPatch,
    asked: str | None,
    environment: str | None,
    expected: str,
) -> None:
    if environment is not None:
        monkeypatch.setenv("POLLBROKER_WAITER", environment)
    waiter = choose(asked)
    assert waiter.name == expected
    assert waiter.needs_interest == (expected == "flat")


def test_unknown_waiter_is_told(choose: Callable[..., Waiter], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^waiter: 'deep': expected 'nested' or 'flat'$"):
        choose("deep")
    monkeypatch.setenv("POLLBROKER_WAITER", "shallow")
    with pytest.raises(ConfigError, match=r"^POLLBROKER_WAITER: 'shallow': expected 'nested' or 'flat'$"):
        choose()


def test_without_a_pollable_selector_the_flat_waiter_serves(
    choose: Callable[..., Waiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)
    assert choose().name == "flat"
    assert choose("flat").name == "flat"
    with pytest.raises(ConfigError, match=r"^waiter: the selector of this platform cannot be polled; expected 'flat'$"):
        choose("nested")
    monkeypatch.setenv("POLLBROKER_WAITER", "nested")
    with pytest.raises(ConfigError, match=r"^POLLBROKER_WAITER: the selector of this platform cannot be polled"):
        choose()


@pytest.mark.parametrize("name", ["nested", "flat"])
def test_poller_that_was_handed_in_is_used(choose: Callable[..., Waiter], wires: Callable[[], Wire], name: str) -> None:
    poller, wire = CountedPoller(), wires()
    waiter = choose(name, poller)
    waiter.add(wire.number, named("wire"))
    wire.ring()
    assert names_of(waiter.wait(None)) == ["wire"]
    assert poller.asked == [None]
    assert len(poller.registered) == 1


def test_waiter_without_a_poller_has_one_of_its_own_and_spins_as_told(
    choose: Callable[..., Waiter], passing: Passing, wires: Callable[[], Wire]
) -> None:
    for reads, name in ((7, "nested"), (14, "flat")):
        waiter, wire = choose(name, None, 0.0055), wires()
        waiter.add(wire.number, named("wire"))
        assert waiter.wait(1) == []
        assert passing.reads == reads
        wire.ring()
        assert names_of(waiter.wait(0)) == ["wire"]


def test_poller_of_anothers_kind_is_asked_as_zmq_poller_is(choose: Callable[..., Waiter]) -> None:
    asked: list[Any] = []

    class Recorded:
        def register(self, *arguments: Any) -> None:
            asked.append(arguments)

        unregister = register

        def poll(self, *arguments: Any) -> list[Any]:
            asked.append(arguments)
            return []

    waiter = choose("nested", Recorded())
    waiter.wait(5)
    assert asked == [(waiter.fileno(), zmq.POLLIN), (5,)]
