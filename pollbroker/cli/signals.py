"""Ctrl-C, SIGTERM and SIGHUP: the first asks for an orderly end, the second ends the process at once.

- The first stops the engine, and the program goes on to its orderly end: exit code 0.
- The second is given back to the system, which ends the process by that very signal, whatever it is doing: a shell
  reports 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP.
- One that comes within a moment of the first is the same one: `timeout` (coreutils) sends its signal to the process and
  to its group, so that it comes twice. A terminal that is closed may send its SIGHUP twice too.
- A SIGHUP or SIGINT that was ignored when the program began stays so: `nohup` wants it to outlive its terminal, and a
  shell without job control wants Ctrl-C to end what is in its foreground, and not its background jobs. SIGTERM ends it
  whatever was ignored.
"""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from pollbroker.engine import Engine

SAME_SIGNAL_S = 0.2
"""Longer than a signal takes to come twice, shorter than it takes to press Ctrl-C twice."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def exit_at_signals() -> Iterator[None]:
    """As a context, in the main thread: SIGTERM and SIGHUP exit as Ctrl-C does, through everything that cleans up.

    The exit code is what a shell reports for a process that the signal has ended: 143 or 129.
    """

    def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - what the signal module calls
        sys.exit(128 + number)

    previous: dict[signal.Signals, Any] = {}
    for one in (signal.SIGTERM, signal.SIGHUP):
        if one is signal.SIGTERM or signal.getsignal(one) is not signal.SIG_IGN:
            previous[one] = signal.signal(one, leave)
    try:
        yield
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)


class EndingSignals:
    """As a context, in the main thread: SIGINT, SIGTERM and SIGHUP stop the engine, and end nothing else."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._first_s = 0.0
        self.first: signal.Signals | None = None
        """The signal that asked for the end, or None."""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for one in _ENDING:
            if one is signal.SIGTERM or signal.getsignal(one) is not signal.SIG_IGN:
                self._previous[one] = signal.signal(one, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, handler in self._previous.items():
            signal.signal(one, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - what the signal module calls
        now_s = time.monotonic()
        if self.first is None:
            self.first, self._first_s = signal.Signals(number), now_s
            self._engine.stop()
        elif now_s - self._first_s >= SAME_SIGNAL_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
