"""Drawing: the only module that uses matplotlib. It does not use pyplot, which may need a display and keeps a state."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from bench.peers.table import NATIVE, NONE, PEERS, POLLER, PROXY, PYTHON
from bench.plots.panels import Line, Panel
from bench.plots.table import AXIS_LABELS, Axis
from bench.question import FIGURES

# Colours by Okabe and Ito, which the colour-blind can distinguish, for the peers that are in most pictures.
FIXED = {
    NATIVE.name: "#0072B2",
    PROXY.name: "#D55E00",
    NONE.name: "#777777",
    PYTHON.name: "#56B4E9",
    POLLER.name: "#009E73",
}
OTHERS = ("#CC79A7", "#E69F00", "#8C564B", "#9467BD", "#BCBD22", "#17BECF", "#7F3C8D", "#A5AA99", "#E73F74", "#4B6A53")
UNKNOWN = "#000000"
MARKERS = "os^Dv<>Xph"
# An axis is logarithmic if the ratio of its greatest and least value is greater than this. Otherwise it starts at 0.
LOGARITHMIC_FROM = 8.0
PANEL_INCHES = (4.2, 3.3)
BAR_INCHES = 0.34
DOTS_PER_INCH = 110


def _colours() -> Mapping[str, str]:
    rest = zip((name for name in PEERS if name not in FIXED), cycle(OTHERS), strict=False)
    return MappingProxyType({**FIXED, **dict(rest)})


COLOURS = _colours()


def draw_lines(path: Path, heading: str, footing: str, axis: Axis, rows: Mapping[str, list[Panel]]) -> None:
    """Write a picture of a row of panels for each figure."""
    columns = max(len(panels) for panels in rows.values())
    width, height = max(PANEL_INCHES[0] * columns, 6.5), PANEL_INCHES[1] * len(rows) + 1.2
    picture = _picture(width, height, heading, footing)
    grid = picture.subplots(len(rows), columns, squeeze=False, sharey="row")
    for axes_row, (figure, panels) in zip(grid, rows.items(), strict=True):
        for axes in axes_row[len(panels) :]:
            axes.set_visible(False)
        for axes, panel in zip(axes_row, panels, strict=False):
            _draw_line_panel(axes, panel, axis, figure)
        _scale_values(axes_row[0], [line for panel in panels for line in panel.lines], FIGURES[figure].scale)
        axes_row[0].set_ylabel(AXIS_LABELS.get(figure, FIGURES[figure].heading))
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    picture.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 4), frameon=False
    )
    _save(picture, path)


def draw_bars(path: Path, heading: str, footing: str, figure: str, panels: list[Panel]) -> None:
    """Write a picture of horizontal bars, the longest on top, one panel below the other."""
    heights = [len(panel.lines) * BAR_INCHES + 0.7 for panel in panels]
    picture = _picture(9.0, sum(heights) + 1.2, heading, footing)
    grid = picture.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for (axes,), panel in zip(grid, panels, strict=True):
        _draw_bar_panel(axes, panel, figure)
    _save(picture, path)


def _draw_line_panel(axes: Axes, panel: Panel, axis: Axis, figure: str) -> None:
    scale = FIGURES[figure].scale
    for index, line in enumerate(panel.lines):
        xs = [point.x for point in line.points]
        colour = COLOURS.get(line.peer, UNKNOWN)
        style = ":" if line.peer == NONE.name else "-"
        medians = [point.spread.median * scale for point in line.points]
        axes.plot(
            xs,
            medians,
            label=line.label,
            color=colour,
            linestyle=style,
            marker=MARKERS[index % len(MARKERS)],
            markersize=4,
        )
        lows = [point.spread.low * scale for point in line.points]
        highs = [point.spread.high * scale for point in line.points]
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.15, linewidth=0)
    places = sorted({point.x for line in panel.lines for point in line.points})
    if places[0] > 0 and places[-1] / places[0] > LOGARITHMIC_FROM:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _size(value) if axis.in_bytes else f"{value:,.0f}"))
    axes.set_xlabel(axis.label)
    axes.set_title(panel.title, fontsize="medium")
    axes.grid(alpha=0.25, which="both")


def _scale_values(axes: Axes, lines: list[Line], scale: float) -> None:
    values = [
        value * scale for line in lines for point in line.points for value in (point.spread.low, point.spread.high)
    ]
    if min(values) > 0 and max(values) / min(values) > LOGARITHMIC_FROM:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, max(values) * 1.08 or 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _draw_bar_panel(axes: Axes, panel: Panel, figure: str) -> None:
    scale = FIGURES[figure].scale
    bars = sorted(panel.lines, key=lambda line: line.points[0].spread.median)
    spreads = [bar.points[0].spread for bar in bars]
    medians = [spread.median * scale for spread in spreads]
    reach = (
        [(spread.median - spread.low) * scale for spread in spreads],
        [(spread.high - spread.median) * scale for spread in spreads],
    )
    colours = [COLOURS.get(bar.peer, UNKNOWN) for bar in bars]
    axes.barh(range(len(bars)), medians, color=colours, xerr=reach, error_kw={"linewidth": 1, "alpha": 0.6})
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    for place, (median, spread) in enumerate(zip(medians, spreads, strict=True)):
        axes.text(
            spread.high * scale * 1.04, place, f"{median:,.3g}" if median < 100 else f"{median:,.0f}", va="center"
        )
    lowest = min((median for median in medians if median > 0), default=1.0)
    axes.set_xscale("log")
    axes.set_xlim(lowest / 3, max(spread.high for spread in spreads) * scale * 2.5 or 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel(AXIS_LABELS.get(figure, FIGURES[figure].heading))
    axes.set_title(panel.title, fontsize="medium")
    axes.grid(alpha=0.25, axis="x")
    axes.set_axisbelow(True)


def _picture(width: float, height: float, heading: str, footing: str) -> Picture:
    picture = Picture(figsize=(width, height), layout="constrained")
    picture.suptitle(f"{heading}\n{footing}", fontsize="medium", wrap=True)
    return picture


def _save(picture: Picture, path: Path) -> None:
    FigureCanvasAgg(picture)
    picture.savefig(path, dpi=DOTS_PER_INCH)


def _size(size: float) -> str:
    """A size in bytes as the tables name it: 16 B, 1 KiB, 1 MiB."""
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor:
            return f"{size / factor:g} {unit}"
    return f"{size:g} B"
