"""The method: cases in alternation, medians, ratios taken round by round.

The machines are small and noisy. A B A B lets a slow minute fall on both; a ratio is taken within each round and the
median of the ratios is the answer, so the noise of a round stands in both its halves.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bench.child import ChildError
from bench.question import Case, Cell, Goal, Question, Sample


@dataclass(frozen=True)
class Spread:
    """The median of some values, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        """The spread of the values; None of none."""
        return cls(statistics.median(values), min(values), max(values)) if values else None


@dataclass(frozen=True)
class Verdict:
    """A goal and what was measured: one value a round, their spread, and whether the median reached it."""

    goal: Goal
    values: list[float]
    spread: Spread | None

    @property
    def reached(self) -> bool:
        """Whether the median is within the bound; a goal that could not be measured is not reached."""
        return self.spread is not None and self.goal.reached_by(self.spread.median)


@dataclass
class CellResult:
    """The samples of a cell by the label of the case, one a round; a case that failed has an error and stops there."""

    cell: Cell
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def spread(self, label: str, figure: str) -> Spread | None:
        """The spread of one figure of one case."""
        return Spread.of([sample[figure] for sample in self.samples[label] if figure in sample])

    def verdicts(self) -> list[Verdict]:
        """What became of the goals."""
        return [Verdict(goal, values, Spread.of(values)) for goal in self.cell.goals for values in [self._values(goal)]]

    def _values(self, goal: Goal) -> list[float]:
        measured = self.samples[goal.of]
        if goal.to is None:
            return [sample[goal.figure] for sample in measured if goal.figure in sample]
        return [
            sample[goal.figure] / baseline[goal.figure]
            for sample, baseline in zip(measured, self.samples[goal.to], strict=False)  # one of them may have failed
            if goal.figure in sample and baseline.get(goal.figure)
        ]


def planned_cells(question: Question, *, quick: bool, rounds: int | None) -> tuple[Cell, ...]:
    """The cells of a question, with so many rounds each; None: as many as the question thinks right."""
    cells = question.cells(quick)
    if rounds is None:
        return cells
    return tuple(replace(cell, plan=replace(cell.plan, rounds=rounds)) for cell in cells)


def sample_count(cells: tuple[Cell, ...]) -> int:
    """How many samples the cells take."""
    return sum(cell.plan.rounds * len(cell.cases) for cell in cells)


def duration_s(question: Question, cells: tuple[Cell, ...]) -> float:
    """How long the cells of a question take, about."""
    return sum(
        cell.plan.rounds * len(cell.cases) * (question.start_s + cell.plan.warm_up_s + cell.plan.window_s)
        for cell in cells
    )


def ask(
    question: Question, cells: tuple[Cell, ...], *, begin: Callable[[str], None], done: Callable[[], None]
) -> list[CellResult]:
    """Measure cells of a question.

    `begin(description)` and `done()` are called around every sample, for a progress bar. A case that fails is recorded
    with its error and left out of the remaining rounds, the others go on.
    """
    results = []
    for cell in cells:
        result = CellResult(cell, {case.label: [] for case in cell.cases})
        for _ in range(cell.plan.rounds):
            for case in cell.cases:
                begin(f"{question.name}: {cell.label}: {case.label}")
                if case.label not in result.errors:
                    _take(question, cell, case, result)
                done()
        results.append(result)
    return results


def _take(question: Question, cell: Cell, case: Case, result: CellResult) -> None:
    try:
        result.samples[case.label].append(question.measure(case, cell.plan))
    except ChildError as error:
        result.errors[case.label] = str(error)
