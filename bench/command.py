"""The command line: chooses the questions, says how long they take, prints the answers."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.load.native import LoadError, library_path
from bench.machine import describe_machine, describe_versions
from bench.question import Question
from bench.questions.table import QUESTIONS
from bench.report import as_json, figures_table, goals_table
from bench.run import CellResult, ask, duration_s, planned_cells, sample_count


@click.command()
@click.option("--quick", is_flag=True, help="Fewer cells, shorter windows: under a minute, and only an impression.")
@click.option(
    "--question",
    "names",
    multiple=True,
    type=click.Choice(list(QUESTIONS)),
    help="Ask this question only; may be given several times.",
)
@click.option("--rounds", type=click.IntRange(min=1), help="So many alternations of each cell instead of five.")
@click.option(
    "--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write every sample to this file."
)
def main(quick: bool, names: tuple[str, ...], rounds: int | None, json_path: Path | None) -> None:
    """Measure pollbroker beside its peers, and print what was measured and which goals were reached.

    Exits with 1 if something could not be measured; a goal that was missed is an answer, not an error.
    """
    questions = [
        (question, planned_cells(question, quick=quick, rounds=rounds))
        for name, question in QUESTIONS.items()
        if name in names or not names
    ]
    try:
        library_path()  # built here, once, before the clock runs
    except LoadError as error:
        raise click.ClickException(str(error)) from error
    # Without a terminal a table must not be folded to the 80 columns that rich assumes.
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    machine, started = describe_machine(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    told = {**machine, **describe_versions()}
    console.print(
        ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in told.items()), highlight=False, soft_wrap=True
    )
    samples = sum(sample_count(cells) for _, cells in questions)
    seconds = sum(duration_s(question, cells) for question, cells in questions)
    console.print(f"{samples} samples, about {_spoken(seconds)}")

    answers: dict[str, tuple[Question, list[CellResult]]] = {}
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=samples)
        for question, cells in questions:
            results = ask(
                question,
                cells,
                begin=lambda description: progress.update(bar, description=description),
                done=lambda: progress.advance(bar),
            )
            answers[question.name] = question, results
            console.print(figures_table(question, results), goals_table(results), "")
            if json_path is not None:  # after each question: a long run that is broken off keeps what it has
                told_json = as_json(machine, started, quick=quick, answers=answers)
                json_path.write_text(json.dumps(told_json, indent=1) + "\n")
    _print_failures(console, answers)


def _print_failures(console: Console, answers: dict[str, tuple[Question, list[CellResult]]]) -> None:
    failures = [
        f"{question.name}: {result.cell.label}: {error.splitlines()[0]}: {error.splitlines()[-1]}"
        for question, results in answers.values()
        for result in results
        for error in result.errors.values()
    ]
    for failure in failures:
        console.print(failure, style="red", markup=False, highlight=False, soft_wrap=True)
    if failures:
        raise SystemExit(1)


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"
