"""Calls from other threads, and the lock that they need.

Only the thread that holds the lock may touch sockets. `Loop.run` holds it from beginning to end, `Loop.step` for one
turn. A call from another thread takes the lock if it is free. If not, the call is queued and the loop is woken; the
thread of the loop makes the call, and the caller is given the result or the exception.
"""

import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final, TypeVar

from pollbroker.errors import EngineError
from pollbroker.timers import Handle
from pollbroker.waker import Waker

_logger = logging.getLogger("pollbroker")

_Result = TypeVar("_Result")

_LOCK_CHECK_S: Final = 0.05
"""A caller waits for another thread's loop. After so many seconds it looks whether that loop has ended: then nobody
would make its call, and it has to take the lock itself."""


class Calls:
    """The lock, and the queue of calls for the thread that holds it.

    Arguments:
        waker: ends the sleep of the loop.
        work_marker: returns a tuple that changes whenever work was added, or the last of it is gone. If it changed
            during a call, the loop is woken. Something in it is true if there is work, a timer, or nothing left to do.
    """

    def __init__(self, waker: Waker, work_marker: Callable[[], tuple[object, ...]]) -> None:
        self.lock = threading.RLock()
        self._turner: int | None = None
        """The thread that is within a turn of the loop or within a call, with the lock; None if none is."""
        self._waker = waker
        self._work_marker = work_marker
        self.runs = 0
        """How many times `Loop.run` has begun."""
        self._runner: int | None = None
        self._closer: int | None = None
        """The thread that closes the engine. No other one begins a turn, or takes the lock for a call."""
        self._claiming = threading.Lock()
        self._closed = False
        self._pid = os.getpid()
        self._queue: deque[Handle] = deque()

    # -- who may call, and when ---------------------------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise `EngineError` in a process that was forked from the engine's, and after `close`."""
        if self.is_in_a_fork():
            raise EngineError(
                f"this engine belongs to process {self._pid}, and cannot be used in its fork {os.getpid()}"
            )
        if self._closed:
            raise EngineError("the engine is closed")

    def is_in_a_fork(self) -> bool:
        """Return True in a process that was forked from the engine's."""
        return os.getpid() != self._pid

    def check_may_turn(self) -> None:
        """Raise `EngineError` as `check_usable`, and if another thread closes the engine."""
        self.check_usable()
        if not _is_nobody_else(self._closer):
            raise EngineError("the engine is closed")

    def check_not_running(self) -> None:
        """Raise `EngineError` if a thread runs the loop."""
        if self.running:
            raise EngineError("the engine is running already")

    @property
    def running(self) -> bool:
        """True while a thread runs the loop, or is about to."""
        return self._runner is not None

    @property
    def closed(self) -> bool:
        """True after `close` was called."""
        return self._closed

    def in_own_turn(self) -> bool:
        """Return True if the calling thread is within a turn (in a handler, a reader, a timer or a queued call), or in
        what `call` calls without one, such as a listener of events. No other thread can make a turn until it returns.
        """
        return self._turner == threading.get_ident()

    def begin_turn(self) -> None:
        """The calling thread, which holds the lock, is within a turn until `end_turn`."""
        self._turner = threading.get_ident()

    def end_turn(self) -> None:
        """No thread is within a turn."""
        self._turner = None

    def may_sleep(self) -> bool:
        """Return True if the calling thread may sleep: it is not within a turn, and runs no loop of asyncio or trio."""
        return not (self.in_own_turn() or _runs_asyncio() or runs_trio())

    @contextmanager
    def running_loop(self) -> Iterator[None]:
        """Hold the lock for as long as this thread runs the loop. Other threads queue their calls meanwhile.

        Raises `EngineError` if a thread runs the loop already, or if this one is within a turn.
        """
        with self._claiming:
            self.check_not_running()
            if self.in_own_turn():
                raise EngineError("run() was called from within a turn of the loop")
            self._runner = threading.get_ident()
            self.runs += 1
        try:
            with self.lock:
                self.check_may_turn()
                yield
        finally:
            self._runner = None

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Let no other thread begin a turn while this one closes the engine. It might have the lock again and again
        before this thread has it."""
        self._closer = threading.get_ident()
        try:
            yield
        finally:
            self._closer = None

    def _may_take_lock(self) -> bool:
        """Return True if the calling thread may take the lock: it has it, or no other one runs the loop or closes the
        engine, or waits for the lock to do so."""
        return self.in_own_turn() or (_is_nobody_else(self._runner) and _is_nobody_else(self._closer))

    # -- from other threads -------------------------------------------------------------------------------------------

    def call(self, fn: Callable[..., _Result], *args: Any) -> _Result:
        """Return `fn(*args)`. It is called here if the lock is free, and else in the thread that holds the lock."""
        self.check_usable()
        if self._may_take_lock() and self.lock.acquire(blocking=False):
            return self._call_here(fn, *args)
        result: Future[_Result] = Future()
        handle = self.put(partial(self._resolve, result, fn, *args))
        self.wait(result, partial(run_handle, handle))  # the calls of others are made in a turn
        return result.result()

    def _call_here(self, fn: Callable[..., _Result], *args: Any) -> _Result:
        before = self._work_marker()
        turner, self._turner = self._turner, threading.get_ident()
        try:
            self.check_usable()
            return fn(*args)
        finally:
            self._turner = turner
            if not self.in_own_turn() and self._work_marker() != before:
                self._waker.wake()  # a program that sleeps on the loop's descriptor has work to do now
            self.lock.release()

    def _resolve(self, result: Future[_Result], fn: Callable[..., _Result], *args: Any) -> None:
        try:
            self.check_usable()
            result.set_result(fn(*args))
        except Exception as error:  # noqa: BLE001 - it is raised again in the calling thread
            result.set_exception(error)
        except BaseException as error:
            result.set_exception(error)
            raise  # such as KeyboardInterrupt, which also ends the loop

    def wait(self, future: Future[Any], drive: Callable[[], object]) -> None:
        """Wait for a future that a turn of the loop resolves. While no other thread has the lock, `drive` is called
        here to make the turns. A program that drives the loop knows nothing of these turns, so it is woken if they have
        left something to do."""
        while not future.done():
            if self._may_take_lock() and self.lock.acquire(blocking=False):
                try:
                    if not future.done():
                        drive()
                        if future.done() and any(self._work_marker()):
                            self._waker.wake()
                finally:
                    self.lock.release()
            else:
                futures.wait([future], _LOCK_CHECK_S)

    # -- the queue ----------------------------------------------------------------------------------------------------

    def put(self, fn: Callable[[], Any]) -> Handle:
        """Queue a call and wake the loop; return the handle of the call. Any thread and any signal handler may do
        this."""
        handle = Handle(0.0, fn)
        self._queue.append(handle)
        self._waker.wake()
        return handle

    def pending(self) -> int:
        """Return how many calls are queued."""
        return len(self._queue)

    def run(self, most: int | None = None) -> None:
        """Make the first `most` of the queued calls, or all. Calls that are queued meanwhile are left in the queue."""
        for _ in range(self.pending() if most is None else most):
            run_handle(self._queue.popleft())

    def close(self) -> None:
        """Refuse every call from now on. A caller whose call is still queued is told that the engine is closed."""
        self._closed = True
        with ExitStack() as calls:
            for _ in range(self.pending()):
                calls.callback(self.run, 1)  # each, whatever another one raises


def _is_nobody_else(thread: int | None) -> bool:
    return thread is None or thread == threading.get_ident()


def _runs_asyncio() -> bool:
    """Return True if an event loop of asyncio runs in this thread.

    asyncio is not imported to find that out: where no module has imported it, no such loop runs.
    """
    get_running_loop = getattr(sys.modules.get("asyncio"), "get_running_loop", None)
    if get_running_loop is None:
        return False
    try:
        get_running_loop()
    except RuntimeError:
        return False
    return True


def runs_trio() -> bool:
    """Return True if trio runs in this thread. As above, it is not imported for that."""
    in_trio_run = getattr(sys.modules.get("trio.lowlevel"), "in_trio_run", None)
    return in_trio_run is not None and bool(in_trio_run())


def run_handle(handle: Handle) -> None:
    """Make a call. An exception is logged, since no caller waits for the result."""
    try:
        handle.run()
    except Exception:
        _logger.exception("a call in the engine's thread raised")


def call_in_thread(name: str, call: Callable[[], _Result]) -> "Future[_Result]":
    """Make a call in a thread of its own, which the end of the program does not wait for. The future, which cannot be
    cancelled, is resolved with what the call returns or raises.

    Raises `RuntimeError` while the interpreter ends, as `start` does from CPython 3.12 on. Before, it waits for ever.
    """
    if sys.is_finalizing():
        raise RuntimeError(f"the interpreter ends, and the thread {name} cannot begin")
    result: Future[_Result] = Future()
    result.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the result is asked for
            result.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return result
