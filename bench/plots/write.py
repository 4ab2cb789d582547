"""Writes the plots of a run: those for which it has data, with separate pictures for each question."""

from __future__ import annotations

from pathlib import Path

from bench.plots.panels import bar_panels, line_panels
from bench.plots.table import PLOTS, BarPlot, LinePlot
from bench.results import Origin, QuestionResult, Results


class MatplotlibMissingError(Exception):
    """The plots cannot be drawn here; the message says what to install."""


def write_plots(results: Results, directory: Path) -> list[Path]:
    """Draw the plots of a run as NAME-QUESTION-PLOT.png and return their paths; those of an earlier run are replaced.

    Raises `MatplotlibMissingError` where matplotlib is not installed; everything else works without it.
    """
    try:
        import bench.plots.draw  # noqa: F401 - tried before any earlier plot is removed
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise MatplotlibMissingError("no plots without matplotlib: pip install 'pollbroker[bench]'") from error
    questions = [(plot, question) for question in results.questions for plot in PLOTS]
    written = []
    for plot, question in questions:
        path = directory / f"{results.name}-{question.name}-{plot.name}.png"
        path.unlink(missing_ok=True)  # a picture of another run must not stay beside the figures of this one
        drawn = _draw(path, plot, question, _where(question.origin))
        written += [path] if drawn else []
    return written


def _draw(path: Path, plot: LinePlot | BarPlot, question: QuestionResult, where: str) -> bool:
    """Draw one plot of one question. Return False if there is no data for it."""
    from bench.plots.draw import draw_bars, draw_lines

    if isinstance(plot, BarPlot):
        panels = bar_panels(question, plot.figure, plot.peers)
        if panels:
            draw_bars(path, question.title, where, plot.figure, panels)
        return bool(panels)
    rows = {figure: panels for figure in plot.figures if (panels := line_panels(question, plot.axis, figure))}
    if rows:
        draw_lines(path, question.title, where, plot.axis, rows)
    return bool(rows)


def _where(origin: Origin) -> str:
    """The machine and the versions in one line, so that a picture can be understood without the results."""
    machine, versions = origin.machine, origin.versions
    parts = [str(machine.get("processor", "")), f"{machine.get('cores', '?')} cores"]
    parts += [f"libzmq {versions.get('libzmq', '?')}", str(versions.get("python", "")), origin.started[:10]]
    return ", ".join(part for part in parts if part)
