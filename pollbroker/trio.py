"""The engine of a trio program: a task beside the program's other tasks, no thread, and what waits is awaited.

from pollbroker import QUEUE
from pollbroker.trio import Engine

async with Engine() as engine:
    orders = await engine.add("orders", QUEUE, frontend="tcp://*:5559", backend="tcp://*:5560")

The task that makes the engine's turns ends when the engine is closed, and at no cancellation before, so that what is
awaited in a shielded scope is still served. It is protected from Ctrl-C, which trio raises in the main task instead.
"""

import math
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import trio

import pollbroker
from pollbroker.awaiting import Adoption, AwaitedEngine, Broker, Turns
from pollbroker.errors import EngineError

__all__ = ["Adoption", "Broker", "Engine"]

_Result = TypeVar("_Result")


class _Waiting(Generic[_Result]):
    """What can be awaited any number of times, and need not be."""

    def __init__(self, wait: Callable[[], Coroutine[Any, Any, _Result]]) -> None:
        self._wait = wait

    def __await__(self) -> Generator[Any, Any, _Result]:
        return self._wait().__await__()


class _TrioTurns(Turns):
    """Has a task of trio make the turns of an engine."""

    def __init__(self, engine: pollbroker.Engine) -> None:
        super().__init__(engine)
        self._descriptor = engine.fileno()
        self._begun = False
        self._nursery: trio.Nursery | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._changed = trio.lowlevel.ParkingLot()
        """Where those are parked who wait for something. Each looks for itself whether it has come."""

    @property
    def begun(self) -> bool:
        """See `Turns.begun`."""
        return self._begun

    @property
    def made_elsewhere(self) -> bool:
        """See `Turns.made_elsewhere`."""
        return self._begun and not self._is_here

    @property
    def _is_here(self) -> bool:
        return trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token

    def begin(self, nursery: trio.Nursery) -> None:
        """Have a task of this nursery make the turns, until the engine is closed."""
        nursery.start_soon(self._make, name="the turns of an engine of pollbroker")
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._begun = True

    @trio.lowlevel.enable_ki_protection
    async def _make(self) -> None:
        try:
            with trio.CancelScope(shield=True), suppress(trio.ClosedResourceError):
                while not self.engine.closed:
                    more = self.engine.step()
                    if self.engine.stopping:
                        self._changed.unpark_all()
                    if more:
                        await trio.lowlevel.checkpoint()
                    else:
                        await self._sleep_until_something_happens()
        finally:  # a handler may raise SystemExit; whoever waits in a shielded scope is to be told all the same
            self._begun = False
            self.engine.finish_close()
            self._changed.unpark_all()

    async def _sleep_until_something_happens(self) -> None:
        next_s = self.engine.next_timer_s()
        with trio.move_on_after(math.inf if next_s is None else next_s):
            await trio.lowlevel.wait_readable(self._descriptor)

    def end(self) -> None:
        """See `Turns.end`."""
        if not self.engine.closed:
            trio.lowlevel.notify_closing(self._descriptor)
        self._changed.unpark_all()

    def call_in_loop(self, call: Callable[[], object], /) -> None:
        """See `Turns.call_in_loop`."""
        if self._token is None:
            raise RuntimeError("the engine was not started")
        if self._is_here:
            call()
        else:
            self._token.run_sync_soon(call)

    def begin_task(
        self, coroutine: Coroutine[Any, Any, Any], done: Callable[[Any, BaseException | None], None], /
    ) -> Callable[[], object]:
        """See `Turns.begin_task`."""
        assert self._nursery is not None
        scope = trio.CancelScope()
        self._nursery.start_soon(self._run_task, scope, coroutine, done)
        return scope.cancel

    async def _run_task(
        self,
        scope: trio.CancelScope,
        coroutine: Coroutine[Any, Any, Any],
        done: Callable[[Any, BaseException | None], None],
    ) -> None:
        result: Any = None
        error: BaseException | None = CancelledError()
        try:
            with scope:
                result = await coroutine
                error = None
        except Exception as raised:  # noqa: BLE001 - it costs the handler's message, and is counted and logged there
            error = raised
        except BaseException as raised:
            error = raised
            raise
        finally:
            done(result, error)

    async def wait_for_tasks(self) -> None:
        """See `Turns.wait_for_tasks`. The nursery waits for them, without a limit."""

    def wait_for(self, future: "Future[_Result]") -> Awaitable[_Result]:
        """See `Turns.wait_for`."""
        return _Waiting(partial(self._result_of, future))

    async def _result_of(self, future: "Future[_Result]") -> _Result:
        token = trio.lowlevel.current_trio_token()

        def resolved(_: "Future[_Result]") -> None:
            with suppress(trio.RunFinishedError):  # then nobody waits any more
                token.run_sync_soon(self._changed.unpark_all)

        future.add_done_callback(resolved)
        try:
            await self._until(future.done)
        except BaseException:
            future.cancel()
            raise
        return future.result()

    async def wait_stopped(self) -> None:
        """See `Engine.wait_stopped`."""
        await self._until(lambda: self.engine.closed or self.engine.stopping)

    async def _until(self, condition: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint()
        while not condition():
            await self._changed.park()

    async def sleep(self, seconds: float) -> None:
        """See `Turns.sleep`."""
        await trio.sleep(seconds)


class Engine(AwaitedEngine):
    """Runs any number of brokers in a task of trio. To be used in the thread of that run alone.

    The arguments are those of `pollbroker.Engine`, which see. An engine in a task needs a descriptor, so its waiter is
    the nested one.

    Use it as `async with Engine() as engine:`. The block has a nursery for the one task, and closes the engine at its
    end, also if it is cancelled.

    A `SystemExit` or `KeyboardInterrupt` that a handler, a timer or a reader of the engine raises closes the engine,
    cancels the block and comes out of it. Any other exception of theirs is logged. Ctrl-C comes up in the main task,
    and never within a turn, so that nothing is lost.

    Raises `ConfigError` if an argument is unfit, or if the platform has no nested waiter.
    """

    _turns: _TrioTurns

    def _make_turns(self) -> _TrioTurns:
        return _TrioTurns(self.sync)

    async def __aenter__(self) -> Self:
        self.sync.fileno()  # raises if it is closed
        if self._turns.begun:
            raise EngineError("the engine is running already")
        self._manager = trio.open_nursery()
        self._turns.begin(await self._manager.__aenter__())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        raised = error
        try:
            await self.close()
        except BaseException as cancelled:  # noqa: BLE001 - the nursery is told, and raises it
            raised = cancelled
        try:
            return await self._manager.__aexit__(None if raised is None else type(raised), raised, trace)
        except BaseExceptionGroup as group:
            if len(group.exceptions) > 1:
                raise
            (alone,) = group.exceptions
        if alone is error:
            return False
        if not isinstance(alone, trio.Cancelled):  # the nursery cancelled the block, and with it what waited in `close`
            with trio.CancelScope(shield=True):
                await self.close()
        raise alone
