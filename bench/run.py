"""The method of measuring: cases alternate, a ratio is taken within each round, and the answer is the median.

The machines are small and noisy. When the cases alternate (A B A B), a slow minute affects both. A ratio is taken
within each round, so the noise of a round is in both numbers, and the median of the ratios is the answer.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bench.child import ChildError
from bench.question import Case, Cell, Goal, OverallGoal, Plan, Question
from bench.results import CaseResult, CellResult, QuestionResult, Verdict

# The greatest estimate for a quick run, which should end within a minute even if it takes longer than estimated.
QUICK_BUDGET_S = 50.0
# To fit into the budget, warm-ups and windows are shortened, but not to less than this share.
SHORTEST = 0.25


@dataclass(frozen=True)
class PlannedQuestion:
    """A question, and those of its cells that will be measured."""

    question: Question
    cells: tuple[Cell, ...]

    @property
    def sample_count(self) -> int:
        """How many samples the cells take."""
        return sum(cell.plan.rounds * len(cell.cases) for cell in self.cells)

    @property
    def estimated_s(self) -> float:
        """About how long the cells take."""
        return sum(cell.plan.rounds * len(cell.cases) * sample_s(self.question, cell.plan) for cell in self.cells)

    def with_rounds(self, rounds: int) -> PlannedQuestion:
        """The same with this number of rounds in every cell."""
        return PlannedQuestion(self.question, tuple(_with_rounds(cell, rounds) for cell in self.cells))

    def with_at_most(self, rounds: int) -> PlannedQuestion:
        """The same with at most this number of rounds in any cell."""
        cells = tuple(_with_rounds(cell, min(rounds, cell.plan.rounds)) for cell in self.cells)
        return PlannedQuestion(self.question, cells)

    def shortened(self, share: float) -> PlannedQuestion:
        """The same with warm-ups and windows that are shortened to this share."""
        return PlannedQuestion(self.question, tuple(_shortened(cell, share) for cell in self.cells))


def plan_run(questions: Sequence[Question], *, quick: bool, rounds: int | None) -> list[PlannedQuestion]:
    """Plan a run: with a number of rounds, or with the rounds that each question has by default.

    If a quick run would take longer than its budget, the number of rounds is reduced, in the cells with the most rounds
    first, and down to one. If it still takes too long, the windows are shortened.
    """
    asked = [PlannedQuestion(question, question.cells(quick)) for question in questions]
    if rounds is not None:
        return [one.with_rounds(rounds) for one in asked]
    if quick:
        most = max((cell.plan.rounds for one in asked for cell in one.cells), default=1)
        while most > 1 and sum(one.estimated_s for one in asked) > QUICK_BUDGET_S:
            most -= 1
            asked = [one.with_at_most(most) for one in asked]
        whole_s = sum(one.estimated_s for one in asked)
        if whole_s > QUICK_BUDGET_S:
            starts_s = sum(one.shortened(0).estimated_s for one in asked)
            share = (QUICK_BUDGET_S - starts_s) / (whole_s - starts_s)
            asked = [one.shortened(max(SHORTEST, share)) for one in asked]
    return asked


def sample_s(question: Question, plan: Plan) -> float:
    """About how long one sample takes."""
    start_s = question.start_s if plan.start_s is None else plan.start_s
    return start_s + plan.warm_up_s + plan.window_s


def ask(
    asked: PlannedQuestion, cells: list[CellResult], *, begin: Callable[[str], None], done: Callable[[float], None]
) -> Iterator[CellResult]:
    """Measure the cells of a question, one after the other, and yield each when it is complete.

    A cell is added to `cells` before its first sample, so that a run that is interrupted keeps its samples.
    `begin(description)` and `done(estimated_s)` are called around every sample, for a progress bar. A case that fails
    is recorded with its error and left out of the remaining rounds. The other cases go on.
    """
    question = asked.question
    for cell in asked.cells:
        cases = [_empty(case) for case in cell.cases]
        measured = CellResult(cell.label, dataclasses.asdict(cell.plan), cases)
        cells.append(measured)
        for _ in range(cell.plan.rounds):
            for case, result in zip(cell.cases, cases, strict=True):
                begin(f"{question.name}: {cell.label}: {case.label}")
                if result.error is None:
                    _take(question, cell.plan, case, result)
                done(sample_s(question, cell.plan))
        measured.goals += [judge(goal, measured) for goal in cell.goals]
        yield measured


def judge(goal: Goal, cell: CellResult) -> Verdict:
    """Return whether a goal of one cell was reached, with the values that were measured. If a round has no value, the
    goal has none: otherwise a round without an answer would be as good as a quick one."""
    if goal.to is None:
        case = next((case for case in cell.cases if case.label == goal.of), None)
        answered = case is not None and case.error is None and all(goal.figure in sample for sample in case.samples)
        values = case.values(goal.figure) if case is not None and answered else []
    else:
        values = cell.ratios(goal.figure, goal.of, goal.to)
    return Verdict(str(goal), goal.bound, goal.at_least, values)


def judge_overall(goal: OverallGoal, answers: Sequence[QuestionResult]) -> Verdict | None:
    """Return whether a goal over several questions was reached; None if not all of the questions were asked.

    The mean is taken within each round, over as many rounds as every cell has. If one cell has no answer, the goal has
    none: otherwise a mean could be improved by a failure.
    """
    concerned = [answer for answer in answers if answer.name in goal.questions]
    if len(concerned) < len(goal.questions):
        return None
    ratios = [
        cell.ratios(goal.figure, goal.of, goal.to)
        for answer in concerned
        for cell in answer.cells
        if {goal.of, goal.to} <= {case.label for case in cell.cases}
    ]
    return Verdict(f"{goal} ({len(ratios)} cells)", goal.bound, goal.at_least, mean_within_rounds(ratios))


def mean_within_rounds(ratios: Sequence[list[float]]) -> list[float]:
    """The geometric mean over cells of each round, for as many rounds as every cell has."""
    rounds = min((len(of_cell) for of_cell in ratios), default=0)
    return [_geometric_mean([of_cell[index] for of_cell in ratios]) for index in range(rounds)]


def _geometric_mean(ratios: list[float]) -> float:
    return statistics.geometric_mean(ratios) if all(ratios) else 0.0  # 0 has no logarithm: a cell without messages


def _with_rounds(cell: Cell, rounds: int) -> Cell:
    return replace(cell, plan=replace(cell.plan, rounds=rounds))


def _shortened(cell: Cell, share: float) -> Cell:
    plan = cell.plan
    return replace(cell, plan=replace(plan, warm_up_s=plan.warm_up_s * share, window_s=plan.window_s * share))


def _empty(case: Case) -> CaseResult:
    return CaseResult(case.label, case.peer.name, case.work.described())


def _take(question: Question, plan: Plan, case: Case, result: CaseResult) -> None:
    try:
        result.samples.append(question.measure(case, plan))
    except ChildError as error:
        result.error = str(error)
    except Exception as error:  # noqa: BLE001 - whatever happens to one case, the others go on
        result.error = f"{type(error).__name__}: {error}"
