"""Fixtures for the tests of the waiters."""

import select
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from pollbroker.pump import Implementation
from pollbroker.waiting import NestedWaiter
from tests.support.clocks import PassingTime
from tests.support.wires import Wire


@pytest.fixture
def wires() -> Iterator[Callable[[], Wire]]:
    """Makes wires, which are closed at the end of the test."""
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


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a test says which waiter is wanted."""
    monkeypatch.delenv("POLLBROKER_WAITER", raising=False)


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> PassingTime:
    """The clock by which the Python waiters spin."""
    clock = PassingTime()
    monkeypatch.setattr("pollbroker.waiting.contract.time", clock)
    return clock
