"""Strategies: what hypothesis draws the tests of a device from.

They draw from the description that seeds are drawn from too (`drawing.py`), so a bug that one of them finds the other
can find; hypothesis also shrinks it.
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


def drawn(make: Callable[[Draw], _Value]) -> SearchStrategy[_Value]:
    """A strategy of what `make` makes of a `Draw`."""

    @st.composite
    def made(draw: DrawFn) -> _Value:
        return make(_HypothesisDraw(draw))

    return made()


def messages(most_bytes: int = 40) -> SearchStrategy[list[bytes]]:
    """Messages of 1 to 8 frames: empty ones, any bytes up to that size, and what looks like an envelope."""
    return drawn(lambda draw: [drawing.draw_frame(draw, most_bytes), *drawing.draw_body(draw, most_bytes)])


def high_water_marks() -> SearchStrategy[int]:
    """High-water marks from none (0) to small ones, at which things happen."""
    return drawn(drawing.draw_high_water_mark)


def topologies(device: Device | None = None) -> SearchStrategy[Topology]:
    """Up to three brokers, or chains of them, in one engine, of one device or of whichever; with the limits of each."""
    return drawn(lambda draw: drawing.draw_topology(draw, device))


def schedules(topology: Topology, most_steps: int = 60) -> SearchStrategy[tuple[Step, ...]]:
    """Who acts when, and how much, in a topology; the faults are among it."""
    return drawn(lambda draw: drawing.draw_schedule(draw, topology, most_steps))


def faults(topology: Topology) -> SearchStrategy[Step]:
    """One fault: a peer leaves or comes again, a broker is paused or replaced, the context is terminated, ...

    Others are in what is drawn around it: who joins late, who never reads, who acts in the middle of a burst
    (`meanwhiles`), and, in topologies, handlers that raise.
    """
    return drawn(lambda draw: drawing.draw_fault(draw, topology))


def meanwhiles(topology: Topology) -> SearchStrategy[Meanwhile]:
    """What somebody does while the engine is in the middle of a turn."""
    return drawn(lambda draw: drawing.draw_meanwhile(draw, topology))


def scenarios(device: Device | None = None, most_steps: int = 60) -> SearchStrategy[Scenario]:
    """A topology and a schedule in it; of one device, or of whichever."""
    return drawn(lambda draw: drawing.draw_scenario(draw, device, most_steps))
