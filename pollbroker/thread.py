"""The thread that `Engine.start` begins and `Engine.close` ends.

The thread runs the loop until the loop is stopped, or until nothing is left to do. In the second case it is started
again when a broker is added. Starting and closing share one lock, since nobody would end a thread that was started
while the engine closes.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from pollbroker.errors import EngineError, describe_error
from pollbroker.loop import Loop

_logger = logging.getLogger("pollbroker")


class Thread(Protocol):
    """As much of `threading.Thread` as is used here."""

    def start(self) -> object: ...

    def is_alive(self) -> bool: ...

    def join(self) -> object: ...


class Lock(Protocol):
    """As much of `threading.RLock` as is used here."""

    def acquire(self, blocking: bool = True) -> bool: ...

    def release(self) -> None: ...


class EngineThread:
    """The engine's own thread, if it has one. Every method may be called from any thread, except that `join` may not be
    called from the engine's own.

    Arguments:
        loop: the loop that the thread runs.
        run: the function that runs it, `Engine.run`.
    """

    def __init__(self, loop: Loop, run: Callable[[], None]) -> None:
        self._loop = loop
        self._run = run
        self._thread: Thread | None = None
        self._runs_at_start = 0
        """The value of `Calls.runs` when the thread was started. While it is the same, the thread has not begun to
        run."""
        self._ended_by: BaseException | None = None
        """The exception that ended the thread, if there was one."""
        self._start_and_end_lock: Lock = threading.RLock()
        self._ending = False

    @property
    def alive(self) -> bool:
        """True while the thread exists: it has begun, and has not ended yet."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Start the thread. Raises `EngineError` if a thread runs the loop, if this one was started and is about to, or
        if the engine is being closed."""
        self._loop.calls.check_usable()
        with self._starting_or_ending() as may:
            if not may or self._ending:
                raise EngineError("the engine is being started or closed already")
            self._loop.calls.check_not_running()
            if self.alive and self._loop.calls.runs == self._runs_at_start and not self._loop.stop_called:
                raise EngineError("the engine is running already")
            self._begin()

    def restart_if_out_of_work(self) -> None:
        """Start the thread again if it has ended because nothing was left to do. To be called when a broker was
        added."""
        if self._loop.ran_out_of_work and self._thread is not None:
            with self._starting_or_ending() as may:
                calls = self._loop.calls
                if may and self._loop.ran_out_of_work and not (calls.running or calls.closed or self._ending):
                    self._begin()

    @contextmanager
    def _starting_or_ending(self) -> Iterator[bool]:
        """Let no other thread start or end this one. Yields False within a turn of the loop, if another thread does so
        now: it may be waiting for the end of that turn."""
        has_lock = self._start_and_end_lock.acquire(blocking=not self._loop.calls.in_own_turn())
        try:
            yield has_lock
        finally:
            if has_lock:
                self._start_and_end_lock.release()

    def _begin(self) -> None:
        self.join()
        self._ended_by = None
        self._runs_at_start = self._loop.calls.runs
        self._thread = self._make_thread()
        self._thread.start()

    def _make_thread(self) -> Thread:
        return threading.Thread(target=self._run_and_log, name="pollbroker", daemon=True)

    def _run_and_log(self) -> None:
        try:
            self._run()
        except BaseException as error:  # noqa: BLE001 - `close` raises it
            self._note_end(error)

    def _note_end(self, error: BaseException) -> None:
        """No caller sees what has ended the thread, so it is logged, and `Engine.close` raises."""
        self._ended_by = error
        _logger.critical("the engine's thread was ended by %s", describe_error(error), exc_info=error)

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def ending(self) -> Iterator[bool]:
        """Keep the thread from being started while the engine closes. Yields False if the calling thread is closing the
        engine already.

        If Ctrl-C comes while closing waits for the thread, the engine is not closed, and can be closed again.
        """
        with self._starting_or_ending() as may:
            if not may or self._ending:
                yield False
                return
            self._ending = True
            try:
                yield True
            finally:
                self._ending = self._loop.calls.closed

    def take_error(self) -> BaseException | None:
        """Return the exception that ended the thread, or None. It is returned once only."""
        error, self._ended_by = self._ended_by, None
        return error
