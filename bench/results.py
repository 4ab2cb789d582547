"""The results of a run, as plain data: every sample in the order in which it was taken. They are written to a file and
read from it.

Tables, plots and the summary are made from the results alone. So they can be made again from the file, on another
machine and without measuring.
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
"""The name of the load average in `Origin.machine`, where nothing else changes from minute to minute."""

_ONE_ITEM_A_LINE = ("questions", "cells", "cases", "goals")
"""The lists that are written to the file with one item on each line."""


@dataclass(frozen=True)
class Spread:
    """The median of some values, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread | None:
        """Return the spread of the values, or None if there are none."""
        return cls(statistics.median(values), min(values), max(values)) if values else None


@dataclass(frozen=True)
class Verdict:
    """A goal and what was measured, with one value for each round. A goal that could not be measured is not reached."""

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
        """Return True if the median is within the bound."""
        return self.spread is not None and self._within(self.spread.median)

    @property
    def reached_sometimes(self) -> bool:
        """Return True if any round was within the bound."""
        return any(self._within(value) for value in self.values)

    def _within(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass
class CaseResult:
    """One case of a cell, with one sample for each round. A case that failed has an error, and no samples after
    that."""

    label: str
    peer: str
    work: Described
    samples: list[Sample] = field(default_factory=list)
    error: str | None = None

    def values(self, figure: str) -> list[float]:
        """The values of one figure, from every sample that has it."""
        return [sample[figure] for sample in self.samples if figure in sample]

    def spread(self, figure: str) -> Spread | None:
        """The spread of one figure."""
        return Spread.of(self.values(figure))


@dataclass
class CellResult:
    """The cases of a cell, how often and how long they were measured, and whether the goals were reached."""

    label: str
    plan: Described
    cases: list[CaseResult]
    goals: list[Verdict] = field(default_factory=list)

    def ratios(self, figure: str, of: str, to: str) -> list[float]:
        """The ratio of case `of` to case `to` for one figure, in each round in which both were measured."""
        by_label = {case.label: case.samples for case in self.cases}
        return [
            sample[figure] / baseline[figure]
            for sample, baseline in zip(by_label.get(of, []), by_label.get(to, []), strict=False)
            if figure in sample and baseline.get(figure)
        ]


@dataclass(frozen=True)
class Origin:
    """When a question was asked, on which machine and with which versions. `versions` includes the commit of the
    checkout."""

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
    """The answers to several questions. `name` says what was asked and names the files; `goals` are those over several
    questions.

    The answers may come from different runs (`merge.py`), so each has its own origin.
    """

    name: str
    estimated_s: float
    took_s: float = 0.0
    complete: bool = False
    questions: list[QuestionResult] = field(default_factory=list)
    goals: list[Verdict] = field(default_factory=list)

    def verdicts(self) -> Iterator[tuple[str, str, Verdict]]:
        """Every goal with its question and cell. Goals over several questions come first."""
        for verdict in self.goals:
            yield "overall", "", verdict
        for question in self.questions:
            for cell in question.cells:
                for verdict in cell.goals:
                    yield question.name, cell.label, verdict

    def origins(self) -> list[tuple[Origin, list[str]]]:
        """The origins of the answers, each with the names of its questions, in the order of the questions.

        The time and the load of the machine differ even between the questions of one run. Those of the first question
        are used for all questions with the same origin.
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
        """One line for each case that could not be measured: its cell, and the first and the last line of its error."""
        return [
            f"{question.name}: {cell.label}: {case.label}: {_in_one_line(case.error)}"
            for question in self.questions
            for cell in question.cells
            for case in cell.cases
            if case.error is not None
        ]


def write_results(results: Results, path: Path) -> None:
    """Write the results as JSON. The file is replaced in one step, so a process that is killed leaves the old one
    whole.

    Each case and each goal is on a line of its own, as is the beginning of each question and cell. So a diff shows what
    was measured again.
    """
    beside = path.with_name(path.name + ".new")
    beside.write_text(_written(_as_json(results)) + "\n")
    beside.replace(path)


def read_results(path: Path) -> Results:
    """Read the results that `write_results` wrote."""
    fields = json.loads(path.read_text())
    return Results(
        **{
            **fields,
            "questions": [_question(question) for question in fields["questions"]],
            "goals": [_verdict(goal) for goal in fields["goals"]],
        }
    )


def _lasting(origin: Origin) -> tuple[str, Described, Described]:
    """The part of an origin that is the same for all questions of a run."""
    machine = {name: value for name, value in origin.machine.items() if name != LOAD}
    return origin.started[:10], machine, origin.versions


def _in_one_line(error: str) -> str:
    lines = error.splitlines() or ["?"]
    return lines[0] if len(lines) == 1 else f"{lines[0]}: {lines[-1]}"


def _as_json(results: Results) -> dict[str, Any]:
    """The fields, and for each goal also its spread and whether it was reached, for readers of the file."""
    fields = dataclasses.asdict(results)
    goals: list[dict[str, Any]] = [*fields["goals"]]
    goals += [goal for question in fields["questions"] for cell in question["cells"] for goal in cell["goals"]]
    for goal in goals:
        verdict = _verdict(goal)
        goal["spread"] = dataclasses.asdict(verdict.spread) if verdict.spread else None
        goal["reached"] = verdict.reached
    return fields


def _written(fields: Mapping[str, Any], margin: str = "") -> str:
    """An object as JSON, in one line except for the lists in `_ONE_ITEM_A_LINE`."""
    parts = []
    for name, value in fields.items():
        if name in _ONE_ITEM_A_LINE and value:
            inner = margin + " "
            items = ",\n".join(inner + _written(item, inner) for item in value)
            parts.append(f"{json.dumps(name)}: [\n{items}\n{margin}]")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(value)}")
    return "{" + ", ".join(parts) + "}"


def _question(fields: dict[str, Any]) -> QuestionResult:
    cells = [_cell(cell) for cell in fields["cells"]]
    return QuestionResult(**{**fields, "origin": Origin(**fields["origin"]), "cells": cells})


def _cell(fields: dict[str, Any]) -> CellResult:
    cases = [CaseResult(**case) for case in fields["cases"]]
    return CellResult(fields["label"], fields["plan"], cases, [_verdict(goal) for goal in fields["goals"]])


def _verdict(fields: dict[str, Any]) -> Verdict:
    return Verdict(fields["goal"], fields["bound"], fields["at_least"], fields["values"])
