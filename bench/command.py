"""The command line: it chooses the questions, says how long they take, and prints and writes the answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.goals import OVERALL_GOALS
from bench.load.native import LoadError, library_path
from bench.machine import origin_now
from bench.plots.write import MatplotlibMissingError, write_plots
from bench.question import Question
from bench.questions.table import QUESTIONS
from bench.report import figures_table, goals_table, spoken, summary_markdown, summary_table, timing
from bench.results import Origin, QuestionResult, Results, write_results
from bench.run import PlannedQuestion, ask, judge_overall, plan_run

OUTPUT = Path(__file__).with_name("results")
# The time left is estimated from the speed in this period. Samples take from one second to ten, so it must be long.
SPEED_PERIOD_S = 600.0


@click.command()
@click.option("--quick", is_flag=True, help="Fewer cells and shorter windows: under a minute, as an impression.")
@click.option(
    "--question",
    "names",
    multiple=True,
    type=click.Choice(list(QUESTIONS)),
    help="Ask only this question; may be given several times.",
)
@click.option("--rounds", type=click.IntRange(min=1), help="The number of rounds of each cell; by default mostly 5.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=OUTPUT,
    show_default="bench/results",
    help="The directory for the results.",
)
@click.option(
    "--name",
    help="The name of the results. By default the whole bench writes latest.json, and any other run is named after "
    "what was asked: quick.json, queue-rate.json, quick-queue-rate.json, 3-rounds.json.",
)
def main(quick: bool, names: tuple[str, ...], rounds: int | None, output: Path, name: str | None) -> None:
    """Measure pollbroker and its peers, print the figures and which goals were reached, and write them to files.

    Writes NAME.json with every sample, NAME.md with the summary, and the plots. A run that is interrupted leaves
    NAME.partial.json and does not change the last complete results. Exits with 1 if something could not be measured; a
    goal that was missed is an answer, and not an error.
    """
    chosen = chosen_questions(QUESTIONS.values(), names, quick=quick)
    plan = plan_run(chosen, quick=quick, rounds=rounds)
    try:
        library_path()  # built here, before anything is measured
    except LoadError as error:
        raise click.ClickException(str(error)) from error
    output.mkdir(parents=True, exist_ok=True)
    # Without a terminal rich would fold tables to 80 columns.
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    results = Results(
        name=name or name_of([one.question.name for one in plan] if names else [], quick=quick, rounds=rounds),
        estimated_s=sum(one.estimated_s for one in plan),
    )
    _print_head(console, origin_now(), results, plan)
    partial = output / f"{results.name}.partial.json"
    try:
        _ask_all(console, results, plan, partial)
    except KeyboardInterrupt:
        write_results(results, partial)
        _say(console, f"interrupted; what was measured is in {partial}: python -m bench.plots draws it")
        raise click.Abort from None
    results.complete = True
    partial.unlink(missing_ok=True)
    _write(console, results, output)
    if results.failures():
        raise SystemExit(1)


def chosen_questions(known: Iterable[Question], names: Sequence[str], *, quick: bool) -> list[Question]:
    """The questions that are named; without names all of them, but for those that no whole quick run has time for."""
    if names:
        return [question for question in known if question.name in names]
    return [question for question in known if question.in_whole_quick_run or not quick]


def name_of(names: Sequence[str], *, quick: bool, rounds: int | None) -> str:
    """The name of a run's files: `latest` for the whole bench, and otherwise what is different from the whole bench."""
    parts = ["quick"] if quick else []
    if names:
        parts.append("+".join(names) if len(names) <= 3 else f"{len(names)}-questions")
    if rounds is not None:
        parts.append(f"{rounds}-rounds")
    return "-".join(parts) or "latest"


def _ask_all(console: Console, results: Results, plan: Sequence[PlannedQuestion], partial: Path) -> None:
    """Fill `results`, and write them to the file `partial` after each cell."""
    began_s = time.monotonic()
    samples = sum(one.sample_count for one in plan)
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[taken]} of {task.fields[samples]}"))
    with Progress(
        *columns,
        TextColumn("{task.description}", markup=False),
        console=console,
        transient=True,
        speed_estimate_period=SPEED_PERIOD_S,
    ) as progress:
        bar = progress.add_task("", total=results.estimated_s, taken=0, samples=samples)

        def begin(description: str) -> None:
            progress.update(bar, description=description)

        def done(estimated_s: float) -> None:
            # The bar counts estimated seconds, so that questions with long samples do not distort the time left.
            progress.update(bar, advance=estimated_s, taken=progress.tasks[0].fields["taken"] + 1)

        for one in plan:
            question, question_began_s = one.question, time.monotonic()
            answer = QuestionResult(
                question.name, question.title, question.note, list(question.figures), origin_now(), one.estimated_s
            )
            results.questions.append(answer)
            for _ in ask(one, answer.cells, begin=begin, done=done):
                answer.took_s, results.took_s = time.monotonic() - question_began_s, time.monotonic() - began_s
                write_results(results, partial)
            console.print(figures_table(answer))
            if any(cell.goals for cell in answer.cells):
                console.print(goals_table(answer.cells))
            console.print()
    overall = (judge_overall(goal, results.questions) for goal in OVERALL_GOALS)
    results.goals = [verdict for verdict in overall if verdict is not None]


def _write(console: Console, results: Results, output: Path) -> None:
    if len(results.questions) > 1:  # the table of a single question has just shown the same
        console.print(summary_table(results))
    written = [output / f"{results.name}.json", output / f"{results.name}.md"]
    write_results(results, written[0])
    written[1].write_text(summary_markdown(results))
    try:
        written += write_plots(results, output)
    except MatplotlibMissingError as error:
        _say(console, f"{error}; then: python -m bench.plots {written[0]}")
    for failure in results.failures():
        _say(console, failure, style="red")
    _say(console, timing(results))
    _say(console, f"written to {output}: {', '.join(path.name for path in written)}")


def _print_head(console: Console, origin: Origin, results: Results, plan: Sequence[PlannedQuestion]) -> None:
    facts = {**origin.machine, **origin.versions}
    _say(console, ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in facts.items()))
    questions = "1 question" if len(plan) == 1 else f"{len(plan)} questions"
    samples = sum(one.sample_count for one in plan)
    _say(console, f"{questions}, {samples} samples, about {spoken(results.estimated_s)}; results: {results.name}")


def _say(console: Console, line: str, style: str | None = None) -> None:
    console.print(line, style=style, markup=False, highlight=False, soft_wrap=True)
