"""`pollbroker demo`: what pollbroker is good for, measured here and now.

First pollbroker and zmq.proxy are brought into the same situations, side by side (`comparison.py`). Then three brokers
run in one thread under traffic, which is paused and added to, and it is checked that nothing was lost (`traffic.py`).
"""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import click

from pollbroker.cli.arguments import some_seconds
from pollbroker.cli.demo.checks import Check
from pollbroker.cli.demo.comparison import Row, compare
from pollbroker.cli.demo.contender import CONTENDERS
from pollbroker.cli.demo.screen import Screen
from pollbroker.cli.demo.side import Side
from pollbroker.cli.demo.traffic import Outcome, run_traffic

EXIT_FAILED: Final = 1
EXIT_INTERRUPTED: Final = 130


@dataclass
class _Results:
    """All that was found so far."""

    rows: list[Row] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    outcome: Outcome | None = None


def _compare(screen: Screen, results: _Results) -> None:
    ours_name, theirs_name = CONTENDERS
    screen.say(f"{ours_name} and {theirs_name} side by side, each in a process of its own")
    with Side(ours_name) as ours, Side(theirs_name) as theirs:
        for seen in compare(ours, theirs, screen.say):
            results.rows.extend(seen.rows)
            results.checks.append(seen.check)


def _run(screen: Screen, run_s: float, results: _Results) -> bool:
    """Find out everything. Return False if Ctrl-C has ended this early."""
    with suppress(KeyboardInterrupt):
        try:
            _compare(screen, results)
        finally:
            if results.rows:
                screen.show_comparison(results.rows)
        results.outcome = run_traffic(screen, run_s)
        return not results.outcome.interrupted
    return False


@click.command(short_help="Compare brokers with zmq.proxy under traffic.")
@click.option(
    "--seconds",
    "run_s",
    type=some_seconds,
    metavar="SECONDS",
    default=3.0,
    show_default=True,
    help="How long the sources of the second part send.",
)
def demo(run_s: float) -> int:
    """Compare pollbroker with zmq.proxy, and check that nothing is lost under traffic.

    First both serve the same peers side by side: while a consumer is away, when a client has left, after PAUSE, and
    with clients that wait for each reply beside clients that do not. Then a queue, a forwarder and a streamer run in
    one thread, with a dozen peers in other processes. Meanwhile one of them is paused, and a fourth is added.

    Every figure is measured in this run. Ctrl-C ends the traffic early, and what was found so far is shown.

    Exit codes: 0 every check holds; 1 a check failed or had no message to check, or a process of the demo ended by
    itself; 130 Ctrl-C has ended it, and no check failed before; 141 its output was cut off.
    """
    screen = Screen()
    results = _Results()
    finished = _run(screen, run_s, results)
    checks = list(results.checks)
    if results.outcome is not None:
        checks += results.outcome.checks
        screen.show_sums(results.outcome.sums)
        screen.say(
            f"forwarder: not in the table: {results.outcome.probes} probes before the start, and "
            f"{results.outcome.unwanted:,} messages on a topic without subscribers"
        )
    screen.show_checks(checks)
    if not finished:
        screen.say(f"interrupted by Ctrl-C, after {len(checks)} checks")
        return EXIT_FAILED if any(check.wrong for check in checks) else EXIT_INTERRUPTED
    return 0 if all(check.holds for check in checks) else EXIT_FAILED
