"""The statistics of brokers as a table, for people: `pollbroker ctl STATS`."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pollbroker.statistics import DROPS

_COLUMNS: Final = ("broker", "state", "direction", "flow", "received", "sent", "held", "dropped", "stalled")
_NUMBERS: Final = frozenset({"received", "sent", "held", "dropped", "stalled"})

_FILE_COLUMNS: Final = 200
"""The width of a table that goes to a file or another program."""


def print_table(ask: Callable[[], Mapping[str, Any]], watch_s: float | None) -> None:
    """Print the statistics, which `ask` returns as they are in JSON; with `watch_s` again and again, in one place."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_COLUMNS)
    first = make_table(ask())
    if watch_s is None or not console.is_terminal:
        console.print(first)
    if watch_s is None:
        return
    if not console.is_terminal:
        while True:
            time.sleep(watch_s)
            console.print(make_table(ask()))
    with Live(first, console=console, auto_refresh=False) as live:
        while True:
            time.sleep(watch_s)
            live.update(make_table(ask()), refresh=True)


def make_table(statistics: Mapping[str, Any]) -> Table:
    """A table of the JSON of STATS, with a row for each direction of each broker."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")  # it fits into 80 columns
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=name in _NUMBERS)
    brokers = statistics["brokers"] if "brokers" in statistics else {statistics["name"]: statistics}
    for name, broker in brokers.items():
        for row in _rows(name, broker):
            table.add_row(*map(Text, row))  # a name is no markup
    return table


def _rows(name: str, broker: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    state = broker["state"] + (", disabled" if broker.get("disabled") else "")
    for flow in broker["flows"].values():
        yield (
            name,
            state,
            f"{flow['source']} to {', '.join(flow['sinks'])}",
            flow["state"],
            str(flow["received"]),
            str(flow["sent"]),
            str(flow["held"]),
            str(sum(flow.get(rule, 0) for rule in DROPS)),  # an engine of another version may not know each
            f"{flow['stalled_s']:.1f} s",
        )
        name = state = ""
    if broker["error"]:
        yield ("", f"error: {broker['error']}")
