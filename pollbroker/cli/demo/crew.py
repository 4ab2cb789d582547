"""The demo's crew: its peers, each in a fresh process, steered through its stdin and heard through its stdout.

Every wait has a deadline, and leaving the crew's context ends every process, whatever has happened: the end of its
stdin is what tells a peer to end, and one that does not is killed.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import click

import pollbroker
from pollbroker.cli.demo.workload import Report, report_from_json

READY_S: Final = 60.0
"""How long the peers may take to start: on a busy machine a dozen interpreters need many times their usual second."""

REPLY_S: Final = 30.0
"""How long a peer may take for what it is told."""

_END_S: Final = 3.0
"""How long a peer may take to end by itself."""


class DemoError(click.ClickException):
    """The demo could not be carried out. (A check that failed is none: it is a result.)"""

    exit_code = 1


class Member:
    """One peer."""

    def __init__(self, role: str, number: int, endpoint: str, *words: str) -> None:
        self.role = role
        self.number = number
        # The very package that runs here, whatever is in the working directory (-P) or installed elsewhere.
        path = [str(Path(pollbroker.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pollbroker.cli.demo.peer", role, str(number), endpoint, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
        )
        self._unread = b""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def tell(self, word: str) -> None:
        """Write a word to its stdin. Raises `DemoError` if it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{word}\n".encode())
        except BrokenPipeError:
            raise self._ended() from None

    def hear(self, give_up_s: float) -> dict[str, Any]:
        """The next object from its stdout. Raises `DemoError` if it has ended, or says nothing until `give_up_s`."""
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            remaining_s = max(0.0, give_up_s - time.monotonic())
            if not select.select([self._process.stdout], [], [], remaining_s)[0]:
                raise DemoError(f"demo: {self.role} {self.number} said nothing in time")
            chunk = self._process.stdout.read(1 << 16)
            if not chunk:
                raise self._ended()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        fields = json.loads(line)
        assert isinstance(fields, dict)
        return fields

    def _ended(self) -> DemoError:
        self._process.kill()  # if it has only closed its stdout: its stderr is now read to the end
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode(errors="backslashreplace").split("\n")
        self._process.wait()
        last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
        return DemoError(f"demo: {self.role} {self.number} ended before it was told to: {last}")

    def begin_end(self) -> None:
        """Tell it to end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def end(self, give_up_s: float) -> None:
        """Wait for its end, and kill it if it does not come in time."""
        try:
            self._process.wait(max(0.0, give_up_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


class Crew:
    """All peers of the demo."""

    def __init__(self) -> None:
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self.members:
            member.begin_end()
        give_up_s = time.monotonic() + _END_S
        for member in self.members:
            member.end(give_up_s)

    def hire(self, role: str, number: int, endpoint: str, *words: str) -> None:
        """Start a peer."""
        self.members.append(Member(role, number, endpoint, *words))

    def wait_until_ready(self) -> None:
        """Wait until each has said that it is connected."""
        give_up_s = time.monotonic() + READY_S
        for member in self.members:
            member.hear(give_up_s)

    def tell(self, word: str, roles: Iterable[str]) -> None:
        """Tell a word to all of these roles, which they do not answer."""
        for member in self._of(roles):
            member.tell(word)

    def ask(self, word: str, roles: Iterable[str]) -> list[Report]:
        """Tell a word to all of these roles, and return their reports."""
        self.tell(word, roles)
        give_up_s = time.monotonic() + REPLY_S
        return [report_from_json(member.hear(give_up_s)) for member in self._of(roles)]

    def _of(self, roles: Iterable[str]) -> list[Member]:
        return [member for member in self.members if member.role in roles]
