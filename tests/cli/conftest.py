"""What the tests of the command line share."""

import signal
from collections.abc import Collection, Iterator

import pytest

from tests.support.commands import Command, Run


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts commands; those that still run at the end of the test are killed."""
    commands: list[Command] = []

    def start(*arguments: str | bytes, ignored: Collection[signal.Signals] = ()) -> Command:
        commands.append(Command(*arguments, ignored=ignored))
        return commands[-1]

    yield start
    for command in commands:
        command.kill()
