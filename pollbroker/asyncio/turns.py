"""The turns of an engine, made by a loop of asyncio.

The loop watches the engine's descriptor and makes one turn for each callback. When there is more to do the descriptor
stays readable, so the loop comes back after it has served everybody else: neither starves the other.
"""

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeVar

import pollbroker
from pollbroker.awaiting import Turns
from pollbroker.errors import EngineError

_logger = logging.getLogger("pollbroker")

_Result = TypeVar("_Result")

_LOOP_TIMER_S: Final = 0.001
"""The loop's timers are set in whole milliseconds, rounded up. uvloop rounds down to these, and would come too early,
again and again."""


_CANCELLED_S: Final = 5.0
"""How long `close` waits for coroutine handlers that were cancelled, so that they can clean up."""


class AsyncioTurns(Turns):
    """Has a loop make the turns of an engine. To be used in the loop's thread alone."""

    def __init__(self, engine: pollbroker.Engine) -> None:
        super().__init__(engine)
        self._descriptor = engine.fileno()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0
        self._stopping = asyncio.Event()
        self._thread: int | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def begun(self) -> bool:
        """True from `begin` on."""
        return self._loop is not None

    @property
    def made_elsewhere(self) -> bool:
        """See `Turns.made_elsewhere`."""
        return self._loop is not None and self._loop.is_running() and threading.get_ident() != self._thread

    def begin(self) -> None:
        """Have the running loop make the turns.

        Raises `EngineError` if that was begun already or the engine is closed, and `RuntimeError` if no loop runs.
        """
        descriptor = self.engine.fileno()
        if self._loop is not None:
            raise EngineError("the engine is running already")
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, self._turn)
        self._loop = loop
        self._thread = threading.get_ident()
        self._set_timer()

    def end(self) -> None:
        """Make no turns any more. To be called before the engine is closed; does nothing the second time."""
        if self._loop is not None and not self.engine.closed:
            self._loop.remove_reader(self._descriptor)
        if self._timer is not None:
            self._timer.cancel()
        self._tell_stopping()

    def call_in_loop(self, call: Callable[[], object], /) -> None:
        """See `Turns.call_in_loop`."""
        if self._loop is None:
            raise RuntimeError("the engine was not started")
        if threading.get_ident() == self._thread:
            call()
        else:
            self._loop.call_soon_threadsafe(call)

    def begin_task(
        self, coroutine: Coroutine[Any, Any, Any], done: Callable[[Any, BaseException | None], None], /
    ) -> Callable[[], object]:
        """See `Turns.begin_task`."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(partial(self._task_ended, done))
        return task.cancel

    def _task_ended(self, done: Callable[[Any, BaseException | None], None], task: asyncio.Task[Any]) -> None:
        self._tasks.remove(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        done(task.result() if error is None else None, error)

    async def wait_for_tasks(self) -> None:
        """See `Turns.wait_for_tasks`."""
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        if others:
            _, left = await asyncio.wait(others, timeout=_CANCELLED_S)
            for task in left:
                _logger.warning(
                    "a coroutine handler has not ended %g s after it was cancelled; close no longer waits for it: %s",
                    _CANCELLED_S,
                    task.get_coro(),
                )

    def wait_for(self, future: "Future[_Result]") -> "asyncio.Future[_Result]":
        """See `Turns.wait_for`."""
        return asyncio.wrap_future(future)

    async def sleep(self, seconds: float) -> None:
        """See `Turns.sleep`."""
        await asyncio.sleep(seconds)

    async def wait_stopped(self) -> None:
        """See `Engine.wait_stopped`."""
        if not (self.engine.closed or self.engine.stopping):
            await self._stopping.wait()

    def _turn(self) -> None:
        more = False
        try:
            more = self.engine.step()
        finally:  # a handler may raise SystemExit; another run of the loop goes on where this one was
            if not more:  # else the next turn comes anyway
                self._set_timer()
            if self.engine.stopping:
                self._tell_stopping()

    def _timer_turn(self) -> None:
        self._timer = None
        self._turn()

    def _set_timer(self) -> None:
        """Have a turn made when the next timer of the engine is due.

        The loop's timer is left as it is if it comes early enough, since there is a turn for each burst of messages. It
        may come too early then, such as for a timer that was cancelled: that is one turn more.
        """
        next_s = self.engine.next_timer_s()
        if next_s is None or self._loop is None:
            return
        now_s = time.monotonic()  # a loop may keep its own time, and update it once in each iteration
        if self._timer is not None:
            if self._timer_due_s < now_s + next_s + _LOOP_TIMER_S:
                return
            self._timer.cancel()
        delay_s = math.ceil(next_s / _LOOP_TIMER_S) * _LOOP_TIMER_S
        self._timer_due_s = now_s + delay_s
        self._timer = self._loop.call_later(delay_s, self._timer_turn)

    def _tell_stopping(self) -> None:
        self._stopping.set()
        self._stopping.clear()  # those that wait are told all the same
