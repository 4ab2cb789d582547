"""What was measured, as plain data: every sample in the order it was taken, and the same again from a file.

Tables, plots and the summary are made from these and from nothing else, so whatever a run shows can be shown again from
its file, on another machine and without measuring.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.question import Sample

Described = Mapping[str, str | int | float]

LOAD = "load_average_1min"
"""The name of the load average in `Origin.machine`: the one thing there that changes by the minute."""

_ONE_ITEM_A_LINE = ("questions", "cells", "cases", "goals")
"""The lists of a file that are written with one item a line."""


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
    """A goal and what was measured, one value a round. A goal that could not be measured is not reached."""

    goal: str
    bound: float
    at_least: bool
    values: list[float]

    @property
    def spread(self) -> Spread | None:
        """The median of the rounds, with the lowest and the highest."""
        return Spread.of(self.values)

    @property
    def reached(self) -> bool:
        """Whether the median is within the bound."""
        return self.spread is not None and self._within(self.spread.median)

    @property
    def reached_sometimes(self) -> bool:
        """Whether any round was within the bound."""
        return any(self._within(value) for value in self.values)

    def _within(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass
class CaseResult:
    """One case of a cell: one sample a round. A case that failed has an error, and no samples after it."""

    label: str
    peer: str
    work: Described
    samples: list[Sample] = field(default_factory=list)
    error: str | None = None

    def values(self, figure: str) -> list[float]:
        """One figure of every sample that has it."""
        return [sample[figure] for sample in self.samples if figure in sample]

    def spread(self, figure: str) -> Spread | None:
        """The spread of one figure."""
        return Spread.of(self.values(figure))


@dataclass
class CellResult:
    """The cases of a cell, how often and how long they were measured, and what became of the goals."""

    label: str
    plan: Described
    cases: list[CaseResult]
    goals: list[Verdict] = field(default_factory=list)

    def ratios(self, figure: str, of: str, to: str) -> list[float]:
        """One ratio a round of one figure, of one case to another; none where a case is absent or has failed."""
        by_label = {case.label: case.samples for case in self.cases}
        return [
            sample[figure] / baseline[figure]
            for sample, baseline in zip(by_label.get(of, []), by_label.get(to, []), strict=False)
            if figure in sample and baseline.get(figure)
        ]


@dataclass(frozen=True)
class Origin:
    """When, on what and with which versions a question was asked. `versions` has the commit of the checkout."""

    started: str
    machine: Described
    versions: Described


@dataclass
class QuestionResult:
    """The answer to one question: the cells measured so far, and the time that was estimated and taken."""

    name: str
    title: str
    note: str
    figures: list[str]
    origin: Origin
    estimated_s: float
    took_s: float = 0.0
    cells: list[CellResult] = field(default_factory=list)


@dataclass
class Results:
    """Answers. `name` says what was asked and names the files; `goals` are those over several questions.

    They need not be of one run (`merge.py`), so each answer has its own origin.
    """

    name: str
    estimated_s: float
    took_s: float = 0.0
    complete: bool = False
    questions: list[QuestionResult] = field(default_factory=list)
    goals: list[Verdict] = field(default_factory=list)

    def verdicts(self) -> Iterator[tuple[str, str, Verdict]]:
        """Every goal, those over several questions first: the question, the cell, what became of it."""
        for verdict in self.goals:
            yield "overall", "", verdict
        for question in self.questions:
            for cell in question.cells:
                for verdict in cell.goals:
                    yield question.name, cell.label, verdict

    def origins(self) -> list[tuple[Origin, list[str]]]:
        """Where the answers come from, in the order of the questions: each origin with the names of its questions.

        The hour and the load of the machine are not the same for any two questions, even of one run: both are those
        of the first one.
        """
        found: list[tuple[Origin, list[str]]] = []
        for question in self.questions:
            same = (names for origin, names in found if _lasting(origin) == _lasting(question.origin))
            names = next(same, None)
            if names is None:
                found.append((question.origin, [question.name]))
            else:
                names.append(question.name)
        return found

    def failures(self) -> list[str]:
        """One line for each case that could not be measured: where, and the first and the last line of its error."""
        return [
            f"{question.name}: {cell.label}: {case.label}: {_in_one_line(case.error)}"
            for question in self.questions
            for cell in question.cells
            for case in cell.cases
            if case.error is not None
        ]


def write_results(results: Results, path: Path) -> None:
    """Write a run as JSON, at once: a run that is killed while it writes leaves the file as it was.

    Each case and each goal is one line, and so is the head of each question and of each cell, so a diff shows what
    was measured again.
    """
    beside = path.with_name(path.name + ".new")
    beside.write_text(_written(_as_json(results)) + "\n")
    beside.replace(path)


def read_results(path: Path) -> Results:
    """The run that `write_results` wrote."""
    told = json.loads(path.read_text())
    return Results(
        **{
            **told,
            "questions": [_question(question) for question in told["questions"]],
            "goals": [_verdict(goal) for goal in told["goals"]],
        }
    )


def _lasting(origin: Origin) -> tuple[str, Described, Described]:
    """What does not change from one question of a run to the next."""
    machine = {name: value for name, value in origin.machine.items() if name != LOAD}
    return origin.started[:10], machine, origin.versions


def _in_one_line(error: str) -> str:
    lines = error.splitlines() or ["?"]
    return lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1]}"


def _as_json(results: Results) -> dict[str, Any]:
    """The fields as they are, and beside each goal what a reader would have to work out."""
    told = dataclasses.asdict(results)
    goals: list[dict[str, Any]] = [*told["goals"]]
    goals += [goal for question in told["questions"] for cell in question["cells"] for goal in cell["goals"]]
    for goal in goals:
        verdict = _verdict(goal)
        goal["spread"] = dataclasses.asdict(verdict.spread) if verdict.spread else None
        goal["reached"] = verdict.reached
    return told


def _written(told: Mapping[str, Any], margin: str = "") -> str:
    """An object as JSON: in one line, but for its lists of `_ONE_ITEM_A_LINE`."""
    parts = []
    for name, value in told.items():
        if name in _ONE_ITEM_A_LINE and value:
            inner = margin + " "
            items = ",\n".join(inner + _written(item, inner) for item in value)
            parts.append(f"{json.dumps(name)}: [\n{items}\n{margin}]")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(value)}")
    return "{" + ", ".join(parts) + "}"


def _question(told: dict[str, Any]) -> QuestionResult:
    cells = [_cell(cell) for cell in told["cells"]]
    return QuestionResult(**{**told, "origin": Origin(**told["origin"]), "cells": cells})


def _cell(told: dict[str, Any]) -> CellResult:
    cases = [CaseResult(**case) for case in told["cases"]]
    return CellResult(told["label"], told["plan"], cases, [_verdict(goal) for goal in told["goals"]])


def _verdict(told: dict[str, Any]) -> Verdict:
    return Verdict(told["goal"], told["bound"], told["at_least"], told["values"])
