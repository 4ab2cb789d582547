"""`pollbroker ...`, in a process of its own or in this one."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from click.testing import CliRunner, Result

from pollbroker.cli import main
from tests.support.deadline import DEADLINE_S

VARIABLES: dict[str, str] = {}
"""Variables of the commands that are started: what serves their ports, if the option `--transport` says that."""

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def dispositions(ignored: Collection[signal.Signals]) -> Iterator[None]:
    """What is started here ignores these of the ending signals and no other, whoever runs the tests (`nohup`, `&`)."""
    before = {one: signal.getsignal(one) for one in ENDING_SIGNALS}
    try:
        for one in ENDING_SIGNALS:
            signal.signal(one, signal.SIG_IGN if one in ignored else signal.SIG_DFL)
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


class Command:
    """`pollbroker ...` in a process of its own, with its lines read as they come."""

    def __init__(self, *arguments: str | bytes, ignored: Collection[signal.Signals] = ()) -> None:
        with dispositions(ignored):
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pollbroker", *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=os.environ | VARIABLES,
            )
        self.lines: list[str] = []
        self._unread = b""

    def read_until(self, word: str) -> list[str]:
        """The lines up to the one that begins with a word."""
        assert self.process.stdout is not None
        give_up_s = time.monotonic() + DEADLINE_S
        while not any(line.startswith(word) for line in self.lines):
            remaining_s = give_up_s - time.monotonic()
            assert remaining_s > 0, f"no line {word!r} came before the deadline, but {self.lines}"
            if select.select([self.process.stdout], [], [], remaining_s)[0]:
                chunk = self.process.stdout.read(1 << 16)
                assert chunk, f"it ended without a line {word!r}: {self.end()}"
                *lines, self._unread = (self._unread + chunk).split(b"\n")
                self.lines += [line.decode() for line in lines]
        return self.lines

    def addresses(self) -> dict[str, str]:
        """The address of each port, once it is ready."""
        facts = [line.split("  ")[0].split(" ") for line in self.read_until("ready")]
        return {fact[0]: fact[1] for fact in facts if len(fact) == 2}

    def end(self) -> tuple[int, list[str], str]:
        """Its exit code, its remaining lines and its stderr, once it has ended."""
        stdout, stderr = self.process.communicate(timeout=DEADLINE_S)
        stdout = stdout or b""  # it was closed here
        self.lines += (self._unread + stdout).decode().splitlines()
        return self.process.returncode, self.lines, stderr.decode()

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)


Run: TypeAlias = Callable[..., Command]


def invoke(*arguments: str) -> Result:
    """A command that ends by itself, in this process."""
    return CliRunner().invoke(main, arguments)
