"""Which waiter is chosen: by the argument, by the environment variable, or by what the platform has."""

import selectors
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from pollbroker import ConfigError
from pollbroker.waiting import Waiter, make_waiter
from tests.support.clocks import PassingTime
from tests.support.pollers import CountedPoller
from tests.support.pumps import PYTHON
from tests.support.wires import Wire, named, names_of


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


def test_unknown_waiter_raises(choose: Callable[..., Waiter], monkeypatch: pytest.MonkeyPatch) -> None:
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
    choose: Callable[..., Waiter], passing: PassingTime, wires: Callable[[], Wire]
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
