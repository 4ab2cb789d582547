"""Signals of a client of control: Ctrl-C ends it while it waits, and at no other moment.

Python runs the handler of a signal between any two instructions of the main thread, and Ctrl-C raises there. If that
happens while a socket or its monitor is being opened or closed, the socket stays open, and the end of its context waits
for it for ever.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Self

_DEFERRED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Those whose handlers raise: Python's own for Ctrl-C, and what a program sets in order to clean up at its end."""


class DeferredSignals:
    """As a context: handlers of signals run while `waiting()` is entered, and at the end, and at no other time.

    Handlers written in Python are meant. Outside the main thread, where Python runs none, this does nothing.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Any] = {}
        self._pending: list[int] = []
        self._waiting = False

    def __enter__(self) -> Self:
        try:
            for one in _DEFERRED:
                handler = signal.getsignal(one)
                if callable(handler):
                    self._handlers[one] = handler
                    signal.signal(one, self._handle)
        except ValueError:  # not the main thread: `threading` would be wrong about that where gevent has patched it
            self._handlers.clear()
        return self

    def __exit__(self, *exception: object) -> None:
        for one, handler in self._handlers.items():
            signal.signal(one, handler)
        self._run_pending()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """As a context: run the handlers of signals that have come, and of those that come."""
        self._waiting = True
        try:
            self._run_pending()
            yield
        finally:
            self._waiting = False

    def _run_pending(self) -> None:
        while self._pending:
            one = self._pending.pop(0)
            self._handlers[one](one, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._waiting:
            self._handlers[number](number, frame)
        else:
            self._pending.append(number)
