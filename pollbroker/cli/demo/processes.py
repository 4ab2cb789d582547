"""The processes that the demo starts. Each gets commands on its stdin and replies on its stdout.

Every wait has a deadline. Leaving the context of `PeerProcesses` ends every process: it ends when its stdin is closed,
and is killed if it does not. Ctrl-C in a terminal is sent to all processes at once, but concerns the demo alone: the
others begin with SIGINT blocked, and end when the demo tells them to.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import click

import pollbroker
from pollbroker.cli.demo.workload import Report, report_from_json

READY_S: Final = 60.0
"""How long the peers may take to start. It is usually a second; on a busy machine a dozen interpreters need far
more."""

REPLY_S: Final = 30.0
"""How long a peer may take to carry out a command."""

_STILL_S: Final = 3.0
"""After this time, and each time again, the demo says for how many peers it still waits."""

_END_S: Final = 3.0
"""How long a peer may take to end before it is killed."""


class DemoError(click.ClickException):
    """The demo could not be carried out. This is not raised for a check that failed, which is a result."""

    exit_code = 1


def _start_without_interrupts(command: Sequence[str], environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    """Start a process with SIGINT blocked. If Ctrl-C comes meanwhile, it is raised here, and the process is ended."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment,
        )
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return process


class DemoProcess:
    """A process that runs a module of the demo.

    Arguments:
        name: the name of the process in errors.
        module: the module, of this package.
        arguments: the arguments of the module.
    """

    def __init__(self, name: str, module: str, *arguments: str) -> None:
        self.name = name
        # The process must import the same package as this one, even if another one is in the working directory (-P) or
        # installed.
        path = [str(Path(pollbroker.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self._process = _start_without_interrupts(
            [sys.executable, "-P", "-m", f"pollbroker.cli.demo.{module}", *arguments],
            os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))},
        )
        self._unread = b""

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def tell(self, word: str) -> None:
        """Send a command. Raises `DemoError` if the process has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{word}\n".encode())
        except BrokenPipeError:
            raise self._ended() from None

    def has_replied(self, wait_s: float) -> bool:
        """Wait at most `wait_s` for a reply. Return True if there is one, or if the process has ended."""
        assert self._process.stdout is not None
        return b"\n" in self._unread or bool(select.select([self._process.stdout], [], [], wait_s)[0])

    def read_reply(self, give_up_s: float) -> dict[str, Any]:
        """Return the next reply. Raises `DemoError` if the process has ended, or does not reply until `give_up_s`."""
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            remaining_s = max(0.0, give_up_s - time.monotonic())
            if not select.select([self._process.stdout], [], [], remaining_s)[0]:
                raise DemoError(f"demo: {self.name} did not reply in time")
            chunk = self._process.stdout.read(1 << 16)
            if not chunk:
                raise self._ended()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        fields = json.loads(line)
        assert isinstance(fields, dict)
        return fields

    def _ended(self) -> DemoError:
        self._process.kill()  # if it has only closed its stdout, reading its stderr would wait for its end
        assert self._process.stderr is not None
        lines = self._process.stderr.read().decode(errors="backslashreplace").split("\n")
        self._process.wait()
        last = next((line for line in reversed(lines) if line.strip()), "it printed no error")
        return DemoError(f"demo: {self.name} ended before it was told to: {last}")

    def begin_end(self) -> None:
        """Tell the process to end."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def end(self, give_up_s: float) -> None:
        """Wait until the process has ended, and kill it if it does not end in time."""
        try:
            self._process.wait(max(0.0, give_up_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()


class PeerProcess(DemoProcess):
    """The process of one peer.

    Arguments:
        role: a key of `ROLES`.
        number: the number of the peer among those of its role.
        endpoint: the endpoint that the peer connects to.
        words: the topics or streams of the peer, for roles that have some.
    """

    def __init__(self, role: str, number: int, endpoint: str, *words: str) -> None:
        super().__init__(f"{role} {number}", "peer", role, str(number), endpoint, *words)
        self.role = role
        self.number = number


class PeerProcesses:
    """The processes of several peers. Leaving the context ends them."""

    def __init__(self) -> None:
        self.members: list[PeerProcess] = []

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

    def start(self, role: str, number: int, endpoint: str, *words: str) -> None:
        """Start the process of a peer; see `PeerProcess`."""
        self.members.append(PeerProcess(role, number, endpoint, *words))

    def wait_until_ready(self, say: Callable[[str], object] | None = None) -> None:
        """Wait until each peer has reported that it is connected. `say` is called with a line if that takes long."""
        give_up_s = time.monotonic() + READY_S
        said_s = time.monotonic()
        for ready, member in enumerate(self.members):
            while not member.has_replied(0.1) and time.monotonic() < give_up_s:
                if say is not None and time.monotonic() - said_s >= _STILL_S:
                    said_s = time.monotonic()
                    say(f"  {ready} of {len(self.members)} peers are connected; this machine is slow or busy")
            member.read_reply(give_up_s)

    def tell(self, word: str, roles: Iterable[str]) -> None:
        """Send a command that has no reply to all peers of these roles."""
        for member in self._of(roles):
            member.tell(word)

    def ask(self, word: str, roles: Iterable[str]) -> list[Report]:
        """Send a command to all peers of these roles, and return their reports."""
        self.tell(word, roles)
        give_up_s = time.monotonic() + REPLY_S
        return [report_from_json(member.read_reply(give_up_s)) for member in self._of(roles)]

    def _of(self, roles: Iterable[str]) -> list[PeerProcess]:
        return [member for member in self.members if member.role in roles]
