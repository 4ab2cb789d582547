"""`pollbroker fuzz`: try seeds in the test kit's simulation, and report those that break a promise."""

import os
import time
from contextlib import closing
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from pollbroker.cli.arguments import one_of
from pollbroker.cli.signals import exit_at_signals
from pollbroker.errors import PollbrokerError
from pollbroker.standard_devices import DEVICES

_COLUMNS: Final = {"libzmq": "simulation", "wire": "streams"}
"""The environments of the test kit, by what serves the ports there."""

_MOST_SHOWN: Final = 20
"""How many failures are printed one by one. The others are only counted."""


@click.command(short_help="Look for a schedule that breaks a promise.")
@click.option(
    "--seeds", type=click.IntRange(1), help="How many seeds to try.  [default: 10000, or what --minutes allow]"
)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="The longest time to try seeds.")
@click.option("--first", type=click.IntRange(0), default=0, show_default=True, help="The first seed.")
@click.option("--jobs", type=click.IntRange(1), default=os.cpu_count() or 1, help="Processes.  [default: one a core]")
@click.option(
    "--device",
    type=one_of(DEVICES, "a device"),
    metavar="DEVICE",
    help=f"The device to test ({', '.join(DEVICES)}); by default all.",
)
@click.option(
    "--transport",
    type=click.Choice(list(_COLUMNS)),
    default="libzmq",
    show_default=True,
    help="What serves the ports: simulated sockets of libzmq, or the wire on simulated streams.",
)
@click.option("--replay", type=click.IntRange(0), metavar="SEED", help="Run one seed again, and shorten its schedule.")
def fuzz(
    seeds: int | None,
    minutes: float | None,
    first: int,
    jobs: int,
    device: str | None,
    transport: str,
    replay: int | None,
) -> int:
    """Run simulated schedules, one for each seed, and check that the engine keeps every promise.

    A seed that fails is printed, with the command that runs it again. Exits with 1 if a seed fails.
    """
    try:
        from pollbroker.testing import fuzzing
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"{error.name} is not installed; expected it for the test kit: pip install 'pollbroker[testing]'"
        ) from error
    column = _COLUMNS[transport]
    try:
        fuzzing.check_can_be_tried(device, column)
    except PollbrokerError as error:
        raise click.ClickException(str(error)) from error
    if replay is not None:
        return _replay(replay, device, column)
    console = Console(highlight=False, stderr=True)
    if seeds is None and minutes is None:
        seeds = 10_000
    failed: list[fuzzing.Finding] = []
    tried = 0
    began_s = time.monotonic()
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with (
        exit_at_signals(),
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
        closing(
            fuzzing.fuzz(first=first, seeds=seeds, minutes=minutes, jobs=jobs, device=device, column=column)
        ) as rounds,
    ):
        task = bar.add_task("seeds", total=seeds)
        for progress in rounds:
            tried = progress.seeds
            bar.update(task, completed=tried, description=f"seeds, {len(failed)} failed")
            for finding in progress.findings:
                failed.append(finding)
                if len(failed) <= _MOST_SHOWN:
                    bar.console.print(Text(f"seed {finding.seed}: {finding.account}"), soft_wrap=True)
    taken_s = time.monotonic() - began_s
    click.echo(
        f"{tried} seeds in {taken_s:.0f} s ({1000 * taken_s * jobs / max(1, tried):.1f} ms each): {len(failed)} failed"
    )
    if failed:
        option = "" if device is None else f" --device {device}"
        option += "" if transport == "libzmq" else f" --transport {transport}"
        click.echo(f"run one again: pollbroker fuzz --replay {failed[0].seed}{option}")
    return 1 if failed else 0


def _replay(seed: int, device: str | None, column: str) -> int:
    from pollbroker.testing import fuzzing

    findings = fuzzing.check_seeds(seed, 1, device, column)
    if not findings:
        click.echo(f"seed {seed}: every promise was kept")
        return 0
    click.echo(f"seed {seed}: {findings[0].account}")
    scenario = fuzzing.shortest_failing(seed, device, column)
    click.echo(f"the shortest schedule that fails:\n{scenario}")
    return 1
