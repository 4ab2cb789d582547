"""Draws `top`: a line about the engine, a table, and a line about keys, in any size of a terminal."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, JustifyMethod, OverflowMethod, RenderResult
from rich.table import Table
from rich.text import Text

from pollbroker.cli.top.figures import Figures
from pollbroker.cli.top.view import KEYS_SHOWN, Group, View

_BARS: Final = "▁▂▃▄▅▆▇█"
_ASCII_BARS: Final = "_.-~=+*#"

_STYLES: Final = {
    "stalled": "yellow",
    "retrying": "yellow",
    "paused": "magenta",
    "failed": "bold red",
    "ended": "red",
    "removing": "cyan",
    "removed": "red",
}
"""How states are shown. They are also told in words, since not everybody sees colours."""

_LINES_AROUND: Final = 4
"""Those of the table's head, and those above and below the table."""


def sparkline(rates: Sequence[float], length: int, bars: str = _BARS) -> str:
    """The last rates as bars, relative to the greatest of them."""
    shown = rates[-length:]
    most = max(shown, default=0.0)
    if not most:
        return (bars[0] * len(shown)).rjust(length)
    return "".join(bars[min(int(rate / most * len(bars)), len(bars) - 1)] for rate in shown).rjust(length)


def short_number(number: float) -> str:
    """A number in five characters at most, such as `12.3k`."""
    if number < 1000:
        return f"{number:.0f}" if number >= 10 or number == int(number) else f"{number:.1f}"
    for unit in "kMGTP":
        number /= 1000
        if number < 999.5:
            return f"{number:.1f}{unit}" if number < 99.95 else f"{number:.0f}{unit}"
    return f"{number:.0f}P"


def short_time(seconds: float | None) -> str:
    """A duration in five characters at most, such as `3.2ms`; `-` if there is none."""
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return "<1ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.1f}ms" if seconds < 0.00995 else f"{seconds * 1000:.0f}ms"
    return f"{seconds:.1f}s" if seconds < 9.95 else f"{seconds:.0f}s"


@dataclass(frozen=True)
class _Column:
    title: str
    cell: Callable[[Figures], str | Text]
    width: int
    needs: int = 0
    """The terminal must be so wide for this column."""
    left: bool = False


def _columns(bars: str) -> Iterator[_Column]:
    yield _Column("from", lambda one: one.source, 9, left=True)
    yield _Column("state", lambda one: Text(one.state, _STYLES.get(one.state, "")), 8, left=True)
    yield _Column("in/s", lambda one: short_number(one.received_s), 5, needs=96)
    yield _Column("out/s", lambda one: short_number(one.sent_s), 5)
    yield _Column("B/s", lambda one: short_number(one.sent_bytes_s), 5, needs=96)
    yield _Column("", lambda one: sparkline(one.rates, 8, bars), 8, left=True)
    yield _Column("stall", lambda one: f"{one.stalled:.0%}", 5)
    yield _Column("held", lambda one: short_number(one.held), 5)
    yield _Column("drops", lambda one: short_number(one.dropped), 5)
    yield _Column("peers", lambda one: "-" if one.peers is None else short_number(one.peers), 5)
    yield _Column("p50", lambda one: short_time(one.wait_p50_s), 5)
    yield _Column("p99", lambda one: short_time(one.wait_p99_s), 5)


def table_of(groups: Sequence[Group], width: int, *, selected: str | None = None, ascii_only: bool = False) -> Table:
    """The brokers as a table that is so wide: a line for each direction."""
    columns = [column for column in _columns(_ASCII_BARS if ascii_only else _BARS) if column.needs <= width]
    overflow = _overflow(ascii_only)
    name_width = max(4, width - sum(column.width + 1 for column in columns))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, width=width, header_style="reverse", show_edge=False)
    table.add_column("broker", width=name_width, no_wrap=True, overflow=overflow)
    for column in columns:
        justify: JustifyMethod = "left" if column.left else "right"
        table.add_column(column.title, width=column.width, no_wrap=True, overflow=overflow, justify=justify)
    for group in groups:
        marked = group.name == selected
        for index, flow in enumerate(group.flows):
            name = Text("" if index else group.name, "bold" if marked else "")
            table.add_row(name, *(column.cell(flow) for column in columns), style="on grey30" if marked else "")
    return table


class Picture:
    """What is on the screen: it is drawn anew in whatever size the terminal has."""

    def __init__(self, view: View, endpoint: str) -> None:
        self.view = view
        self.endpoint = endpoint
        self.turns_s = 0.0
        self.trouble: str | None = None
        """Why the figures are not those of now; None if they are."""
        self.notice = ""
        """What has become of the last command."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.height or console.height
        ascii_only = not options.encoding.startswith("utf")
        lines = max(1, height - _LINES_AROUND)
        yield _cut(self._head(), width, ascii_only)
        yield _cut(self._second(), width, ascii_only)
        groups = self.view.visible(lines)
        shown = _first_lines(groups, lines)
        yield table_of(shown, width, selected=self.view.selected, ascii_only=ascii_only)
        for _ in range(lines - sum(len(group.flows) for group in shown)):
            yield Text("")
        yield Text(KEYS_SHOWN[: width - 1], "dim", end="")

    def _head(self) -> Text:
        groups = self.view.groups
        flows = [flow for group in groups for flow in group.flows]
        number = f"{len(groups)} broker{'' if len(groups) == 1 else 's'}"
        return Text(
            f"{number}  {short_number(sum(flow.received_s for flow in flows))} in/s  "
            f"{short_number(sum(flow.sent_s for flow in flows))} out/s  {short_number(self.turns_s)} turns/s  "
            f"{self.endpoint}",
            "bold",
        )

    def _second(self) -> Text:
        if self.trouble is not None:
            return Text(self.trouble, "bold red")
        if self.view.typing:
            return Text(f"filter: {self.view.filter_text}_", "bold")
        parts = [f"sorted by {self.view.sort}{', reversed' if self.view.reversed else ''}"]
        if self.view.filter_text:
            parts.append(f"filter: {self.view.filter_text} (escape ends it)")
        return Text("  ".join(part for part in (*parts, self.notice) if part))


def _cut(text: Text, width: int, ascii_only: bool) -> Text:
    text.truncate(width - 1, overflow=_overflow(ascii_only))
    return text


def _overflow(ascii_only: bool) -> OverflowMethod:
    """What becomes of a text that is too long."""
    return "crop" if ascii_only else "ellipsis"


def _first_lines(groups: Sequence[Group], lines: int) -> list[Group]:
    """The groups as far as they fit into so many lines."""
    shown: list[Group] = []
    for group in groups:
        if lines <= 0:
            break
        shown.append(Group(group.name, group.flows[:lines]))
        lines -= len(group.flows)
    return shown
