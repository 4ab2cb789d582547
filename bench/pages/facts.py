"""The figures that templates of pages can use, each by its question, cell and case.

A template that names something that was not measured is an error; the page is not made with a gap.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.goals import GRID
from bench.peers.table import NATIVE, PROXY
from bench.question import FIGURES
from bench.report import shown, with_spread
from bench.results import LOAD, CaseResult, CellResult, Origin, QuestionResult, Results, Spread
from bench.run import mean_within_rounds


class NotMeasuredError(LookupError):
    """A page names a question, a cell or a case that the results do not have."""


@dataclass(frozen=True)
class Comparison:
    """pollbroker beside `zmq.proxy` over some cells, for the figures of rate and CPU per message."""

    cells: int
    rate: str
    slower: int
    cpu: str
    costlier: int


Place = Sequence[str]
"""A question and the label of one of its cells."""

BOTH = ("rate_per_s", "cpu_ns")
NAMES = (
    "ratio",
    "times",
    "value",
    "only",
    "span",
    "case_span",
    "ratio_span",
    "compared",
    "goals",
    "origins",
    "grid",
)


class Facts:
    """The figures of a run, as the templates name them (`names`)."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def names(self) -> Mapping[str, Callable[..., Any]]:
        """The functions that a template may call, by name."""
        return {name: getattr(self, name) for name in NAMES}

    def ratio(self, place: Place, figure: str, of: str = NATIVE.name, to: str = PROXY.name) -> str:
        """The median of the ratios of the rounds, and in brackets the lowest and the highest: `1.19 (1.06 to 1.48)`."""
        return " ".join(part for part in with_spread(self._ratio(place, figure, of, to)) if part)

    def times(self, place: Place, figure: str, of: str = NATIVE.name, to: str = PROXY.name) -> str:
        """The median of the ratios without the spread: `1.19`."""
        return with_spread(self._ratio(place, figure, of, to))[0]

    def value(self, place: Place, figure: str, case: str = NATIVE.name) -> str:
        """A figure in the unit of its heading, with its spread: `2,220 (2,104 to 2,465)`."""
        spread = self._case(self._cell(place), case).spread(figure)
        return " ".join(part for part in shown(figure, self._measured(spread, place, figure)) if part)

    def only(self, place: Place, figure: str, case: str = NATIVE.name) -> str:
        """The median of a figure without the spread: `2,220`."""
        spread = self._case(self._cell(place), case).spread(figure)
        return shown(figure, self._measured(spread, place, figure))[0]

    def span(self, places: Sequence[Place], figure: str, case: str = NATIVE.name) -> str:
        """The lowest and the highest median of a case in several cells: `1,098 to 2,213`."""
        return self._between([(place, self._case(self._cell(place), case).spread(figure)) for place in places], figure)

    def case_span(self, place: Place, figure: str) -> str:
        """The lowest and the highest median of the cases of one cell: `1.3 to 2.7`."""
        return self._between([(place, case.spread(figure)) for case in self._cell(place).cases], figure)

    def ratio_span(self, questions: Sequence[str], figure: str, transports: Sequence[str] = ()) -> str:
        """The lowest and the highest median ratio to `zmq.proxy` in the cells of questions: `0.85 to 1.12`."""
        found = [
            ((question.name, cell.label), Spread.of(cell.ratios(figure, NATIVE.name, PROXY.name)))
            for question in map(self._question, questions)
            for cell in question.cells
            if not transports or any(transport in cell.label for transport in transports)
        ]
        return self._between([(place, spread) for place, spread in found if spread is not None], None)

    def compared(self, questions: Sequence[str] = (), of: str = NATIVE.name) -> Comparison:
        """Compare pollbroker with `zmq.proxy` over all cells, of these questions or of all, in which both were
        measured. `of` is the case of pollbroker's that is compared."""
        asked = [self._question(name) for name in questions] or self._results.questions
        cells = [cell for question in asked for cell in question.cells if _compares(cell, of)]
        if not cells:
            raise NotMeasuredError(f"{', '.join(questions)}: no cell compares {of} with {PROXY.name}")
        rates, costs = ([cell.ratios(figure, of, PROXY.name) for cell in cells] for figure in BOTH)
        return Comparison(
            cells=len(cells),
            rate=_mean(rates),
            slower=sum(_median(ratios) < 1 for ratios in rates),
            cpu=_mean(costs),
            costlier=sum(_median(ratios) > 1 for ratios in costs),
        )

    def grid(self) -> tuple[str, ...]:
        """The questions of the goal for the geometric mean."""
        return GRID

    def goals(self) -> tuple[int, int]:
        """How many goals were reached, and how many there are."""
        verdicts = [verdict for _, _, verdict in self._results.verdicts()]
        return sum(verdict.reached for verdict in verdicts), len(verdicts)

    def origins(self) -> list[str]:
        """A line for each origin: its commit, date and machine. If there are several, with the names of their
        questions."""
        *named, (rest, _) = sorted(self._results.origins(), key=lambda found: len(found[1]))
        lines = [f"{', '.join(f'`{name}`' for name in names)}: {_describe_origin(origin)}" for origin, names in named]
        return [*lines, f"all other questions: {_describe_origin(rest)}" if named else _describe_origin(rest)]

    def _question(self, name: str) -> QuestionResult:
        for question in self._results.questions:
            if question.name == name:
                return question
        raise NotMeasuredError(f"{name}: not asked; python -m bench --question {name} does")

    def _cell(self, place: Place) -> CellResult:
        question, label = place
        for cell in self._question(question).cells:
            if cell.label == label:
                return cell
        raise NotMeasuredError(f"{question}: no cell {label!r}")

    def _case(self, cell: CellResult, label: str) -> CaseResult:
        for case in cell.cases:
            if case.label == label:
                return case
        raise NotMeasuredError(f"{cell.label}: no case {label!r}")

    def _ratio(self, place: Place, figure: str, of: str, to: str) -> Spread:
        found = self._cell(place)
        for case in of, to:
            self._case(found, case)
        return self._measured(Spread.of(found.ratios(figure, of, to)), place, figure)

    def _measured(self, spread: Spread | None, place: Place, figure: str) -> Spread:
        if spread is None:
            raise NotMeasuredError(f"{': '.join(place)}: no {figure}")
        return spread

    def _between(self, found: Sequence[tuple[Place, Spread | None]], figure: str | None) -> str:
        """The lowest and the highest median: of a figure in the unit of its heading, or of ratios if there is no
        figure."""
        medians = [self._measured(spread, place, figure or "ratio").median for place, spread in found]
        scale, whole = (FIGURES[figure].scale, FIGURES[figure].whole) if figure else (1.0, False)
        ends = (with_spread(Spread(end, end, end), scale, whole=whole)[0] for end in (min(medians), max(medians)))
        return " to ".join(ends)


def _compares(cell: CellResult, of: str) -> bool:
    return all(cell.ratios(figure, of, PROXY.name) for figure in BOTH)


def _median(ratios: list[float]) -> float:
    spread = Spread.of(ratios)
    assert spread is not None
    return spread.median


def _mean(ratios: Sequence[list[float]]) -> str:
    return " ".join(part for part in with_spread(Spread.of(mean_within_rounds(ratios))) if part)


def _describe_origin(origin: Origin) -> str:
    machine, versions = origin.machine, origin.versions
    day = datetime.date.fromisoformat(origin.started[:10])
    return (
        f"pollbroker {versions.get('pollbroker', '?')} on {day.day} {day:%B %Y}, {machine.get('processor', '?')} with "
        f"{machine.get('cores', '?')} cores, load average {machine.get(LOAD, '?')} at the beginning, "
        f"{versions.get('python', '?')}, libzmq {versions.get('libzmq', '?')}"
    )
