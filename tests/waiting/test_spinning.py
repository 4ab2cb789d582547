"""Waiters that spin before they sleep."""

import select
from collections.abc import Callable

import pytest

from pollbroker.waiting import FlatWaiter, NestedWaiter
from tests.support.clocks import PassingTime
from tests.support.pollers import CountedPoller
from tests.support.pumps import PYTHON
from tests.support.wires import Wire, named, names_of


@pytest.mark.parametrize("kind", ["epoll", "selector"])
def test_nested_waiter_spins_for_its_time_and_then_sleeps(
    monkeypatch: pytest.MonkeyPatch, passing: PassingTime, wires: Callable[[], Wire], kind: str
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


def test_flat_waiter_spins_for_its_time_and_then_sleeps(passing: PassingTime, wires: Callable[[], Wire]) -> None:
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


def test_waiter_that_does_not_spin_asks_once(passing: PassingTime) -> None:
    poller = CountedPoller()
    waiter = FlatWaiter(poller, 0.0)
    assert waiter.wait(3) == []
    assert (passing.reads, poller.asked) == (0, [3])
