"""What `Engine.add` and `Engine.register` return: a handle to a broker.

The broker itself (`working.py`) belongs to the engine's thread. Every method of the handle may be called from any
thread, because it calls a method of the engine, which passes the call on to the engine's thread. Attributes are read at
once, and may have changed a moment later.
"""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import zmq

from pollbroker.device import Device
from pollbroker.errors import DeviceError, EngineError
from pollbroker.frozen import FrozenDict
from pollbroker.states import BrokerState
from pollbroker.statistics import BrokerStatistics, PeerStatistics
from pollbroker.working import WorkingBroker


@dataclass(frozen=True)
class Port:
    """One socket of a broker, as a snapshot: its name, its type and its addresses."""

    name: str
    """The device's name for the port, such as `frontend`; or `capture`."""
    type: zmq.SocketType
    endpoints: tuple[str, ...]
    """The real addresses: those that were bound, with wildcards resolved, and those that were connected. Empty for a
    registered socket, whose addresses the engine does not know."""

    @property
    def endpoint(self) -> str:
        """The first address; most ports have one only. Raises `IndexError` for a registered socket."""
        return self.endpoints[0]

    def __repr__(self) -> str:
        return f"<Port {self.name} {self.type.name} {' '.join(self.endpoints) or 'registered'}>"


class Steering(Protocol):
    """What a handle needs of its engine; see `Engine` for what the methods do and raise."""

    def pause(self, broker: "str | Broker", /) -> None: ...

    def resume(self, broker: "str | Broker", /) -> None: ...

    def remove(self, broker: "str | Broker", /, *, timeout_s: float, drain: bool) -> BrokerStatistics: ...

    def drain(self, timeout_s: float, *, broker: "str | Broker | None") -> tuple[str, ...]: ...

    def pause_and_flush(self, timeout_s: float, *, broker: "str | Broker | None") -> tuple[str, ...]: ...

    def disable(self, broker: "str | Broker", /) -> None: ...

    def enable(self, broker: "str | Broker", /) -> None: ...

    def reconnect(self, broker: "str | Broker", /) -> None: ...

    def broker_statistics(self, broker: "str | Broker", /) -> BrokerStatistics: ...

    def peers(self, broker: "str | Broker", /) -> tuple[PeerStatistics, ...]: ...


class Broker:
    """A device at work. Every method and attribute may be used from any thread.

    A handle belongs to one broker. After that broker was removed, another may have its name; the methods of the handle
    do not touch that one, and raise `EngineError` or return the last statistics.
    """

    __slots__ = ("__weakref__", "_engine", "_working")

    def __init__(self, engine: Steering, working: WorkingBroker) -> None:
        self._engine = engine
        self._working = working

    def __eq__(self, other: object) -> bool:
        """Return True if `other` is a handle to the same broker."""
        return isinstance(other, Broker) and other._working is self._working

    def __hash__(self) -> int:
        return hash(self._working)

    @property
    def name(self) -> str:
        """The broker's name, which no other broker of the engine has at the same time."""
        return self._working.name

    @property
    def device(self) -> Device:
        """The definition of the broker's ports and routes."""
        return self._working.device

    @property
    def state(self) -> BrokerState:
        """What the broker does at this moment; see `BrokerState`."""
        return self._working.told_state

    @property
    def disabled(self) -> bool:
        """True while nobody can connect to the broker; see `Engine.disable`."""
        return self._working.disabled

    @property
    def error(self) -> BaseException | None:
        """Why the broker failed; None if it has not."""
        return self._working.error

    @property
    def ports(self) -> Mapping[str, Port]:
        """The broker's sockets by name: those of the device, and `capture` if there is one."""
        return FrozenDict({port.name: Port(port.name, port.type, port.endpoints) for port in self._working.ports})

    @property
    def frontend(self) -> Port:
        """The port `frontend`. Raises `DeviceError` if the device has none."""
        return self._port("frontend")

    @property
    def backend(self) -> Port:
        """The port `backend`. Raises `DeviceError` if the device has none."""
        return self._port("backend")

    @property
    def capture(self) -> Port:
        """The port `capture`. Raises `DeviceError` if the broker was given no capture socket."""
        return self._port("capture")

    def _port(self, name: str) -> Port:
        ports = self.ports
        if name not in ports:
            raise DeviceError(f"brokers.{self.name}: it has no {name}; its ports are: {', '.join(ports)}")
        return ports[name]

    @property
    def removed(self) -> "Future[BrokerStatistics]":
        """A future that is resolved, with the last statistics, when the broker is removed, has ended or has failed."""
        return self._working.removed

    @property
    def dropped(self) -> int:
        """How many messages were dropped so far, by any rule; `statistics` says by which.

        This costs little, so that it may be asked for often. In another thread than the engine's it may be off by what
        is on its way at this moment.
        """
        return self._working.dropped

    def pause(self) -> None:
        """Move nothing until `resume`; see `Engine.pause`."""
        self._engine.pause(self)

    def pause_and_flush(self, timeout_s: float = 5.0) -> bool:
        """Move nothing more, and wait until what is held was delivered; see `Engine.pause_and_flush`.

        Return True if the broker is paused and holds nothing.
        """
        return not self._engine.pause_and_flush(timeout_s, broker=self)

    def resume(self) -> None:
        """Move messages again; see `Engine.resume`."""
        self._engine.resume(self)

    def disable(self) -> None:
        """Let nobody new connect, until `enable`; see `Engine.disable`."""
        self._engine.disable(self)

    def enable(self) -> None:
        """Undo `disable`; see `Engine.enable`."""
        self._engine.enable(self)

    def reconnect(self) -> None:
        """Make the connections again that this broker has made; see `Engine.reconnect`."""
        self._engine.reconnect(self)

    def remove(self, *, timeout_s: float = 1.0, drain: bool = False) -> BrokerStatistics:
        """End the broker and return its final statistics; see `Engine.remove`.

        If the broker was removed already, its final statistics are returned once more.
        """
        try:
            return self._engine.remove(self, timeout_s=timeout_s, drain=drain)
        except EngineError:
            if self._working.final is None:
                raise
            return self._working.final

    def drain(self, timeout_s: float = 5.0) -> bool:
        """Wait until this broker holds no message and has none to read; see `Engine.drain`.

        Return True if it is drained, and False if it was not after `timeout_s`.
        """
        return not self._engine.drain(timeout_s, broker=self)

    def statistics(self) -> BrokerStatistics:
        """A frozen snapshot. If the broker was removed, these are its final statistics."""
        try:
            return self._engine.broker_statistics(self)
        except EngineError:
            if self._working.final is None:
                raise
            return self._working.final

    def peers(self) -> tuple[PeerStatistics, ...]:
        """Who is connected now; see `Engine.peers`."""
        return self._engine.peers(self)

    def __repr__(self) -> str:
        return f"<Broker {self.name} {self.device.name} {self.state}>"


def working_broker(broker: Broker) -> WorkingBroker:
    """The broker that a handle stands for. Only the engine's thread may use it; the test kit looks into it."""
    return broker._working
