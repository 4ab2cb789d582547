"""The engine on a loop of the program: the methods of `pollbroker.Engine`, with coroutines where those block."""

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

import zmq

import pollbroker
from pollbroker.awaiting.adoption import Adoption
from pollbroker.awaiting.broker import Broker
from pollbroker.awaiting.turns import Turns
from pollbroker.device import Device, Options
from pollbroker.endpoint import Endpoints
from pollbroker.errors import EndpointError, EngineError
from pollbroker.frozen import FrozenDict
from pollbroker.handing_over import AmidMessageError, HandedOver
from pollbroker.limits import Limits
from pollbroker.opening import ADDRESS_RELEASE_S, Prefixes
from pollbroker.pump import Socket
from pollbroker.statistics import BrokerStatistics, EngineStatistics, PeerStatistics


class AwaitedEngine(ABC):
    """What an engine on a loop of asyncio or trio has. To be used in that loop's thread alone."""

    def __init__(
        self,
        context: zmq.Context[Any] | None = None,
        *,
        burst_messages: int = 1000,
        burst_bytes: int = 1 << 20,
        pump: str | None = None,
    ) -> None:
        self.sync = pollbroker.Engine(
            context, burst_messages=burst_messages, burst_bytes=burst_bytes, pump=pump, waiter="nested"
        )
        """The engine behind this one, which has what is missing here: timers, readers, calls from other threads.
        Control is attached to it. Those of its methods that wait would block the loop."""
        self._turns = self._make_turns()
        self.sync.set_task_starter(self._turns.start_task)

    @abstractmethod
    def _make_turns(self) -> Turns: ...

    @property
    def context(self) -> zmq.Context[Any]:
        """The context in which `add` opens sockets of libzmq: see `pollbroker.Engine.context`."""
        return self.sync.context

    # -- brokers ------------------------------------------------------------------------------------------------------

    async def add(
        self,
        name: str,
        device: Device | str,
        *,
        frontend: Endpoints | None = None,
        backend: Endpoints | None = None,
        capture: Endpoints | None = None,
        options: Mapping[str, Options] | None = None,
        frontend_options: Options | None = None,
        backend_options: Options | None = None,
        capture_options: Options | None = None,
        capture_type: int = zmq.PUB,
        capture_prefixes: Prefixes | None = None,
        transport: str | None = None,
        limits: Limits | None = None,
        earlier: BrokerStatistics | None = None,
        replaces: str | Broker | None = None,
        **more_ports: Endpoints,
    ) -> Broker:
        """Start a broker on sockets that the engine opens and owns; returns it with its endpoints bound.

        An address that a broker of this process released a moment ago may be in use still. It is tried again for up to
        5 seconds, and the loop goes on meanwhile. So is a broker that is to be replaced, while its handler is amid a
        message. `pollbroker.Engine.add` has the arguments and the errors.

        Cancelled: there is no such broker, and nothing is open.
        """
        give_up_s = time.monotonic() + ADDRESS_RELEASE_S
        while True:
            try:
                return Broker(
                    self._turns,
                    self.sync.add(
                        name,
                        device,
                        frontend=frontend,
                        backend=backend,
                        capture=capture,
                        options=options,
                        frontend_options=frontend_options,
                        backend_options=backend_options,
                        capture_options=capture_options,
                        capture_type=capture_type,
                        capture_prefixes=capture_prefixes,
                        transport=transport,
                        limits=limits,
                        earlier=earlier,
                        replaces=None if replaces is None else _sync(replaces),
                        **more_ports,
                    ),
                )
            except AmidMessageError:
                if time.monotonic() >= give_up_s:
                    raise
            except EndpointError as error:
                if not error.released_just_now or time.monotonic() >= give_up_s:
                    raise
            await self._turns.sleep(0.001)

    async def register(
        self,
        frontend: Socket | None = None,
        backend: Socket | None = None,
        device: Device | str | None = None,
        *,
        name: str | None = None,
        capture: Socket | None = None,
        capture_prefixes: Prefixes | None = None,
        **more_ports: Socket,
    ) -> Broker:
        """Start a broker on the caller's sockets; `pollbroker.Engine.register` has the arguments and the errors.

        Nothing is awaited in it, so it cannot be cancelled halfway.
        """
        return Broker(
            self._turns,
            self.sync.register(
                frontend,
                backend,
                device,
                name=name,
                capture=capture,
                capture_prefixes=capture_prefixes,
                **more_ports,
            ),
        )

    async def remove(self, broker: str | Broker, *, timeout_s: float = 1.0, drain: bool = False) -> BrokerStatistics:
        """End a broker, and return its final statistics: see `pollbroker.Engine.remove`, also for the errors.

        Cancelled: the removal goes on without the caller, and ends after `timeout_s` in any case.
        """
        return await self._turns.result_of(self.sync.begin_removal(_sync(broker), timeout_s=timeout_s, drain=drain))

    def pause(self, broker: str | Broker) -> None:
        """Move nothing in this broker until `resume`: see `pollbroker.Engine.pause`, also for the errors."""
        self.sync.pause(_sync(broker))

    def resume(self, broker: str | Broker) -> None:
        """Move again. Raises as `pause`."""
        self.sync.resume(_sync(broker))

    def disable(self, broker: str | Broker) -> None:
        """Let nobody new connect to a broker: see `pollbroker.Engine.disable`, also for the errors."""
        self.sync.disable(_sync(broker))

    def enable(self, broker: str | Broker, *, descriptors: Mapping[str, int] = FrozenDict()) -> None:
        """Undo `disable`: see `pollbroker.Engine.enable`, also for the errors."""
        self.sync.enable(_sync(broker), descriptors=descriptors)

    def reconnect(self, broker: str | Broker) -> None:
        """Make the connections again that a broker has made: see `pollbroker.Engine.reconnect`, also for the errors."""
        self.sync.reconnect(_sync(broker))

    async def drain(self, timeout_s: float = 5.0, *, broker: str | Broker | None = None) -> tuple[str, ...]:
        """Wait until no broker, or not this one, holds a message or has one to read; return the names of those that
        still had after `timeout_s`. See `pollbroker.Engine.drain`, also for the errors.

        Cancelled: nobody waits any more. Nothing changes at the brokers, since a drain only looks at them.
        """
        return await self._turns.result_of(
            self.sync.begin_drain(timeout_s, broker=None if broker is None else _sync(broker))
        )

    async def pause_and_flush(self, timeout_s: float = 5.0, *, broker: str | Broker | None = None) -> tuple[str, ...]:
        """Pause brokers, and wait until what they held is delivered; return the names of those that still hold a
        message after `timeout_s`. See `pollbroker.Engine.pause_and_flush`, also for the errors.

        Cancelled: nobody waits any more. The brokers are paused, and go on delivering what they hold until `timeout_s`.
        """
        return await self._turns.result_of(
            self.sync.begin_pause_and_flush(timeout_s, broker=None if broker is None else _sync(broker))
        )

    @property
    def brokers(self) -> Mapping[str, Broker]:
        """The brokers by name, as they are now; those that have failed or ended too, until they are removed."""
        return FrozenDict({name: Broker(self._turns, broker) for name, broker in self.sync.brokers.items()})

    def peers(self, broker: str | Broker) -> tuple[PeerStatistics, ...]:
        """Who is connected to a broker now: see `pollbroker.Engine.peers`, also for the errors."""
        return self.sync.peers(_sync(broker))

    def statistics(self, brokers: Iterable[str | Broker] | None = None) -> EngineStatistics:
        """A frozen snapshot of every broker, each direction: see `pollbroker.Engine.statistics`."""
        return self.sync.statistics(None if brokers is None else map(_sync, brokers))

    # -- handing over -------------------------------------------------------------------------------------------------

    async def hand_over(
        self,
        unix_socket: socket.socket,
        brokers: Iterable[str | Broker] | None = None,
        *,
        timeout_s: float = 60.0,
        freeze_s: float = 1.0,
    ) -> HandedOver:
        """Let another process, which calls `adopt`, take over brokers with their listeners and live connections: see
        `pollbroker.Engine.hand_over`, also for the errors.

        Cancelled: it goes on without the caller.
        """
        asked_for = None if brokers is None else map(_sync, brokers)
        return await self._turns.wait_for(
            self.sync.begin_hand_over(unix_socket, asked_for, timeout_s=timeout_s, freeze_s=freeze_s)
        )

    def adopt(self, unix_socket: socket.socket, *, timeout_s: float = 60.0) -> Adoption:
        """Take over brokers of another process, which calls `hand_over`. Use it as `async with engine.adopt(sock):`,
        and see `pollbroker.Engine.adopt`, also for the errors.

        Cancelled at the beginning of the block: nothing is taken over. At its end: it goes on without the caller, and
        either all brokers that were added are taken over, or none.
        """
        return Adoption(self._turns, self.sync.adopt(unix_socket, timeout_s=timeout_s))

    # -- beginning and end --------------------------------------------------------------------------------------------

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...

    def stop(self) -> None:
        """Let `wait_stopped` return. Brokers go on until `close`. Signal handlers and other threads may call this."""
        self.sync.stop()

    async def wait_stopped(self) -> None:
        """Wait until the program is to end: `stop` was called, here or by control, or nothing is left to do (see
        `pollbroker.Engine.run`), or the engine is closed.

        Cancelled: nobody waits any more, and the engine goes on.
        """
        await self._turns.wait_stopped()

    async def close(self, *, timeout_s: float = 1.0) -> None:
        """Remove every broker (see `remove` for the time limit), and give everything back that is the engine's.

        A context of the engine's own is terminated by a thread, which ends with it: see `pollbroker.Engine.close`.
        Closing again waits until that is done.

        Coroutine handlers that are not done after `timeout_s` are cancelled, and waited for while they clean up: with
        asyncio up to 5 s, after which a warning is logged; trio's nursery waits for as long as it takes.

        Cancelled: what the brokers hold is offered once more, and everything is closed at once, before the cancellation
        comes up. The context is terminated without the caller.

        Raises `EngineError` if it is called in another thread than that of the loop, while this runs.
        """
        if self._turns.made_elsewhere:
            raise EngineError(
                "close() was called in another thread than the engine's loop; expected it in that loop, such as by "
                "asyncio.run_coroutine_threadsafe or trio.from_thread.run"
            )
        # Without turns nothing could be sent, so an engine that was not started waits for nothing.
        working = self._turns.begun and not self.closed
        try:
            for removed in self.sync.begin_close(timeout_s=timeout_s) if working else ():
                await self._turns.result_of(removed)
        finally:
            self._turns.end()
            terminated = self.sync.finish_close()
        await self._turns.wait_for_tasks()
        await self._turns.wait_for(terminated)
        self.sync.close()  # the thread that has terminated the context ends at this moment

    @property
    def closed(self) -> bool:
        """True if it was closed: nothing can be done with it any more."""
        return self.sync.closed

    def __repr__(self) -> str:
        doing = "closed" if self.closed else "running" if self._turns.begun else "not running"
        adapter = type(self).__module__.removesuffix(".engine")
        return f"<{adapter}.Engine {doing}, brokers: {', '.join(self.sync.brokers) or 'none'}>"


def _sync(broker: str | Broker) -> str | pollbroker.Broker:
    return broker.sync if isinstance(broker, Broker) else broker
