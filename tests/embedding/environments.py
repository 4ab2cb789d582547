"""The environments that an engine can run in, behind one small protocol.

Each runs in a thread of its own, so that a case is a plain function in the test's thread, whether the environment has
functions, coroutines or greenlets. To add one: a class here, in `ENVIRONMENTS`, and a program in `programs.py`.
"""

import asyncio
import inspect
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from typing import Any, ClassVar, Self

import uvloop
import zmq

import pollbroker
import pollbroker.asyncio
from pollbroker import STREAMER, Device
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.transports import holding_streamer
from tests.support.types import Connect


class Environment(ABC):
    """An engine at work in an environment; in the block of a `with`.

    `engine` is what a program has in this environment: `pollbroker.Engine`, or the adapter's. What a case calls has the
    same name in all of them. It is called by `do`, since some are functions and some are coroutines.
    """

    name: ClassVar[str]
    cancellable: ClassVar[bool]
    """True if what waits can be cancelled."""

    engine: Any
    sync: pollbroker.Engine
    """The engine behind an adapter's; without an adapter the same."""

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments
        self._begun = threading.Event()
        self._ending = False

    # -- what differs -------------------------------------------------------------------------------------------------

    @abstractmethod
    def serve(self) -> None:
        """Run in this thread: make an engine of `self._arguments`, tell `has_begun`, and return after `end`."""

    @abstractmethod
    def end(self) -> None:
        """Let `serve` return. The engine is closed."""

    @abstractmethod
    def begin(self, call: Callable[[], Any]) -> "Future[Any]":
        """Begin to call this in the environment, and wait there for its result."""

    @abstractmethod
    def wait_stopped(self) -> None:
        """Wait until the engine has stopped, as a program of this environment would."""

    @abstractmethod
    def call_each_turn(self, call: Callable[[], None]) -> None:
        """Have something else in the environment call this whenever it has its turn, until the end."""

    # -- what they have in common -------------------------------------------------------------------------------------

    def has_begun(self, engine: Any, sync: pollbroker.Engine) -> None:
        """To be called by `serve`."""
        self.engine, self.sync = engine, sync
        self._begun.set()

    def do(self, call: Callable[[], Any]) -> Any:
        """Return, or raise, what a call does in the environment."""
        return self.begin(call).result(DEADLINE_S)

    def add(self, name: str, device: Device = STREAMER, **arguments: Any) -> Any:
        """Add a broker, at ports that libzmq chooses unless told otherwise; return the environment's handle."""
        return self.do(lambda: self.engine.add(name, device, **(dict.fromkeys(device.ports, ANY_PORT) | arguments)))

    def __enter__(self) -> Self:
        self._served = in_thread(self.serve)
        self._served.add_done_callback(lambda _: self._begun.set())
        assert self._begun.wait(DEADLINE_S)
        if self._served.done():
            self._served.result()
        return self

    def __exit__(self, *error: object) -> None:
        self._ending = True
        self.do(lambda: self.engine.close(timeout_s=0))
        self.end()
        self._served.result(DEADLINE_S)


class _Sync(Environment):
    """An engine whose methods block, so that each call has a thread of its own."""

    cancellable = False

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._over = threading.Event()

    def end(self) -> None:
        self._over.set()

    def begin(self, call: Callable[[], Any]) -> "Future[Any]":
        return in_thread(call)

    def call_each_turn(self, call: Callable[[], None]) -> None:
        def again() -> None:
            call()
            if not self._ending:
                self.sync.call_soon_threadsafe(again)

        self.sync.call_soon_threadsafe(again)


class EngineThread(_Sync):
    """`with Engine() as engine:`, an engine in a thread of its own."""

    name = "thread"

    def serve(self) -> None:
        with pollbroker.Engine(**self._arguments) as engine:
            self.has_begun(engine, engine)
            self._over.wait()

    def wait_stopped(self) -> None:
        wait_until(lambda: not self.sync.running)


class EngineRun(_Sync):
    """`engine.run()` in a thread of the program."""

    name = "run"

    def serve(self) -> None:
        with closing(pollbroker.Engine(**self._arguments)) as engine:
            self._stopped = threading.Event()
            self.has_begun(engine, engine)
            engine.run()
            self._stopped.set()
            self._over.wait()

    def wait_stopped(self) -> None:
        assert self._stopped.wait(DEADLINE_S)


class Asyncio(Environment):
    """`pollbroker.asyncio.Engine` on asyncio's own loop."""

    name = "asyncio"
    cancellable = True
    new_loop: Callable[[], asyncio.AbstractEventLoop] = staticmethod(asyncio.new_event_loop)

    def serve(self) -> None:
        with asyncio.Runner(loop_factory=self.new_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        async with pollbroker.asyncio.Engine(**self._arguments) as engine:
            self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
            self.has_begun(engine, engine.sync)
            await self._over.wait()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)

    def begin(self, call: Callable[[], Any]) -> "Future[Any]":
        async def make() -> Any:
            result = call()
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(make(), self._loop)

    def wait_stopped(self) -> None:
        self.do(lambda: self.engine.wait_stopped())

    def call_each_turn(self, call: Callable[[], None]) -> None:
        async def tick() -> None:
            while not self._ending:
                call()
                await asyncio.sleep(0)

        self.do(lambda: setattr(self, "_ticking", asyncio.create_task(tick())))


class Uvloop(Asyncio):
    """`pollbroker.asyncio.Engine` on uvloop's loop."""

    name = "uvloop"
    new_loop = staticmethod(uvloop.new_event_loop)


ENVIRONMENTS: tuple[type[Environment], ...] = (EngineThread, EngineRun, Asyncio, Uvloop)


def held(environment: Environment, connect: Connect, name: str = "holding") -> Any:
    """Add a streamer that holds a message, for want of consumers; return its handle."""
    broker = environment.add(name, holding_streamer())
    connect(zmq.PUSH, broker.frontend.endpoint).send(b"held")
    wait_until(lambda: flow_of(environment.sync, name).state == "stalled")
    return broker
