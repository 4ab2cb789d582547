"""The handle to a broker where what waits is awaited: that of `pollbroker`, with coroutines where its methods block."""

from collections.abc import Awaitable, Mapping

import pollbroker
from pollbroker.awaiting.turns import Turns
from pollbroker.broker import Port
from pollbroker.device import Device
from pollbroker.errors import EngineError
from pollbroker.states import BrokerState
from pollbroker.statistics import BrokerStatistics, PeerStatistics


class Broker:
    """A device at work on the loop of the program. `pollbroker.Broker` says more about what has the same name here."""

    def __init__(self, turns: Turns, sync: pollbroker.Broker) -> None:
        self._turns = turns
        self.sync = sync
        """The handle behind this one. Those of its methods that wait would block the loop."""

    def __eq__(self, other: object) -> bool:
        """Return True for another handle to the same broker."""
        return isinstance(other, Broker) and other.sync == self.sync

    def __hash__(self) -> int:
        return hash(self.sync)

    @property
    def name(self) -> str:
        """Its name, which no other broker of the engine has at the same time."""
        return self.sync.name

    @property
    def device(self) -> Device:
        """The definition that it works by."""
        return self.sync.device

    @property
    def state(self) -> BrokerState:
        """What it does at this moment; see `BrokerState`."""
        return self.sync.state

    @property
    def disabled(self) -> bool:
        """True while nobody can connect to it; see `pollbroker.Engine.disable`."""
        return self.sync.disabled

    @property
    def error(self) -> BaseException | None:
        """Why it failed; None unless it has."""
        return self.sync.error

    @property
    def ports(self) -> Mapping[str, Port]:
        """Its sockets by name: those of the device, and `capture` if it has one."""
        return self.sync.ports

    @property
    def frontend(self) -> Port:
        """The port of that name. Raises `DeviceError` if the device has none."""
        return self.sync.frontend

    @property
    def backend(self) -> Port:
        """The port of that name. Raises `DeviceError` if the device has none."""
        return self.sync.backend

    @property
    def capture(self) -> Port:
        """The port of that name. Raises `DeviceError` if it was given no capture socket."""
        return self.sync.capture

    @property
    def removed(self) -> Awaitable[BrokerStatistics]:
        """Awaited, it gives the last statistics, when the broker is removed or has ended by itself.

        Whoever waits for it may be cancelled; nothing happens to the broker then.
        """
        return self._turns.wait_for(self.sync.removed)

    @property
    def dropped(self) -> int:
        """How many messages were dropped so far, by any rule; `statistics` says by which."""
        return self.sync.dropped

    def pause(self) -> None:
        """As `Engine.pause`."""
        self.sync.pause()

    def resume(self) -> None:
        """As `Engine.resume`."""
        self.sync.resume()

    def disable(self) -> None:
        """As `Engine.disable`."""
        self.sync.disable()

    def enable(self) -> None:
        """As `Engine.enable`."""
        self.sync.enable()

    def reconnect(self) -> None:
        """As `Engine.reconnect`."""
        self.sync.reconnect()

    async def remove(self, *, timeout_s: float = 1.0, drain: bool = False) -> BrokerStatistics:
        """As `Engine.remove`, also if it is cancelled. Of a broker that was removed already: its last statistics, once
        more."""
        try:
            removed = self._turns.engine.begin_removal(self.sync, timeout_s=timeout_s, drain=drain)
        except EngineError:
            removed = self.sync.removed
            if not removed.done():
                raise
        return await self._turns.result_of(removed)

    async def drain(self, timeout_s: float = 5.0) -> bool:
        """As `Engine.drain`, for this broker alone, also if it is cancelled. Return True if nothing is left, and False
        if the time is over."""
        return not await self._turns.result_of(self._turns.engine.begin_drain(timeout_s, broker=self.sync))

    async def pause_and_flush(self, timeout_s: float = 5.0) -> bool:
        """As `Engine.pause_and_flush`, for this broker alone, also if it is cancelled. Return True if it is paused and
        holds nothing."""
        return not await self._turns.result_of(self._turns.engine.begin_pause_and_flush(timeout_s, broker=self.sync))

    def peers(self) -> tuple[PeerStatistics, ...]:
        """Who is connected now: see `pollbroker.Engine.peers`."""
        return self.sync.peers()

    def statistics(self) -> BrokerStatistics:
        """A frozen snapshot. Of a broker that was removed: its last statistics."""
        return self.sync.statistics()

    def __repr__(self) -> str:
        return repr(self.sync)
