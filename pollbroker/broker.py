"""What `Engine.add` and `Engine.register` return: a handle to a broker.

The broker itself (`working.py`) belongs to the engine's thread. Every method of the handle may be called from any
thread, since it goes the way of the engine's own methods; what can be read without a method is a snapshot of a moment.
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
from pollbroker.statistics import BrokerStatistics
from pollbroker.working import WorkingBroker


@dataclass(frozen=True)
class Port:
    """One socket of a broker, as others see it."""

    name: str
    """As the device calls it, such as `frontend`; or `capture`."""
    type: zmq.SocketType
    endpoints: tuple[str, ...]
    """The real addresses: what was bound, wildcards resolved, and what was connected. A registered socket's are not
    known here."""

    @property
    def endpoint(self) -> str:
        """The first of them: the only one, as a rule. Raises `IndexError` for a registered socket."""
        return self.endpoints[0]

    def __repr__(self) -> str:
        return f"<Port {self.name} {self.type.name} {' '.join(self.endpoints) or 'registered'}>"


class Steering(Protocol):
    """What a handle needs of its engine; see `Engine` for what the methods do and raise."""

    def pause(self, broker: "str | Broker", /) -> None: ...

    def resume(self, broker: "str | Broker", /) -> None: ...

    def remove(self, broker: "str | Broker", /, *, timeout_s: float) -> BrokerStatistics: ...

    def drain(self, timeout_s: float, *, broker: "str | Broker | None") -> tuple[str, ...]: ...

    def broker_statistics(self, broker: "str | Broker", /) -> BrokerStatistics: ...


class Broker:
    """A device at work. Every method and attribute may be used from any thread.

    A handle stays with its broker: when that was removed, the name may be another broker's, and this one says so.
    """

    __slots__ = ("__weakref__", "_engine", "_working")

    def __init__(self, engine: Steering, working: WorkingBroker) -> None:
        self._engine = engine
        self._working = working

    def __eq__(self, other: object) -> bool:
        """Return True for another handle to the same broker."""
        return isinstance(other, Broker) and other._working is self._working

    def __hash__(self) -> int:
        return hash(self._working)

    @property
    def name(self) -> str:
        """Its name, which no other broker of the engine has at the same time."""
        return self._working.name

    @property
    def device(self) -> Device:
        """The definition that it works by."""
        return self._working.device

    @property
    def state(self) -> BrokerState:
        """What it does at this moment; see `BrokerState`."""
        return self._working.state

    @property
    def error(self) -> BaseException | None:
        """Why it failed; None unless it has."""
        return self._working.error

    @property
    def ports(self) -> Mapping[str, Port]:
        """Its sockets by name: those of the device, and `capture` if it has one."""
        return FrozenDict({port.name: Port(port.name, port.type, port.endpoints) for port in self._working.ports})

    @property
    def frontend(self) -> Port:
        """The port of that name. Raises `DeviceError` if the device has none."""
        return self._port("frontend")

    @property
    def backend(self) -> Port:
        """The port of that name. Raises `DeviceError` if the device has none."""
        return self._port("backend")

    @property
    def capture(self) -> Port:
        """The port of that name. Raises `DeviceError` if it was given no capture socket."""
        return self._port("capture")

    def _port(self, name: str) -> Port:
        ports = self.ports
        if name not in ports:
            raise DeviceError(f"brokers.{self.name}: it has no {name}; its ports are: {', '.join(ports)}")
        return ports[name]

    @property
    def removed(self) -> "Future[BrokerStatistics]":
        """Resolved, with its last statistics, when it is removed or has ended by itself."""
        return self._working.removed

    def pause(self) -> None:
        """As `Engine.pause`."""
        self._engine.pause(self)

    def resume(self) -> None:
        """As `Engine.resume`."""
        self._engine.resume(self)

    def remove(self, *, timeout_s: float = 1.0) -> BrokerStatistics:
        """As `Engine.remove`. Of a broker that was removed already: its last statistics, once more."""
        try:
            return self._engine.remove(self, timeout_s=timeout_s)
        except EngineError:
            if self._working.final is None:
                raise
            return self._working.final

    def drain(self, timeout_s: float = 5.0) -> bool:
        """As `Engine.drain`, for this broker alone. Return True if nothing is left, and False if the time is over."""
        return not self._engine.drain(timeout_s, broker=self)

    def statistics(self) -> BrokerStatistics:
        """A frozen snapshot. Of a broker that was removed: its last statistics."""
        try:
            return self._engine.broker_statistics(self)
        except EngineError:
            if self._working.final is None:
                raise
            return self._working.final

    def __repr__(self) -> str:
        return f"<Broker {self.name} {self.device.name} {self.state}>"


def working_broker(broker: Broker) -> WorkingBroker:
    """What is behind a handle: for the test kit, which looks at what the engine's thread alone may touch."""
    return broker._working
