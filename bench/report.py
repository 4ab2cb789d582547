"""What was measured, as tables for the terminal and as JSON with every sample."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from bench.machine import describe_versions
from bench.question import FIGURES, Question
from bench.run import CellResult, Spread, Verdict


def figures_table(question: Question, results: list[CellResult]) -> Table:
    """One row for each case of each cell: the median of each figure, with the lowest and the highest."""
    table = Table(title=question.title, caption=question.note or None, title_justify="left", caption_justify="left")
    table.add_column("")
    table.add_column("")
    for figure in question.figures:
        table.add_column(FIGURES[figure].heading, justify="right")
    for result in results:
        for index, case in enumerate(result.cell.cases):
            cell = result.cell.label if index == 0 else ""
            if case.label in result.errors:
                table.add_row(cell, case.label, "[red]failed")
                continue
            shown = [_shown(figure, result.spread(case.label, figure)) for figure in question.figures]
            table.add_row(cell, case.label, *shown)
        table.add_section()
    return table


def goals_table(results: list[CellResult]) -> Table:
    """One row for each goal: the median of the rounds, with the lowest and the highest, and whether it was reached."""
    table = Table("", "goal", title_justify="left")
    table.add_column("measured", justify="right")
    table.add_column("reached")
    for result in results:
        for verdict in result.verdicts():
            measured = _with_spread(verdict.spread)
            table.add_row(result.cell.label, str(verdict.goal), measured, _reached(verdict))
    return table


def as_json(
    machine: Mapping[str, Any], started: str, *, quick: bool, answers: Mapping[str, tuple[Question, list[CellResult]]]
) -> dict[str, Any]:
    """Everything that was measured: machine, versions, every sample in the order it was taken, goals."""
    return {
        "started": started,
        "quick": quick,
        "machine": dict(machine),
        "versions": describe_versions(),
        "questions": [
            {"name": question.name, "title": question.title, "cells": [_cell(result) for result in results]}
            for question, results in answers.values()
        ],
    }


def _cell(result: CellResult) -> dict[str, Any]:
    return {
        "label": result.cell.label,
        "plan": dataclasses.asdict(result.cell.plan),
        "cases": [
            {
                "label": case.label,
                "peer": case.peer.name,
                "work": dataclasses.asdict(case.work) | {"high_water_mark": case.work.high_water_mark},
                "samples": result.samples[case.label],
                "error": result.errors.get(case.label),
            }
            for case in result.cell.cases
        ],
        "goals": [_goal(verdict) for verdict in result.verdicts()],
    }


def _goal(verdict: Verdict) -> dict[str, Any]:
    return {
        "goal": str(verdict.goal),
        **dataclasses.asdict(verdict.goal),
        "values": verdict.values,
        "median": verdict.spread.median if verdict.spread else None,
        "reached": verdict.reached,
    }


def _reached(verdict: Verdict) -> str:
    if verdict.reached:
        return "[green]yes"
    if any(verdict.goal.reached_by(value) for value in verdict.values):
        return "[yellow]no, but in some rounds"
    return "[red]no"


def _shown(name: str, spread: Spread | None) -> str:
    return _with_spread(spread, FIGURES[name].scale, whole=FIGURES[name].whole)


def _with_spread(spread: Spread | None, scale: float = 1.0, *, whole: bool = False) -> str:
    if spread is None:
        return "-"
    median, low, high = (_number(value * scale, whole) for value in (spread.median, spread.low, spread.high))
    return f"{median} [dim]({low} to {high})"


def _number(value: float, whole: bool) -> str:
    decimals = 0 if whole or value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{decimals}f}"
