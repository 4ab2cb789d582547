"""A library in a process of its own, which is driven line by line. The package's docstring has the commands."""

import itertools
import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import zmq

from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until

_MORE_S: Final = 2 * DEADLINE_S
"""How much longer than a command may take its answer is awaited: the process may be slow to have its turn."""


class Driven:
    """The program of a library, which runs until the block is left.

    Arguments:
        command: how it is started.
        environment: what is added to this process's.
    """

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        self.name = Path(command[0]).name
        self._command = command
        self._environment = os.environ | (environment or {})
        self._numbers = itertools.count()
        self._read = b""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=self._environment,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:  # it waits for messages that it still means to write
            self._process.kill()
            self._process.wait(DEADLINE_S)
        self._process.stdout.close()

    def ask(self, *words: str, time_s: float = 0) -> list[str]:
        """Send a command that takes no longer than this time, and return the words of the answer.

        Raises `AssertionError` if the answer is an error, if there is none before the deadline, or if the program ends.
        """
        assert self._process.stdin is not None
        line = " ".join(words).encode() + b"\n"
        while line:
            line = line[os.write(self._process.stdin.fileno(), line) :]
        answer = self._read_line(words[0], time_s + _MORE_S).split()
        assert answer, f"{self.name} answered {words[0]} with an empty line"
        assert answer[0] != "error", f"{self.name}: {' '.join(answer)}"
        return answer

    def _read_line(self, command: str, time_s: float) -> str:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._read:
            readable, _, _ = select.select([descriptor], [], [], time_s)
            assert readable, f"{self.name} did not answer {command} within {time_s} s"
            read = os.read(descriptor, 1 << 20)
            assert read, f"{self.name} ended at {command}"
            self._read += read
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def version(self) -> str:
        """What the library says of itself."""
        return " ".join(self.ask("version")[1:])

    def socket(self, kind: int) -> "DrivenSocket":
        return DrivenSocket(self, str(next(self._numbers)), kind)


class DrivenSocket:
    """A socket of the program, as `tests.support.schedules.peers.PeerSocket` has it."""

    def __init__(self, program: Driven, number: str, kind: int) -> None:
        self._program = program
        self._number = number
        self._open = True
        options = ["sndhwm=0", "rcvhwm=0", f"sndtimeo={DEADLINE_MS}"]
        if kind == zmq.ROUTER:
            options.append("router_mandatory=1")
        program.ask("socket", number, zmq.SocketType(kind).name, *options)

    def connect(self, endpoint: str) -> None:
        self._program.ask("connect", self._number, endpoint)

    def subscribe(self, topic: bytes) -> None:
        self._program.ask("subscribe", self._number, _word_of(topic))

    def unsubscribe(self, topic: bytes) -> None:
        self._program.ask("unsubscribe", self._number, _word_of(topic))

    def send(self, frames: Sequence[bytes]) -> None:
        words = [_word_of(frame) for frame in frames]
        wait_until(lambda: self._program.ask("send", self._number, *words, time_s=DEADLINE_S)[0] == "ok")

    def receive(self, timeout_s: float = 0) -> list[bytes] | None:
        answer, *words = self._program.ask("receive", self._number, str(round(timeout_s * 1000)), time_s=timeout_s)
        return [_frame_of(word) for word in words] if answer == "message" else None

    def close(self, linger_s: float) -> None:
        """Close it, unless it is closed."""
        if self._open:
            self._open = False
            self._program.ask("close", self._number, str(round(linger_s * 1000)))


def _word_of(frame: bytes) -> str:
    return frame.hex() or "-"


def _frame_of(word: str) -> bytes:
    return b"" if word == "-" else bytes.fromhex(word)
