"""The turns of an engine, made by the loop of a program: what each kind of loop does in its own way."""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, TypeVar

import pollbroker
from pollbroker.errors import EngineError

_Result = TypeVar("_Result")
_Coroutine: TypeAlias = Coroutine[Any, Any, Any]
_Done: TypeAlias = Callable[[Any, BaseException | None], None]


class Turns(ABC):
    """Has a loop make the turns of an engine. To be used in the loop's thread alone.

    There is a turn when the engine's descriptor is readable, and when one of its timers is due. The loop serves
    everybody else between two turns, so that neither starves the other.
    """

    def __init__(self, engine: pollbroker.Engine) -> None:
        self.engine = engine

    @property
    @abstractmethod
    def begun(self) -> bool:
        """True as long as something makes the turns."""

    @property
    @abstractmethod
    def made_elsewhere(self) -> bool:
        """True while the loop runs that makes the turns, and the caller is not in it. Any thread may ask."""

    @abstractmethod
    def end(self) -> None:
        """Make no turns any more. To be called before the engine is closed; does nothing the second time."""

    def start_task(self, coroutine: _Coroutine, done: _Done, /) -> Callable[[], object]:
        """Run what a coroutine handler gave; see `pollbroker.Engine.set_task_starter`. Any thread may call this."""
        task = _Task(coroutine, partial(self.begin_task, coroutine, done))
        self.call_in_loop(task.begin)
        return partial(self._cancel, task)

    def _cancel(self, task: "_Task") -> None:
        with suppress(RuntimeError):  # the loop has ended, and with it its tasks
            self.call_in_loop(task.cancel)

    @abstractmethod
    def call_in_loop(self, call: Callable[[], object], /) -> None:
        """Make a call in the thread of the loop: at once if this is it, and otherwise soon. Raises `RuntimeError` if
        the loop has ended, or was not begun."""

    @abstractmethod
    def begin_task(self, coroutine: _Coroutine, done: _Done, /) -> Callable[[], object]:
        """Do what `start_task` does, in the thread of the loop."""

    @abstractmethod
    async def wait_for_tasks(self) -> None:
        """Wait until the tasks of `start_task` have ended, except the calling one. They were cancelled, and may clean
        up. The wait for one that does not end has a limit, where the loop allows that."""

    @abstractmethod
    def wait_for(self, future: "Future[_Result]") -> Awaitable[_Result]:
        """Return what is awaited for a future that a turn resolves, or another thread; any number of times.

        Cancelled: the future is cancelled too, if it can be.
        """

    @abstractmethod
    async def wait_stopped(self) -> None:
        """See `Engine.wait_stopped`."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Let the rest of the program run for so long."""

    async def result_of(self, future: "Future[_Result]") -> _Result:
        """Wait for a future that a turn resolves. Raises `EngineError` if nothing makes turns."""
        if not (self.begun or future.done()):
            raise EngineError("the engine was not started, and nothing makes its turns; expected `async with`")
        return await self.wait_for(future)


class _Task:
    """The task of a coroutine handler, which may be cancelled before it has begun."""

    def __init__(self, coroutine: _Coroutine, begin: Callable[[], Callable[[], object]]) -> None:
        self._begin = begin
        self._cancel: Callable[[], object] = coroutine.close
        self._cancelled = False

    def begin(self) -> None:
        if not self._cancelled:
            self._cancel = self._begin()

    def cancel(self) -> None:
        self._cancelled = True
        self._cancel()
