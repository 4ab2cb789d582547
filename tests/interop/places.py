"""Where a check runs its programs: a directory of its own, processes that are killed in the end, what they print."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support.tree import TREE

DEADLINE_S: Final = 60.0
"""How long a program may take to print what is expected of it. None takes nearly as long, except on a busy machine."""


class Program:
    """A process, and the lines that it prints, on either of its outputs."""

    def __init__(self, command: Sequence[str | Path], directory: Path) -> None:
        self.name = Path(command[-1]).name
        self.lines: list[str] = []
        environment = os.environ | {"PYTHONPATH": str(TREE), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(line.rstrip() for line in iter(self._process.stdout.readline, ""))

    def find(self, pattern: str) -> list[str]:
        """The lines that match."""
        return [line for line in self.lines.copy() if re.search(pattern, line)]

    def wait_for(self, pattern: str, times: int = 1, *, deadline_s: float = DEADLINE_S) -> str:
        """The last line that matches, once so many do. Raises `AssertionError` after the deadline."""
        end_s = time.monotonic() + deadline_s
        while len(found := self.find(pattern)) < times:
            ended = self._process.poll() is not None and not self._reader.is_alive()
            if ended or time.monotonic() > end_s:
                tail = "\n".join(self.lines[-20:])
                raise AssertionError(
                    f"{self.name} {'ended' if ended else 'did not print'} {pattern!r}; its end:\n{tail}"
                )
            time.sleep(0.02)
        return found[-1]

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill it, and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


class Place:
    """A directory of a check's own, and the processes in it.

    Arguments:
        guide: a checkout of the guide.
        built: where the guide's programs in C have been compiled.
        environment: the Python of a virtual environment with the programs of PyPI.
    """

    def __init__(self, directory: Path, guide: Path | None, built: Path | None, environment: Path | None) -> None:
        self.directory = directory
        self._guide = guide
        self._built = built
        self._environment = environment
        self._programs: list[Program] = []

    def __enter__(self) -> Self:
        self.directory.mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for program in self._programs:
            program.kill()
        shutil.rmtree(self.directory)

    def guide(self, script: str) -> Program:
        """Start one of the guide's programs in Python."""
        assert self._guide is not None
        return self._start([sys.executable, self._guide / "examples/Python" / script])

    def guide_in_c(self, name: str) -> Program:
        """Start one of the guide's programs in C."""
        assert self._built is not None
        return self._start(["stdbuf", "-oL", self._built / name])

    def module(self, *arguments: str) -> Program:
        """Start a program of the virtual environment: `module("majortomo.echo", "-w")`."""
        assert self._environment is not None
        return self._start([self._environment, "-m", *arguments])

    def code(self, code: str) -> Program:
        """Start Python on a piece of code that uses the guide's modules: what is no program of its own there."""
        assert self._guide is not None
        path = f"import sys; sys.path.insert(0, {str(self._guide / 'examples/Python')!r})\n"
        return self._start([sys.executable, "-c", path + code])

    def code_there(self, code: str) -> Program:
        """Start the Python of the virtual environment on a piece of code that uses the programs of PyPI."""
        assert self._environment is not None
        return self._start([self._environment, "-c", code])

    def _start(self, command: Sequence[str | Path]) -> Program:
        self._programs.append(Program(command, self.directory))
        return self._programs[-1]
