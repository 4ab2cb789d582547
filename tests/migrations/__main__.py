"""`python -m tests.migrations [NAME]...`: run programs of others as they are and on pollbroker, and compare."""

import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from tests.migrations.comparing import compare
from tests.migrations.environments import Environment, build_wheel
from tests.migrations.table import PROGRAMS


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(sorted(PROGRAMS)))
@click.option("--rounds", default=3, show_default=True, help="How often the traffic is measured; medians are printed.")
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Work in this directory, and keep it.")
def main(names: tuple[str, ...], rounds: int, keep: Path | None) -> None:
    """Compare the programs NAME..., or all of them. The exit code is 1 if a test fails with pollbroker alone."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # or the directory would stay
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and so would programs
    broken = []
    with ExitStack() as stack:
        directory = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pollbroker-migrations-")))
        directory.mkdir(parents=True, exist_ok=True)
        wheel = build_wheel(directory)
        for name in names or PROGRAMS:
            comparison = compare(Environment(directory.resolve(), PROGRAMS[name], wheel), PROGRAMS[name], rounds)
            print("\n".join(comparison.lines()), flush=True)
            broken += comparison.broken
    if broken:
        sys.exit(f"{len(broken)} tests fail with pollbroker alone")


if __name__ == "__main__":
    main()
