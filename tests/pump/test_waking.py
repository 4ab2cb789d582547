"""What wakes a hub, and which of its flows."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import zmq

from pollbroker.pump import Hub, Implementation
from pollbroker.pump.outcomes import FlowState
from pollbroker.waiting import NestedWaiter
from tests.support.pipes import Stand
from tests.support.types import Socket


class CountingPoller(zmq.Poller):
    """A poller that never sleeps, and counts how often it was asked to."""

    slept = 0

    def poll(self, timeout: int | float | None = None) -> list[tuple[Any, int]]:
        self.slept += 1
        return super().poll(0)


@pytest.fixture
def descriptors() -> Iterator[Callable[[], int]]:
    """Makes descriptors that are readable."""
    opened: list[int] = []

    def make() -> int:
        reader, writer = os.pipe()
        opened.extend((reader, writer))
        os.write(writer, b"x")
        return reader

    yield make
    for descriptor in opened:
        os.close(descriptor)


@pytest.fixture
def make_waiter(implementation: Implementation) -> Iterator[Callable[..., NestedWaiter]]:
    made: list[NestedWaiter] = []

    def make(spin_s: float = 0.0) -> NestedWaiter:
        made.append(NestedWaiter(CountingPoller(), implementation, spin_s))
        return made[-1]

    yield make
    for waiter in made:
        waiter.close()


@pytest.mark.parametrize("timeout_ms", [0, None])
@pytest.mark.parametrize(
    ("port", "state", "rung", "scheduled"),
    [
        (0, FlowState.WAITING, 0, True),
        (0, FlowState.READY, 0, True),
        (0, FlowState.STALLED, 1, False),
        (1, FlowState.STALLED, 1, True),
        (1, FlowState.WAITING, 1, False),
        (0, FlowState.PAUSED, 1, False),
    ],
)
def test_port_that_is_ready_wakes_its_hub(
    context: zmq.Context[Socket],
    implementation: Implementation,
    make_waiter: Callable[..., NestedWaiter],
    descriptors: Callable[[], int],
    timeout_ms: int | None,
    port: int,
    state: FlowState,
    rung: int,
    scheduled: bool,
) -> None:
    stand = Stand(context, implementation)
    stand.outputs[0].open()
    stand.flow.state = state
    calls: list[tuple[Hub, int]] = []

    def wake(hub: Hub, place: int) -> None:
        calls.append((hub, place))
        hub.wake(place)

    waiter = make_waiter()
    waiter.add(descriptors(), stand.hub.on_ready(port, wake))
    others: list[int] = []
    waiter.add(descriptors(), lambda: others.append(1))
    for ring in waiter.wait(timeout_ms):
        ring()
    assert stand.ready == ([stand.hub] if scheduled else [])
    assert len(calls) >= rung  # a native collector may see to a source by itself
    assert all(call == (stand.hub, port) for call in calls)
    assert others == [1]


@pytest.mark.parametrize("something", [False, True])
def test_spinning_waiter_sleeps_only_if_nothing_came(
    make_waiter: Callable[..., NestedWaiter], descriptors: Callable[[], int], something: bool
) -> None:
    waiter = make_waiter(0.001)
    woken: list[int] = []
    if something:
        waiter.add(descriptors(), lambda: woken.append(1))
    for wake in waiter.wait(None):
        wake()
    assert len(woken) == something
    assert waiter._poller.slept == (not something)  # type: ignore[attr-defined]


@pytest.mark.parametrize("place", [0, 1])
def test_each_flow_is_woken_at_its_own_port(
    context: zmq.Context[Socket], implementation: Implementation, place: int
) -> None:
    stand = Stand(context, implementation, 2)
    stand.work()
    assert stand.states == [FlowState.WAITING] * 2
    assert stand.hub.wake(place) == 0
    expected = [FlowState.WAITING] * 2
    expected[place] = FlowState.READY
    assert (stand.states, stand.ready) == (expected, [stand.hub])
    assert stand.hub.interest(place) == 0
    assert stand.hub.interest(1 - place) == zmq.POLLIN


def test_a_paused_flow_is_not_woken(context: zmq.Context[Socket], implementation: Implementation) -> None:
    stand = Stand(context, implementation)
    stand.work()
    stand.flow.pause(0.0)
    stand.inputs[0].give(b"1")
    assert (stand.hub.wake(0), stand.hub.wake(1)) == (0, 0)
    assert (stand.states, stand.ready) == ([FlowState.PAUSED], [])
    assert stand.work() == 0
    assert stand.flow.pump.received == 0
