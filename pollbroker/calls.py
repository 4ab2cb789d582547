"""Calls from other threads, and whose turn it is.

Who may touch sockets: whoever holds the lock. `Loop.run` holds it from beginning to end, `Loop.step` for one turn. A
call from another thread takes the lock if it is free; if not, the call is queued, the loop is woken, and the result, or
the exception, comes back to the caller.
"""

import logging
import os
import sys
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
from pollbroker.waker import Waker

_logger = logging.getLogger("pollbroker")

_Result = TypeVar("_Result")

_TAKE_OVER_S: Final = 0.05
"""How often a caller that waits for another thread's loop looks whether that loop has ended."""


class Calls:
    """The lock, and the queue of calls for the thread that holds it.

    Arguments:
        waker: what ends the sleep of the loop.
        has_work: gives a marker that changes whenever work was added. If it changed during a call, the loop is woken.
    """

    def __init__(self, waker: Waker, has_work: Callable[[], object]) -> None:
        self.lock = threading.RLock()
        self.in_turn = False
        """Whether a turn of the loop is being made, by the thread that holds the lock."""
        self._waker = waker
        self._has_work = has_work
        self.runs = 0
        """How often a thread has begun to run the loop."""
        self._runner: int | None = None
        self._claiming = threading.Lock()
        self._closed = False
        self._pid = os.getpid()
        self._queue: deque[Handle] = deque()

    # -- who may call, and when ---------------------------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise `EngineError` in a fork, and after `close`."""
        if os.getpid() != self._pid:
            raise EngineError(
                f"this engine belongs to process {self._pid}, and cannot be used in its fork {os.getpid()}"
            )
        if self._closed:
            raise EngineError("the engine is closed")

    def check_not_running(self) -> None:
        """Raise `EngineError` if a thread runs the loop."""
        if self.running:
            raise EngineError("the engine is running already")

    @property
    def running(self) -> bool:
        """Whether a thread runs the loop, or is about to."""
        return self._runner is not None

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def in_own_turn(self) -> bool:
        """Return True if this very thread is within a turn: in a handler, a reader, a timer or a call of the loop."""
        if not self.lock.acquire(blocking=False):
            return False
        try:
            return self.in_turn
        finally:
            self.lock.release()

    def may_sleep(self) -> bool:
        """Return True if this thread may sleep: it is not within a turn of the loop, nor does it run asyncio's."""
        return not (self.in_own_turn() or _runs_asyncio())

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the lock for as long as this thread runs the loop. Other threads queue their calls meanwhile.

        Raises `EngineError` if a thread runs the loop already.
        """
        with self._claiming:
            self.check_not_running()
            self._runner = threading.get_ident()
            self.runs += 1
        try:
            with self.lock:
                self.check_usable()
                yield
        finally:
            self._runner = None

    def _may_take_over(self) -> bool:
        """Return True if no other thread runs the loop, so that this one may take the lock."""
        return self._runner is None or self._runner == threading.get_ident()

    # -- from other threads -------------------------------------------------------------------------------------------

    def call(self, fn: Callable[..., _Result], *args: Any) -> _Result:
        """Return `fn(*args)`, called with the lock held: here if it is free, else in the thread that holds it."""
        self.check_usable()
        if self._may_take_over() and self.lock.acquire(blocking=False):
            return self._call_here(fn, *args)
        result: Future[_Result] = Future()
        self.put(partial(self._resolve, result, fn, *args))
        self.wait(result, self.run)
        return result.result()

    def _call_here(self, fn: Callable[..., _Result], *args: Any) -> _Result:
        before = self._has_work()
        try:
            self.check_usable()
            return fn(*args)
        finally:
            if not self.in_turn and self._has_work() != before:
                self._waker.wake()  # whoever sleeps on the loop's descriptor, or until its next timer, must look again
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

    # -- the queue ----------------------------------------------------------------------------------------------------

    def put(self, fn: Callable[[], Any]) -> Handle:
        """Queue a call and wake the loop; return its handle. Any thread may do this, and signal handlers."""
        handle = Handle(0.0, fn)
        self._queue.append(handle)
        self._waker.wake()
        return handle

    def pending(self) -> int:
        """Return how many calls are queued."""
        return len(self._queue)

    def run(self, most: int | None = None) -> None:
        """Make so many of the queued calls, or all; those that they bring about are left for the next time."""
        for _ in range(self.pending() if most is None else most):
            run_handle(self._queue.popleft())

    def close(self) -> None:
        """Refuse every call from now on. A caller that waits for an answer is told that the engine is closed."""
        self._closed = True
        self.run()


def _runs_asyncio() -> bool:
    """Return True if an event loop of asyncio runs in this thread.

    asyncio is not imported for that: in a process where nobody has imported it, no such loop runs.
    """
    get_running_loop = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
    if get_running_loop is None:
        return False
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True


def run_handle(handle: Handle) -> None:
    """Run it; what it raises is logged, since nobody waits for it."""
    try:
        handle.run()
    except Exception:
        _logger.exception("a call in the engine's thread raised")
