"""Calls from other threads, and whose turn it is.

Who may touch sockets: whoever holds the lock. `Loop.run` holds it from beginning to end, `Loop.step` for one turn. A
call from another thread takes the lock if it is free; if not, the call is queued, the loop is woken, and the result, or
the exception, comes back to the caller.
"""

import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from pollbroker.errors import EngineError
from pollbroker.timers import Handle

_logger = logging.getLogger("pollbroker")

_Result = TypeVar("_Result")

_TAKE_OVER_S: Final = 0.05
"""How often a caller that waits for another thread's loop looks whether that loop has ended."""


class Calls:
    """The lock, the queue of calls, and the waker that ends the loop's sleep."""

    def __init__(self, has_work: Callable[[], object]) -> None:
        self.lock = threading.RLock()
        self.in_turn = False
        """Whether a turn of the loop is being made, by the thread that holds the lock."""
        self._runner: int | None = None
        self._claiming = threading.Lock()
        self._has_work = has_work
        self._closed = False
        self._pid = os.getpid()
        self._queue: deque[Handle] = deque()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Readable after `wake`, until `drain_waker`."""
        return self._reader.fileno()

    def check_usable(self) -> None:
        """Raise `EngineError` in a fork, and after `close`."""
        if os.getpid() != self._pid:
            raise EngineError(
                f"this engine belongs to process {self._pid}, and cannot be used in its fork {os.getpid()}"
            )
        if self._closed:
            raise EngineError("the engine is closed")

    def call(self, fn: Callable[..., _Result], *args: Any) -> _Result:
        """`fn(*args)` with the lock held: here if it is free, else in the thread that holds it."""
        self.check_usable()
        if self._may_take_over() and self.lock.acquire(blocking=False):
            return self._call_here(fn, *args)
        result: Future[_Result] = Future()
        self.put(Handle(0.0, partial(self._resolve, result, fn, *args)))
        self.wait(result, self.run)
        return result.result()

    @property
    def running(self) -> bool:
        """Whether a thread runs the loop, or is about to."""
        return self._runner is not None

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the lock for as long as this thread runs the loop. Others leave it alone from now on, and queue.

        Raises `EngineError` if a thread runs the loop already.
        """
        with self._claiming:
            if self._runner is not None:
                raise EngineError("the engine is running already")
            self._runner = threading.get_ident()
        try:
            with self.lock:
                self.check_usable()
                yield
        finally:
            self._runner = None

    def _may_take_over(self) -> bool:
        """Whether no other thread runs the loop, so that this one may take the lock."""
        return self._runner is None or self._runner == threading.get_ident()

    def _call_here(self, fn: Callable[..., _Result], *args: Any) -> _Result:
        before = self._has_work()
        try:
            self.check_usable()
            return fn(*args)
        finally:
            if not self.in_turn and self._has_work() != before:
                self.wake()  # whoever sleeps on the loop's descriptor, or until its next timer, is to look again
            self.lock.release()

    def _resolve(self, result: Future[_Result], fn: Callable[..., _Result], *args: Any) -> None:
        try:
            self.check_usable()
            result.set_result(fn(*args))
        except Exception as error:  # noqa: BLE001 - it is the caller's, and raised there
            result.set_exception(error)
        except BaseException as error:
            result.set_exception(error)
            raise  # such as KeyboardInterrupt: it is the loop's too

    def wait(self, future: Future[Any], drive: Callable[[], object]) -> None:
        """Wait for a future that the loop resolves; as long as no other thread has the lock, `drive` the loop here."""
        while not future.done():
            if self._may_take_over() and self.lock.acquire(blocking=False):
                try:
                    if not future.done():
                        drive()
                finally:
                    self.lock.release()
            else:
                futures.wait([future], _TAKE_OVER_S)

    def in_own_turn(self) -> bool:
        """Whether this very thread is within a turn: in a handler, a reader, a timer or a call of the loop."""
        if not self.lock.acquire(blocking=False):
            return False
        try:
            return self.in_turn
        finally:
            self.lock.release()

    def put(self, handle: Handle) -> None:
        """Queue a call and wake the loop. Any thread may do so, and signal handlers."""
        self._queue.append(handle)
        self.wake()

    def pending(self) -> int:
        """How many calls are queued."""
        return len(self._queue)

    def run(self, most: int | None = None) -> None:
        """Make so many of the queued calls, or all; those that they bring about are left for the next time."""
        for _ in range(self.pending() if most is None else most):
            run_handle(self._queue.popleft())

    def wake(self) -> None:
        """End the loop's sleep, or keep it from falling asleep. Any thread may do so, and signal handlers."""
        try:
            self._writer.send(b"\0")
        except BlockingIOError:
            return  # as many wake-ups as a socket buffer holds are on their way already
        except OSError:
            if not self._closed:
                raise

    @contextmanager
    def hearing_signals(self, stop: Callable[[], None]) -> Iterator[None]:
        """In the main thread: have a signal end the loop's sleep, and Ctrl-C its run, between two turns.

        Python runs a signal's handler when the main thread next runs Python: one that comes just before the loop falls
        asleep would wait for whatever wakes it next (`signal.set_wakeup_fd`). And its own handler of SIGINT raises
        KeyboardInterrupt anywhere, even between a receive and the send that belongs to it; so, as in `asyncio.Runner`,
        the first Ctrl-C stops the loop, and KeyboardInterrupt is raised then. The second is raised at once.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        interrupts = 0

        def interrupt(number: int, frame: object) -> None:  # noqa: ARG001 - what the signal module calls
            nonlocal interrupts
            interrupts += 1
            if interrupts > 1:
                raise KeyboardInterrupt
            stop()

        others = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        if others != -1:
            signal.set_wakeup_fd(others)
        handles_interrupt = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if handles_interrupt:
            signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            try:
                if handles_interrupt:
                    signal.signal(signal.SIGINT, signal.default_int_handler)
            finally:  # the second Ctrl-C may come just here
                if others == -1:
                    signal.set_wakeup_fd(-1)
        if interrupts:
            raise KeyboardInterrupt

    def drain_waker(self) -> None:
        """Forget the wake-ups so far."""
        try:
            while len(self._reader.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptors back; nothing can be called any more, and who waits for an answer is told so."""
        self._closed = True
        self.run()
        self._reader.close()
        self._writer.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed


def run_handle(handle: Handle) -> None:
    """Run it; what it raises is logged, since nobody waits for it."""
    try:
        handle.run()
    except Exception:
        _logger.exception("a call in the engine's thread raised")
