"""The parent's end of a child process: started, asked, and ended whatever happens.

Every read has a deadline. What a child writes to its standard error goes to a file and is told only if the child fails.
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

# Thousands of brokers take seconds to bind; a child that says nothing for so long is lost.
START_DEADLINE_S = 120.0
# A busy Python broker hands its interpreter over every 5 ms; so long is a broker that does not let go at all.
ANSWER_DEADLINE_S = 30.0
END_DEADLINE_S = 5.0
TOLD_OF_STDERR = 2000  # characters: the end of a traceback
CHECKOUT = Path(__file__).resolve().parent.parent


class ChildError(Exception):
    """A child process ended, was silent for too long, or reported a failure of its load."""


class Child:
    """A process of `bench.host`; a context manager that ends it.

    `role` names it in errors; `environment` is added to the parent's.
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
        """The process's id, for what can be seen of it from outside."""
        return self._process.pid

    def started(self) -> Started:
        """Hand the child its assignment, and wait for its first line: everything in it is bound."""
        self._write(self._assignment)
        told = self._read(START_DEADLINE_S)
        return Started(
            tuple(told["frontends"]),
            tuple(told["backends"]),
            tuple(tuple(load) for load in told["loads"]),
            tuple(told["added_ms"]),
            tuple(told["removed_ms"]),
        )

    def ask(self) -> None:
        """Request a sample, to be had from `sample`. Apart, so that several children can be asked at one moment."""
        self._write(b"\n")

    def sample(self) -> ProcessSample:
        """The answer to `ask`. Raises `ChildError` if a load has failed or met a message that was not whole."""
        told = self._read(ANSWER_DEADLINE_S)
        loads = tuple(LoadSample(**load) for load in told.pop("loads"))
        for load in loads:
            if load.failure:
                raise ChildError(f"{self._role}: the load ended: {os.strerror(load.failure)}")
            if load.malformed:
                raise ChildError(f"{self._role}: {load.malformed} messages arrived with wrong frames")
        return ProcessSample(**told, loads=loads)

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
        told = json.loads(line)
        assert isinstance(told, dict)
        return told

    def _lost(self, what: str) -> ChildError:
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip()
        return ChildError(f"{self._role}: {what}\n{said[-TOLD_OF_STDERR:]}".rstrip())
