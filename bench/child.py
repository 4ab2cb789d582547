"""The parent's side of a child process: it starts the child, asks it for samples, and ends it in any case.

Every read has a deadline. The standard error of a child goes to a file, which is shown only if the child fails.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.work import Assignment, LoadSample, ProcessSample, Started

# How long a child may take to start. Thousands of brokers take seconds to bind.
START_DEADLINE_S = 120.0
# How long a child may take to answer. A busy Python broker gives the interpreter away every 5 ms, so a child that takes
# longer than this has a broker that never gives it away.
ANSWER_DEADLINE_S = 30.0
END_DEADLINE_S = 5.0
SHOWN_OF_STDERR = 2000  # characters: the end of a traceback
CHECKOUT = Path(__file__).resolve().parent.parent


class ChildError(Exception):
    """A child process ended, was silent for too long, or reported a failure of its load."""


class Child:
    """A process that runs `bench.host`. As a context manager it ends the process.

    `role` names the process in errors; `environment` is added to the parent's environment.
    """

    def __init__(self, role: str, assignment: Assignment, environment: Mapping[str, str]) -> None:
        self._role = role
        self._assignment = json.dumps(dataclasses.asdict(assignment)).encode() + b"\n"
        self._unread = b""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.host"],
            cwd=CHECKOUT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        process = self._process
        try:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(END_DEADLINE_S)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            pass
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
            self._stderr.close()

    @property
    def pid(self) -> int:
        """The id of the process, for measurements from outside."""
        return self._process.pid

    def started(self) -> Started:
        """Send the child its assignment, and wait for its first line, which it prints when everything is bound."""
        self._write(self._assignment)
        fields = self._read(START_DEADLINE_S)
        return Started(
            tuple(fields["frontends"]),
            tuple(fields["backends"]),
            tuple(tuple(load) for load in fields["loads"]),
            tuple(fields["added_ms"]),
            tuple(fields["removed_ms"]),
        )

    def ask(self) -> None:
        """Request a sample, which `sample` then reads. So several children can be asked at the same moment."""
        self._write(b"\n")

    def sample(self) -> ProcessSample:
        """Read the answer to `ask`. Raises `ChildError` if a load has failed, or has received a message with wrong
        frames."""
        fields = self._read(ANSWER_DEADLINE_S)
        loads = tuple(LoadSample(**load) for load in fields.pop("loads"))
        for load in loads:
            if load.failure:
                raise ChildError(f"{self._role}: the load ended: {os.strerror(load.failure)}")
            if load.malformed:
                raise ChildError(f"{self._role}: {load.malformed} messages arrived with wrong frames")
        return ProcessSample(**fields, loads=loads)

    def _write(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._lost("ended") from None

    def _read(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
                raise self._lost(f"said nothing for {timeout_s:.0f} s")
            read = os.read(descriptor, 1 << 16)
            if not read:
                raise self._lost("ended")
            self._unread += read
        line, self._unread = self._unread.split(b"\n", 1)
        fields = json.loads(line)
        assert isinstance(fields, dict)
        return fields

    def _lost(self, reason: str) -> ChildError:
        self._stderr.seek(0)
        errors = self._stderr.read().decode(errors="replace").strip()
        return ChildError(f"{self._role}: {reason}\n{errors[-SHOWN_OF_STDERR:]}".rstrip())
