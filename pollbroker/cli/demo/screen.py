"""What the demo shows: live rates on a terminal, plain lines elsewhere, the sums and the checks at the end."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pollbroker.cli.demo.checks import Check, Sum
from pollbroker.cli.demo.comparison import Row
from pollbroker.cli.demo.contender import CONTENDERS
from pollbroker.statistics import EngineStatistics

_REFRESH_S = 0.25
_LINES_S = 1.0
"""The time between two looks at the rates. A terminal is painted four times a second; a file gets a line for each
direction every second."""


@dataclass(frozen=True)
class Rate:
    """How many messages one direction of a broker moves in a second, and has moved in all."""

    broker: str
    direction: str
    messages_s: float
    bytes_s: float
    messages: int
    """Messages since the start of the broker."""
    state: str


class ShowRates(Protocol):
    """Shows rates; `elapsed_s` is the time since the sources began."""

    def __call__(self, elapsed_s: float, rates: Sequence[Rate]) -> None: ...


def compute_rates(before: EngineStatistics, after: EngineStatistics, elapsed_s: float) -> list[Rate]:
    """Return the rates of every direction between two snapshots of the statistics."""
    rates = []
    for name, broker in after.brokers.items():
        for source, flow in broker.flows.items():
            earlier = before.brokers[name].flows[source]
            rates.append(
                Rate(
                    broker=name,
                    direction=f"to {', '.join(flow.sinks)}",
                    messages_s=(flow.sent - earlier.sent) / elapsed_s,
                    bytes_s=(flow.sent_bytes - earlier.sent_bytes) / elapsed_s,
                    messages=flow.sent,
                    state=flow.state,
                )
            )
    return rates


class Screen:
    """Prints what the demo shows to stdout."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self.refresh_s = _REFRESH_S if self._console.is_terminal else _LINES_S
        """The time between two looks at the rates."""

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(Text(text), soft_wrap=True)

    @contextmanager
    def live_rates(self) -> Iterator[ShowRates]:
        """As a context: a function that shows rates, always in the same place on a terminal, and elsewhere in new
        lines."""
        if not self._console.is_terminal:
            yield self._show_lines
            return
        with Live(_rates_table(0.0, ()), console=self._console, auto_refresh=False) as live:
            yield lambda elapsed_s, rates: live.update(_rates_table(elapsed_s, rates), refresh=True)

    def _show_lines(self, elapsed_s: float, rates: Sequence[Rate]) -> None:
        for rate in rates:
            self.say(
                f"{elapsed_s:5.1f} s  {rate.broker:<10}{rate.direction:<12}"
                f"{rate.messages_s:>11,.0f} msg/s  {rate.bytes_s / 1e6:>7.1f} MB/s"
            )

    def show_comparison(self, rows: Iterable[Row]) -> None:
        """Print the figures of both sides as a table."""
        table = Table(title="side by side", title_justify="left")
        table.add_column("measured here")
        for column in CONTENDERS:
            table.add_column(column, justify="right", no_wrap=True)
        for row in rows:
            table.add_row(row.what, row.ours, row.theirs)
        self._console.print(table)

    def show_sums(self, sums: Iterable[Sum]) -> None:
        """Print the sums as a table."""
        table = Table(title="messages", title_justify="left")
        table.add_column("broker")
        for column in ("peers sent", "broker took", "broker sent", "peers got", "lost"):
            table.add_column(column, justify="right")
        for one in sums:
            table.add_row(
                one.broker,
                f"{one.sent:,}",
                f"{one.received:,}",
                f"{one.sent_on:,}",
                f"{one.arrived:,}",
                f"{one.expected - one.arrived:,}",
            )
        self._console.print(table)

    def show_checks(self, checks: Iterable[Check]) -> None:
        """Print each check on a line, followed by a line for each thing that was wrong."""
        for check in checks:
            verdict = Text("ok      ", "green") if check.holds else Text("FAILED  ", "bold red")
            nothing = "" if check.messages else ": nothing to check, no message was sent"
            self._console.print(verdict + Text(check.claim + nothing), soft_wrap=True)
            for wrong in check.wrong:
                self.say(f"          {wrong}")


def _rates_table(elapsed_s: float, rates: Iterable[Rate]) -> Table:
    table = Table(title=f"{elapsed_s:.1f} s", title_justify="left")
    table.add_column("broker")
    table.add_column("direction")
    for column in ("msg/s", "MB/s", "messages"):
        table.add_column(column, justify="right", min_width=9)
    table.add_column("state", min_width=8)
    for rate in rates:
        table.add_row(
            rate.broker,
            rate.direction,
            f"{rate.messages_s:,.0f}",
            f"{rate.bytes_s / 1e6:.1f}",
            f"{rate.messages:,}",
            rate.state,
        )
    return table
