"""`python -m bench.merge FILE`: replace answers in the results of record by those of a run of some questions.

The whole bench takes most of an hour. When a change affects only some questions, these are asked again, and their
answers replace the old ones. Each answer has its own date, commit and machine, which the pages name. Only answers as
the whole bench measures them are accepted: not those of a quick run, of a run with other rounds, of a run that was
interrupted, or with a case that failed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import click

from bench.goals import OVERALL_GOALS
from bench.pages.facts import NotMeasuredError
from bench.pages.render import RECORD, render_pages, write_pages
from bench.plots.write import write_plots
from bench.question import Question
from bench.questions.table import QUESTIONS
from bench.report import counted, summary_markdown
from bench.results import QuestionResult, Results, read_results, write_results
from bench.run import judge_overall


class RefusedError(Exception):
    """An answer is not as the whole bench measures it; the message says which answer, and why."""


def merge(record: Results, run: Results, questions: Mapping[str, Question] = QUESTIONS) -> Results:
    """Return the record with the answers of `run`, and with the goals over several questions judged again.

    Raises `RefusedError` if an answer is not as the whole bench measures it.
    """
    if not run.complete:
        raise RefusedError(f"{run.name}: the run was interrupted")
    if failures := run.failures():
        raise RefusedError(f"{run.name}: {failures[0]}")
    for answer in run.questions:
        _check_whole(answer, questions)
    by_name = {answer.name: answer for answer in (*record.questions, *run.questions)}
    known = [name for name in questions if name in by_name]
    answers = [by_name[name] for name in known]
    overall = (judge_overall(goal, answers) for goal in OVERALL_GOALS)
    return dataclasses.replace(
        record,
        estimated_s=sum(answer.estimated_s for answer in answers),
        took_s=sum(answer.took_s for answer in answers),
        questions=answers,
        goals=[verdict for verdict in overall if verdict is not None],
    )


def _check_whole(answer: QuestionResult, questions: Mapping[str, Question]) -> None:
    question = questions.get(answer.name)
    if question is None:
        raise RefusedError(f"{answer.name}: there is no such question")
    expected = [
        (cell.label, dataclasses.asdict(cell.plan), [case.label for case in cell.cases])
        for cell in question.cells(False)
    ]
    if [(cell.label, cell.plan, [case.label for case in cell.cases]) for cell in answer.cells] != expected:
        raise RefusedError(f"{answer.name}: the cells, cases and rounds are not those of the whole bench")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(file: Path) -> None:
    """Put the answers in FILE into bench/results/latest.json, and make the summary, the plots and the pages again."""
    try:
        merged = merge(read_results(RECORD), read_results(file))
        render_pages(merged)  # before anything is written: the pages name figures that must be there
    except (RefusedError, NotMeasuredError) as error:
        raise click.ClickException(str(error)) from error
    write_results(merged, RECORD)
    RECORD.with_suffix(".md").write_text(summary_markdown(merged))
    for path in (*write_plots(merged, RECORD.parent), *write_pages(merged)):
        click.echo(path)
    click.echo(f"{RECORD}: {counted(merged)}")


if __name__ == "__main__":
    main(prog_name="python -m bench.merge")
