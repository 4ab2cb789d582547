"""The nested waiter: on pollers that are counted, on every kind of set, and on descriptors that a test fills."""

import errno
import os
import select
import selectors
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import zmq

from pollbroker import Engine, EngineError
from pollbroker.pump import Implementation
from pollbroker.waiting import NestedWaiter
from tests.support.pollers import CountedPoller
from tests.support.pumps import PYTHON
from tests.support.types import Connect, Socket
from tests.support.wires import Wire, named, names_of


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


# The native collector has room for 256 events in one turn; in the next turn the kernel reports the others first.
@pytest.mark.parametrize("count", [1, 255, 256, 257, 1000])
def test_more_descriptors_than_one_read_has_room_for_are_all_reported(
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
def test_closed_descriptor_that_is_open_elsewhere_is_not_reported(
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


def test_input_that_comes_while_the_waiter_spins_is_reported_without_sleep(
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


# A watched socket is closed, and a new one is given the number of its descriptor.
def test_owner_of_a_descriptor_number_that_was_given_out_again_is_called(
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


# A poller that is handed in may run other tasks while it is polled.
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
    """A fake collector, and its factory. It records its arguments and its calls."""

    def __init__(self, events: bool = False) -> None:
        self.events = events
        self.made_of: list[Any] = []
        self.spins_s: list[float] = []

    def make(self, epoll: int, wakes: dict[int, Callable[[], None]], /) -> "Recorder":
        self.made_of += [epoll, wakes]
        return self

    def collect(self, spin_s: float, /) -> list[Any] | None:
        self.spins_s.append(spin_s)
        return [named("collected")] if self.events else None


def test_collector_of_the_pump_reads_the_epoll_set(wires: Callable[[], Wire]) -> None:
    for events in (True, False):
        recorder, poller = Recorder(events), CountedPoller()
        python, wire = replace(cast(Any, PYTHON), make_collector=recorder.make), wires()
        waiter = NestedWaiter(poller, python, 0.001)
        wake = named("wire")
        waiter.add(wire.number, wake)
        assert recorder.made_of == [waiter.fileno(), {wire.number: wake}]
        collected = ["collected"] if events else []
        assert names_of(waiter.wait(0)) == collected
        assert (recorder.spins_s, poller.asked) == ([0.0], [])
        assert names_of(waiter.wait(1)) == collected
        assert (recorder.spins_s, poller.asked) == ([0.0, 0.001], [] if events else [1])
        waiter.remove(wire.number)
        assert recorder.made_of[1] == {}
        waiter.close()


def test_waiter_does_not_sleep_when_the_collector_has_done_the_work_itself() -> None:
    class Done(Recorder):
        def collect(self, spin_s: float, /) -> list[Any] | None:
            return super().collect(spin_s) and []

    poller = CountedPoller()
    waiter = NestedWaiter(poller, replace(cast(Any, PYTHON), make_collector=Done(events=True).make), 0.0)
    assert (waiter.wait(1), poller.asked) == ([], [])
    waiter.close()


def test_set_is_seldom_read_before_sleeps_if_nothing_is_ready_again_and_again() -> None:
    recorder, poller = Recorder(), CountedPoller()
    waiter = NestedWaiter(poller, replace(cast(Any, PYTHON), make_collector=recorder.make), 0.0)
    assert [waiter.wait(1) for _ in range(32)] == [[]] * 32
    assert (len(recorder.spins_s), len(poller.asked)) == (8 + 3, 32)
    recorder.events = True
    assert [names_of(waiter.wait(1)) for _ in range(2)] == [["collected"]] * 2
    assert (len(recorder.spins_s), len(poller.asked)) == (8 + 3 + 2, 32)
    waiter.close()


def test_collector_of_the_pump_is_for_epoll_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "epoll")
    recorder = Recorder()
    python = replace(cast(Any, PYTHON), make_collector=recorder.make)
    waiter = NestedWaiter(zmq.Poller(), python, 0.0)
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
