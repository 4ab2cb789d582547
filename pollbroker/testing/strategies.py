"""Strategies: from these hypothesis draws the tests of a device.

They use the same description as seeds (`drawing.py`). So hypothesis and seeds can find the same bugs, and hypothesis
also finds the shortest scenario that shows a bug.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from pollbroker.device import Device
from pollbroker.testing import drawing
from pollbroker.testing.drawing import Draw
from pollbroker.testing.scenario import Meanwhile, Scenario, Step, Topology

_Value = TypeVar("_Value")


class _HypothesisDraw:
    """Has hypothesis make the choices."""

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw

    def integer(self, least: int, most: int) -> int:
        return self._draw(st.integers(least, most))

    def choice(self, options: Sequence[_Value]) -> _Value:
        return self._draw(st.sampled_from(options))

    def several(self, make: Callable[[Draw], _Value], least: int, most: int) -> tuple[_Value, ...]:
        return tuple(self._draw(st.lists(drawn(make), min_size=least, max_size=most)))

    def binary(self, most: int) -> bytes:
        return self._draw(st.binary(max_size=most))


@st.composite  # once, because it takes a millisecond
def _made(draw: DrawFn, make: Callable[[Draw], _Value]) -> _Value:
    return make(_HypothesisDraw(draw))


def drawn(make: Callable[[Draw], _Value]) -> SearchStrategy[_Value]:
    """Return a strategy of the values that `make` returns for a `Draw`."""
    return _made(make)


def messages(most_bytes: int = 40) -> SearchStrategy[list[bytes]]:
    """Messages of 1 to 8 frames: empty frames, frames of up to `most_bytes` bytes, and some that look like an
    envelope."""
    return drawn(lambda draw: [drawing.draw_frame(draw, most_bytes), *drawing.draw_body(draw, most_bytes)])


def high_water_marks() -> SearchStrategy[int]:
    """High-water marks: 0, which is no limit, and small ones, which are soon reached."""
    return drawn(drawing.draw_high_water_mark)


def topologies(device: Device | None = None) -> SearchStrategy[Topology]:
    """Topologies of up to three brokers, or chains of brokers, in one engine, with their limits.

    Arguments:
        device: the device of every broker; by default devices are drawn, too.
    """
    return drawn(lambda draw: drawing.draw_topology(draw, device))


def schedules(topology: Topology, most_steps: int = 60) -> SearchStrategy[tuple[Step, ...]]:
    """Schedules for a topology: the steps in their order, with faults among them."""
    return drawn(lambda draw: drawing.draw_schedule(draw, topology, most_steps))


def faults(topology: Topology) -> SearchStrategy[Step]:
    """Faults: a peer leaves or comes again, or a broker is paused, resumed or replaced.

    Other faults are part of the other strategies: peers that join late or never read and the end of the context
    (`schedules`), peers that act in the middle of a burst (`meanwhiles`), and handlers that raise (`topologies`).
    """
    return drawn(lambda draw: drawing.draw_fault(draw, topology))


def meanwhiles(topology: Topology) -> SearchStrategy[Meanwhile]:
    """Steps that a peer takes while the engine is in the middle of a turn."""
    return drawn(lambda draw: drawing.draw_meanwhile(draw, topology))


def scenarios(device: Device | None = None, most_steps: int = 60) -> SearchStrategy[Scenario]:
    """Scenarios: a topology, and a schedule for it.

    Arguments:
        device: the device of every broker; by default devices are drawn, too.
        most_steps: the greatest number of steps in the schedule.
    """
    return drawn(lambda draw: drawing.draw_scenario(draw, device, most_steps))
