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

TAKE_OVER_S: Final = 0.05
"""How often a caller that waits for another thread's loop looks whether that loop has ended."""


class Calls:
    """The lock, the queue of calls, and the waker that ends the loop's sleep."""

    def __init__(self, has_work: Callable[[], object]) -> None:
        self.lock = threading.RLock()
        self.in_turn = False
        """Whether a turn of the loop is being made, by the thread that holds the lock."""
        self._has_work = has_work
        self._closed = False
        self._pid = os.getpid()
        self._queue: deque[Handle] = deque()
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def fileno(self) -> int:
        """Readable after `wake`, until `hush`."""
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
        if self.lock.acquire(blocking=False):
            return self._call_here(fn, *args)
        result: Future[_Result] = Future()
        self.put(Handle(0.0, partial(_resolve, result, fn, *args)))
        self.wait(result, self.run)
        return result.result()

    def _call_here(self, fn: Callable[..., _Result], *args: Any) -> _Result:
        before = self._has_work()
        try:
            self.check_usable()
            return fn(*args)
        finally:
            if not self.in_turn and self._has_work() != before:
                self.wake()  # whoever sleeps on the loop's descriptor, or until its next timer, is to look again
            self.lock.release()

    def wait(self, future: Future[Any], drive: Callable[[], object]) -> None:
        """Wait for a future that the loop resolves; as long as no other thread has the lock, `drive` the loop here."""
        while not future.done():
            if self.lock.acquire(blocking=False):
                try:
                    drive()
                finally:
                    self.lock.release()
            else:
                futures.wait([future], TAKE_OVER_S)

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

    def run(self) -> None:
        """Make the calls that are queued now; those that they bring about are left for the next time."""
        for _ in range(len(self._queue)):
            run_handle(self._queue.popleft())

    def wake(self) -> None:
        """End the loop's sleep, or keep it from falling asleep. Any thread may do so, and signal handlers."""
        try:
            self._writer.send(b"\0")
        except BlockingIOError:
            return  # as many wake-ups as a socket buffer holds are on their way already

    @contextmanager
    def woken_by_signals(self) -> Iterator[None]:
        """Have a signal end the loop's sleep too, if this is the main thread and nobody else has asked for that.

        Python runs a signal's handler when the main thread next runs Python: one that comes just before the loop falls
        asleep would wait for whatever wakes it next (`signal.set_wakeup_fd`).
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        others = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        if others != -1:
            signal.set_wakeup_fd(others)
        try:
            yield
        finally:
            if others == -1:
                signal.set_wakeup_fd(-1)

    def hush(self) -> None:
        """Forget the wake-ups so far."""
        try:
            while len(self._reader.recv(4096)) == 4096:
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        """Give the descriptors back; nothing can be called any more."""
        self._closed = True
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


def _resolve(result: Future[_Result], fn: Callable[..., _Result], *args: Any) -> None:
    try:
        result.set_result(fn(*args))
    except Exception as error:  # noqa: BLE001 - it is the caller's, and raised there
        result.set_exception(error)
    except BaseException as error:
        result.set_exception(error)
        raise  # such as KeyboardInterrupt: it is the loop's too
