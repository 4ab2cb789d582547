"""All environments: those of `environments.py`; gevent; trio, and anyio on each of its two loops, with its scopes."""

import inspect
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, ClassVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import gevent
import gevent.event

import pollbroker.anyio
import pollbroker.gevent
import pollbroker.trio
from tests.embedding.environments import ENVIRONMENTS, Environment


class Gevent(Environment):
    """`pollbroker.gevent.Engine`, in a greenlet beside others."""

    name = "gevent"
    cancellable = True

    def serve(self) -> None:
        hub = gevent.get_hub()
        others = hub.loop.async_()  # threads that may call; without it the hub would find that nobody can
        others.start(lambda: None)
        try:
            with pollbroker.gevent.Engine(**self._arguments) as engine:
                self._over = gevent.event.Event()
                self._soon = hub.loop.run_callback_threadsafe
                self.has_begun(engine, engine)
                self._over.wait()
        finally:
            others.close()
            hub.destroy(destroy_loop=True)

    def end(self) -> None:
        self._soon(self._over.set)

    def begin(self, call: Callable[[], Any]) -> "Future[Any]":
        future: Future[Any] = Future()

        def make() -> None:
            try:
                result = call()
                result = self.engine.wait_for(result) if isinstance(result, Future) else result
            except Exception as error:  # noqa: BLE001 - it is raised where the result is asked for
                if not future.cancelled():
                    future.set_exception(error)
            else:
                if not future.cancelled():
                    future.set_result(result)

        def spawn() -> None:
            greenlet = gevent.spawn(make)
            future.add_done_callback(lambda _: self._soon(partial(greenlet.kill, block=False)))

        self._soon(spawn)
        return future

    def wait_stopped(self) -> None:
        self.do(self.engine.wait_stopped)

    def call_each_turn(self, call: Callable[[], None]) -> None:
        def tick() -> None:
            while not self._ending:
                call()
                gevent.sleep(0)

        self.do(lambda: gevent.spawn(tick) and None)


class _Scoped(Environment):
    """An engine on a loop that anyio runs; a task that is begun has a scope of its own, which can be cancelled."""

    cancellable = True
    loop: ClassVar[str]

    @abstractmethod
    def make_engine(self) -> Any:
        """Make the engine, where the loop runs."""

    def serve(self) -> None:
        anyio.run(self._serve, backend=self.loop)

    async def _serve(self) -> None:
        async with self.make_engine() as engine, anyio.from_thread.BlockingPortal() as self._portal:
            self._over = anyio.Event()
            self.has_begun(engine, engine.sync)
            await self._over.wait()

    def end(self) -> None:
        self._portal.call(self._over.set)

    def begin(self, call: Callable[[], Any]) -> "Future[Any]":
        async def make() -> Any:
            result = call()
            return await result if inspect.isawaitable(result) else result

        return self._portal.start_task_soon(make)

    def wait_stopped(self) -> None:
        self.do(lambda: self.engine.wait_stopped())

    def call_each_turn(self, call: Callable[[], None]) -> None:
        async def tick() -> None:
            while not self._ending:
                call()
                await anyio.lowlevel.checkpoint()

        self._portal.start_task_soon(tick)


class Trio(_Scoped):
    """`pollbroker.trio.Engine`."""

    name = "trio"
    loop = "trio"

    def make_engine(self) -> Any:
        return pollbroker.trio.Engine(**self._arguments)


class AnyioOnTrio(_Scoped):
    """`pollbroker.anyio.Engine` where anyio runs on trio."""

    name = "anyio-trio"
    loop = "trio"

    def make_engine(self) -> Any:
        return pollbroker.anyio.Engine(**self._arguments)


class AnyioOnAsyncio(AnyioOnTrio):
    """`pollbroker.anyio.Engine` where anyio runs on asyncio."""

    name = "anyio-asyncio"
    loop = "asyncio"


ALL_ENVIRONMENTS: tuple[type[Environment], ...] = (*ENVIRONMENTS, Gevent, Trio, AnyioOnTrio, AnyioOnAsyncio)
