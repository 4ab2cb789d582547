"""Ctrl-C, SIGTERM and SIGHUP: the first signal asks for an orderly end, the second ends the process at once.

- The first signal stops the engine, and the program goes on to its orderly end, with exit code 0.
- The second signal is left to the system, which ends the process by it, whatever the process is doing. A shell reports
  130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP.
- A signal that comes within a moment of the first counts as the same one. `timeout` (coreutils) sends its signal to the
  process and to its group, so it comes twice. A terminal that is closed may send SIGHUP twice, too.
- If SIGHUP or SIGINT was ignored when the program began, it stays ignored. `nohup` ignores SIGHUP so that a program
  outlives its terminal. A shell without job control ignores SIGINT so that Ctrl-C does not end background jobs. SIGTERM
  always ends the program.
"""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

SAME_SIGNAL_S = 0.2
"""Signals within this time count as one. It is longer than a signal takes to come twice, and shorter than it takes to
press Ctrl-C twice."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def exit_at_signals() -> Iterator[None]:
    """As a context, in the main thread: SIGTERM and SIGHUP raise `SystemExit`, so that everything cleans up as at
    Ctrl-C.

    The exit code is what a shell reports for a process that the signal has ended: 143 or 129.
    """

    def leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal module passes both
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


class Stoppable(Protocol):
    """What a signal stops: an `Engine`, or a daemon."""

    def stop(self) -> None: ...


class EndingSignals:
    """As a context, in the main thread: the first SIGINT, SIGTERM or SIGHUP stops the engine and has no other effect.

    With `on_hangup`, SIGHUP calls that, each time, and ends nothing. With `on_user_signal` SIGUSR2 calls that.
    """

    def __init__(
        self,
        engine: Stoppable,
        *,
        on_hangup: Callable[[], object] | None = None,
        on_user_signal: Callable[[], object] | None = None,
    ) -> None:
        self._engine = engine
        self._on_hangup = on_hangup
        self._on_user_signal = on_user_signal
        self._first_s = 0.0
        self.first: signal.Signals | None = None
        """The signal that asked for the end, or None."""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for one in _ENDING:
            asked_for = one is signal.SIGHUP and self._on_hangup is not None
            if asked_for or one is signal.SIGTERM or signal.getsignal(one) is not signal.SIG_IGN:
                self._previous[one] = signal.signal(one, self._handle)
        if self._on_user_signal is not None:
            self._previous[signal.SIGUSR2] = signal.signal(signal.SIGUSR2, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, handler in self._previous.items():
            signal.signal(one, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signal module passes both
        if number == signal.SIGHUP and self._on_hangup is not None:
            self._on_hangup()
            return
        if number == signal.SIGUSR2 and self._on_user_signal is not None:
            self._on_user_signal()
            return
        now_s = time.monotonic()
        if self.first is None:
            self.first, self._first_s = signal.Signals(number), now_s
            self._engine.stop()
        elif now_s - self._first_s >= SAME_SIGNAL_S:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
