"""`python -m tests.others [NAME]...`: the schedules with peers of other libraries, and what was seen."""

import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import zmq

from tests.others.libraries import LIBRARIES, Difference, Library
from tests.others.subjects import SUBJECTS, TRANSPORTS, Outcome, Subject, running_engines, try_schedules


@dataclass(frozen=True)
class Row:
    """What is tried at once: a device with the peers that do what libzmq does, or with one that is known not to."""

    device: str
    transport: str
    subject: Subject
    peers: str
    difference: Difference | None = None

    def as_expected(self, outcome: Outcome) -> bool:
        return (outcome.wrong is None) == (self.difference is None)

    def seen(self, outcome: Outcome) -> str:
        """What is said of it in the table."""
        if self.difference is None:
            return "as the model says" if outcome.wrong is None else f"wrong: {_in_a_line(outcome.wrong)}"
        if outcome.wrong is None:
            return f"as the model says, which was not expected: {self.difference.why}"
        return f"differs: {self.difference.why} ({_in_a_line(outcome.wrong)})"


def _in_a_line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0][:100]


def rows(library: Library, devices: Sequence[str], transports: Sequence[str]) -> Iterator[Row]:
    """What is to be tried with a library."""
    for device in devices:
        known = [difference for difference in library.differences if difference.device == device]
        subject = SUBJECTS[device].without(tuple(kind for difference in known for kind in difference.kinds))
        for transport in transports:
            yield Row(device, transport, subject, _names(subject.kinds))
            for difference in known:
                for kind in difference.kinds:
                    only = SUBJECTS[device].only(kind)
                    yield Row(device, transport, only, _names(only.kinds), difference)


def _names(kinds: tuple[tuple[int, ...], ...]) -> str:
    return " to ".join(", ".join(zmq.SocketType(kind).name for kind in side) for side in kinds)


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, type=click.Choice(sorted(LIBRARIES)))
@click.option("--examples", default=30, show_default=True, help="Schedules for each device and transport.")
@click.option("--seed", "number", default=0, show_default=True, help="What the schedules are drawn from.")
@click.option("--device", "devices", multiple=True, type=click.Choice(list(SUBJECTS)), help="Only this one.")
@click.option("--transport", "transports", multiple=True, type=click.Choice(TRANSPORTS), help="Only this one.")
@click.option("--shrink", is_flag=True, help="Make a schedule that goes wrong smaller; this may take minutes.")
def main(
    names: Sequence[str],
    examples: int,
    number: int,
    devices: Sequence[str],
    transports: Sequence[str],
    shrink: bool,
) -> None:
    """Run schedules with peers of the libraries NAME..., or of all of them.

    The exit code is 1 if a library does not do what is expected of it: what libzmq does, or what is known of it."""
    wrong = 0
    print("| library | device | transport | peers | schedules | messages | seen |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory(prefix="pollbroker-others-") as made:
        for name in names or LIBRARIES:
            start = LIBRARIES[name].prepare(Path(made))
            for row in rows(LIBRARIES[name], devices or list(SUBJECTS), transports or TRANSPORTS):
                with start() as program, running_engines() as engines:  # a program may be stuck after a difference
                    version = program.version()
                    outcome = try_schedules(
                        row.subject, engines, program, row.transport, examples=examples, number=number, shrink=shrink
                    )
                if not row.as_expected(outcome):
                    wrong += 1
                    if outcome.wrong is not None:
                        traceback.print_exception(outcome.wrong)
                cells = [f"{LIBRARIES[name].title} {version}", row.device, row.transport, row.peers]
                counts = [f"{outcome.schedules:,}", f"{outcome.messages:,}"]
                print(f"| {' | '.join([*cells, *counts, row.seen(outcome)])} |", flush=True)
    sys.exit(f"{wrong} are not as expected" if wrong else 0)


if __name__ == "__main__":
    main()
