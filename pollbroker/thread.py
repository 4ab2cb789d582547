"""The thread that `Engine.start` begins and `Engine.close` ends.

It runs the loop until that is stopped, or until nothing is left to do; in the second case a broker that is added starts
it again. One lock keeps the beginnings and the end apart: a thread that was started while the engine closes would be
nobody's.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pollbroker.errors import EngineError, describe_error
from pollbroker.loop import Loop

_logger = logging.getLogger("pollbroker")


class EngineThread:
    """The engine's own thread, if it has one. Every method may be called from any thread, `join` from any other.

    Arguments:
        loop: what the thread runs.
        run: how it runs it: `Engine.run`.
    """

    def __init__(self, loop: Loop, run: Callable[[], None]) -> None:
        self._loop = loop
        self._run = run
        self._thread: threading.Thread | None = None
        self._runs_at_start = 0
        """How often the loop had been run when the thread was started."""
        self._ended_by: BaseException | None = None
        """What ended the thread, if it was not told to end."""
        self._start_and_end_lock = threading.RLock()
        self._ending = False

    @property
    def alive(self) -> bool:
        """Whether the thread has begun, and not ended yet."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin. Raises `EngineError` if any thread runs the loop, or this one is about to."""
        self._loop.calls.check_usable()
        with self._start_and_end_lock:
            self._loop.calls.check_not_running()
            if self.alive and self._loop.calls.runs == self._runs_at_start and not self._loop.stop_called:
                raise EngineError("the engine is running already")
            self._begin()

    def restart_if_out_of_work(self) -> None:
        """After a broker was added: begin again if the thread has returned because nothing was left to do."""
        if self._loop.ran_out_of_work and self._thread is not None and not self._loop.calls.in_own_turn():
            with self._start_and_end_lock:
                if self._loop.ran_out_of_work and not (
                    self._loop.calls.running or self._loop.calls.closed or self._ending
                ):
                    self._begin()

    def _begin(self) -> None:
        self.join()
        self._ended_by = None
        self._runs_at_start = self._loop.calls.runs
        self._thread = threading.Thread(target=self._run_and_log, name="pollbroker", daemon=True)
        self._thread.start()

    def _run_and_log(self) -> None:
        try:
            self._run()
        except BaseException as error:  # nobody is above this thread: the log tells, and `Engine.close`
            self._ended_by = error
            _logger.critical("the engine's thread was ended by %s", describe_error(error), exc_info=error)

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def ending(self) -> Iterator[bool]:
        """While the engine closes: nothing can start the thread. Gives False if this very caller is closing already.

        If closing was interrupted, as by Ctrl-C, the engine is not closed, and all of this can be done again.
        """
        with self._start_and_end_lock:
            if self._ending:
                yield False
                return
            self._ending = True
            try:
                yield True
            finally:
                self._ending = self._loop.calls.closed

    def take_error(self) -> BaseException | None:
        """Return what ended the thread if it was not told to end, and forget it."""
        error, self._ended_by = self._ended_by, None
        return error
