"""The results as tables for the terminal, and as the summary of a run in Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from bench.question import FIGURES
from bench.results import CellResult, QuestionResult, Results, Spread, Verdict

# The terminal's colour for an answer, by its first word.
COLOURS: Mapping[str, str] = {"yes": "green", "no": "red", "no, but in some rounds": "yellow", "not measured": "red"}


def figures_table(question: QuestionResult) -> Table:
    """One row for each case of each cell: the median of each figure, with the lowest and the highest."""
    table = Table(title=question.title, caption=question.note or None, title_justify="left", caption_justify="left")
    table.add_column("")
    table.add_column("")
    for figure in question.figures:
        table.add_column(FIGURES[figure].heading, justify="right")
    for cell in question.cells:
        for index, case in enumerate(cell.cases):
            label = Text(cell.label if index == 0 else "")
            if case.error is not None and not case.samples:
                table.add_row(label, Text(case.label), Text("failed", style="red"))
                continue
            figures = [_dimmed(*shown(figure, case.spread(figure))) for figure in question.figures]
            table.add_row(label, Text(case.label), *figures)
        table.add_section()
    return table


def goals_table(cells: list[CellResult]) -> Table:
    """One row for each goal of some cells: the bound, the median with the lowest and the highest, and if it was
    reached."""
    table = _goals_table("")
    for cell in cells:
        for verdict in cell.goals:
            table.add_row(Text(cell.label), *_goal_row(verdict))
    return table


def summary_table(results: Results) -> Table:
    """Every goal of the run."""
    table = _goals_table("question", "cell")
    table.title, table.title_justify = counted(results), "left"
    before = ""
    for question, cell, verdict in results.verdicts():
        if question != before:
            table.add_section()
        table.add_row(question if question != before else "", Text(cell), *_goal_row(verdict))
        before = question
    return table


def summary_markdown(results: Results) -> str:
    """The summary in Markdown: the machine, the versions, how long the run took, every goal, and every figure."""
    lines = [
        f"# Results of the bench: {results.name}",
        "",
        f"Made by `python -m bench`; {timing(results)}.",
        "Each figure is the median of the rounds, in brackets the lowest and the highest.",
        "",
        *_origins_markdown(results),
        f"## {counted(results)}",
        "",
        "| question | cell | goal | bound | measured | reached |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for question, cell, verdict in results.verdicts():
        measured = " ".join(part for part in with_spread(verdict.spread) if part)
        row = (question, cell, verdict.goal, _bound(verdict), measured, _answer(verdict))
        lines.append(f"| {' | '.join(_escaped(part) for part in row)} |")
    if failures := results.failures():
        lines += ["", "## Not measured", "", *(f"- {_escaped(failure)}" for failure in failures)]
    for question_result in results.questions:
        lines += ["", *_figures_markdown(question_result)]
    return "\n".join(lines) + "\n"


def counted(results: Results) -> str:
    """How many goals were reached, in a sentence."""
    verdicts = [verdict for _, _, verdict in results.verdicts()]
    reached = sum(verdict.reached for verdict in verdicts)
    return f"{reached} of {len(verdicts)} goals reached"


def timing(results: Results) -> str:
    """How long the run was estimated to take, and how long it took."""
    return f"estimated {spoken(results.estimated_s)}, took {spoken(results.took_s)}"


def spoken(seconds: float) -> str:
    """A duration in words."""
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def shown(figure: str, spread: Spread | None) -> tuple[str, str]:
    """The median of a figure, and in brackets the lowest and the highest, in the unit of its heading."""
    return with_spread(spread, FIGURES[figure].scale, whole=FIGURES[figure].whole)


def with_spread(spread: Spread | None, scale: float = 1.0, *, whole: bool = False) -> tuple[str, str]:
    """A median, and in brackets the lowest and the highest; the brackets are empty if all are shown alike."""
    if spread is None:
        return "-", ""
    median, low, high = (_number(value * scale, whole) for value in (spread.median, spread.low, spread.high))
    return median, "" if low == high else f"({low} to {high})"


def _origins_markdown(results: Results) -> list[str]:
    """The machine and the versions, once for all questions that have the same."""
    origins = results.origins()
    lines = []
    for origin, names in origins:
        which = "all questions" if len(origins) == 1 else ", ".join(names)
        facts = {"questions": which, "began": origin.started, **origin.machine, **origin.versions}
        lines += ["| | |", "| --- | --- |"]
        lines += [f"| {_escaped(name.replace('_', ' '))} | {_escaped(str(value))} |" for name, value in facts.items()]
        lines.append("")
    return lines


def _figures_markdown(question: QuestionResult) -> list[str]:
    lines = [f"## {question.name}", "", f"{_escaped(question.title)}. {_escaped(question.note)}".rstrip(), ""]
    headings = [FIGURES[figure].heading for figure in question.figures]
    lines += [f"| | | {' | '.join(headings)} |", f"| --- | --- |{' ---: |' * len(headings)}"]
    for cell in question.cells:
        for index, case in enumerate(cell.cases):
            figures = [" ".join(shown(figure, case.spread(figure))).rstrip() for figure in question.figures]
            row = (cell.label if index == 0 else "", case.label, *figures)
            lines.append(f"| {' | '.join(_escaped(part) for part in row)} |")
    return lines


def _goals_table(*where: str) -> Table:
    table = Table(*where, "goal")
    for heading in ("bound", "measured"):
        table.add_column(heading, justify="right")
    table.add_column("reached")
    return table


def _goal_row(verdict: Verdict) -> tuple[Text, Text, Text, Text]:
    answer = _answer(verdict)
    return (
        Text(verdict.goal),
        Text(_bound(verdict), no_wrap=True),
        _dimmed(*with_spread(verdict.spread)),
        Text(answer, style=COLOURS[answer]),
    )


def _answer(verdict: Verdict) -> str:
    if verdict.spread is None:
        return "not measured"
    if verdict.reached:
        return "yes"
    return "no, but in some rounds" if verdict.reached_sometimes else "no"


def _bound(verdict: Verdict) -> str:
    return f"{'>=' if verdict.at_least else '<='} {verdict.bound:g}"


def _dimmed(median: str, brackets: str) -> Text:
    return Text.assemble(median, (f" {brackets}" if brackets else "", "dim"))


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _number(value: float, whole: bool) -> str:
    """A number with three digits, or with two after leading zeros: 1,234; 12.3; 1.23; 0.12; 0.012."""
    size = abs(value)
    if whole or size >= 100 or size == 0:
        return f"{value:,.0f}"
    decimals = 1 if size >= 10 else 2 if size >= 0.1 else 3 if size >= 0.01 else 4
    return f"{value:.{decimals}f}"
