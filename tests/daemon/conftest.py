"""What the tests of the daemon share: configurations in files, and daemons that are ended with their test."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import pytest

from pollbroker.daemon import ConfigurationError, Daemon, read_checked
from pollbroker.daemon.configuration import Configuration
from tests.support.commands import Command, Run
from tests.support.deadline import wait_until

Write: TypeAlias = Callable[..., Path]
Problems: TypeAlias = Callable[..., list[str]]
StartDaemon: TypeAlias = Callable[[Path | Configuration], Daemon]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a file, by default brokers.toml, in the directory of the test, which is the current one. Returns its
    path, which is relative."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str | bytes, name: str = "brokers.toml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_name(f"{path.name}.new")
        whole.write_bytes(text if isinstance(text, bytes) else text.encode())
        whole.replace(path)  # a daemon that reloads reads the one or the other
        return path

    return write_file


@pytest.fixture
def problems(write: Write) -> Problems:
    """The problems of a configuration, as lines."""

    def find(text: str | bytes, environment: Mapping[str, str] = os.environ) -> list[str]:
        try:
            read_checked(write(text), environment)
        except ConfigurationError as error:
            return [str(problem) for problem in error.problems]
        return []

    return find


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts commands; those that still run at the end of the test are killed."""
    commands: list[Command] = []

    def start(*arguments: str | bytes) -> Command:
        commands.append(Command(*arguments))
        return commands[-1]

    yield start
    for command in commands:
        command.kill()


@pytest.fixture
def start_daemon() -> Iterator[StartDaemon]:
    """Starts daemons, whose engines run in threads of their own; they are closed at the end of the test."""
    daemons: list[Daemon] = []

    def start(source: Path | Configuration) -> Daemon:
        daemon = Daemon(source)
        daemons.append(daemon)
        daemon.start()
        daemon.engine.start()
        wait_until(lambda: daemon.engine.running)
        return daemon

    yield start
    for daemon in daemons:
        daemon.close()


@pytest.fixture
def take_over() -> Iterator[StartDaemon]:
    """Starts a daemon that takes the place of the one that runs, and returns it when it serves. It is closed at the end
    of the test."""
    daemons: list[Daemon] = []

    def start(source: Path | Configuration) -> Daemon:
        daemon = Daemon(source)
        daemons.append(daemon)
        daemon.start(daemon.connect_to_predecessor())
        daemon.engine.start()
        return daemon

    yield start
    for daemon in daemons:
        daemon.close()
