"""From results to points: the panels of a plot, and the lines in each panel.

A panel has the cases whose work differs only in what its axis shows. A line is a peer. If a peer has several cases at
one place of the axis, for example with other settings, each case has a line of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass

from bench.peers.table import NONE
from bench.plots.table import Axis
from bench.results import CaseResult, CellResult, Described, QuestionResult, Spread

# Fields that are not in the title of a panel, because they follow from other fields, or only end a source.
NOT_IN_TITLES = frozenset({"high_water_mark", "limit"})


@dataclass(frozen=True)
class Point:
    """One median, with the lowest and the highest; `x` along the axis (0 for a bar)."""

    x: float
    spread: Spread


@dataclass(frozen=True)
class Line:
    """The points of one peer in the order of x."""

    label: str
    peer: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """Lines that are drawn together; `title` says how the panel differs from other panels."""

    title: str
    lines: tuple[Line, ...]


def line_panels(question: QuestionResult, axis: Axis, figure: str) -> list[Panel]:
    """The panels of one figure along an axis, without those in which no line has points at two places."""
    if figure not in question.figures:  # the figure was measured, but the question does not show it
        return []
    cases = [case for cell in question.cells for case in cell.cases if case.samples and axis.varies in case.work]
    groups: dict[tuple[tuple[str, str | int | float], ...], list[CaseResult]] = defaultdict(list)
    for case in cases:
        common = tuple((name, case.work[name]) for name in case.work if name not in NOT_IN_TITLES | {axis.varies})
        groups[common].append(case)
    shared = {name for name in dict(next(iter(groups), ())) if len({dict(group).get(name) for group in groups}) == 1}
    panels = []
    for common, members in groups.items():
        lines = tuple(line for line in _lines(members, axis, figure) if line.points)
        if any(len({point.x for point in line.points}) > 1 for line in lines):
            panels.append(Panel(_describe({name: value for name, value in common if name not in shared}), lines))
    return panels


def bar_panels(question: QuestionResult, figure: str, peers: int) -> list[Panel]:
    """A panel for each cell that compares at least `peers` brokers. Each case is a line of one point."""
    if figure not in question.figures:
        return []
    panels = [Panel(cell.label, _bars(cell, figure)) for cell in question.cells]
    return [panel for panel in panels if len({bar.peer for bar in panel.lines} - {NONE.name}) >= peers]


def _bars(cell: CellResult, figure: str) -> tuple[Line, ...]:
    spreads = ((case, case.spread(figure)) for case in cell.cases)
    return tuple(Line(case.label, case.peer, (Point(0, spread),)) for case, spread in spreads if spread is not None)


def _lines(cases: list[CaseResult], axis: Axis, figure: str) -> list[Line]:
    places = Counter((case.peer, _place(case.work, axis)) for case in cases)
    crowded = {peer for (peer, _), count in places.items() if count > 1}
    points: dict[tuple[str, str], list[Point]] = defaultdict(list)
    for case in cases:
        spread = case.spread(figure)
        if spread is not None:
            label = case.label if case.peer in crowded else case.peer
            points[label, case.peer].append(Point(_place(case.work, axis), spread))
    return [
        Line(label, peer, tuple(sorted(of_line, key=lambda point: point.x)))
        for (label, peer), of_line in points.items()
    ]


def _place(work: Described, axis: Axis) -> float:
    return axis.scale * sum(float(work.get(name, 0)) for name in axis.fields)


def _describe(common: Described) -> str:
    """The title of a panel: words are shown as they are, and numbers with their names."""
    return ", ".join(_in_words(name.replace("_", " "), value) for name, value in common.items())


def _in_words(name: str, value: str | int | float) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return name if value else f"not {name}"
    return f"{value:,} {name}"
