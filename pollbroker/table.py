"""The table of brokers: who is in it, on whose sockets, and how one comes in and goes out.

Everything here happens in the engine's thread; `Engine` carries the calls over.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import zmq

from pollbroker.broker import FINAL_STATES, Broker, BrokerState, Surroundings
from pollbroker.device import Device
from pollbroker.errors import EngineError
from pollbroker.opening import RELEASED, Plan, lend_ports
from pollbroker.port import Port
from pollbroker.pump import Pumping, Socket
from pollbroker.statistics import BrokerStatistics
from pollbroker.timers import check_delay


class Table:
    """The brokers of an engine, by name."""

    def __init__(
        self,
        context: zmq.Context[Any],
        pumping: Pumping,
        surroundings: Surroundings,
        context_ended: Callable[[], None],
    ) -> None:
        self.released = RELEASED
        self._context = context
        self._pumping = pumping
        self._surroundings = surroundings
        self._context_ended = context_ended
        self._brokers: dict[str, Broker] = {}
        self._owners: dict[int, Broker] = {}  # by the key of a port
        self._leaving: set[Broker] = set()
        self._gone = self._give_back  # one bound method for all of them

    def __iter__(self) -> Iterator[Broker]:
        return iter(self._brokers.values())

    def statistics(self, name: str) -> BrokerStatistics:
        """A snapshot of one broker."""
        broker = self._known(name)
        broker.look_alive()
        return broker.statistics()

    def snapshot(self) -> dict[str, Broker]:
        """A copy. May be taken from any thread."""
        return dict(self._brokers)

    def add(self, name: str, device: Device, plan: Plan, prefixes: tuple[bytes, bytes] | None) -> Broker:
        """Open the ports of a plan and start a broker on them."""
        self._check_free(name)
        return self._enter(name, device, plan.open(self._context, self.released), prefixes)

    def register(
        self,
        name: str | None,
        device: Device,
        sockets: Mapping[str, Socket | None],
        prefixes: tuple[bytes, bytes] | None,
    ) -> Broker:
        """Start a broker on sockets of the caller's."""
        if name is None:
            numbered = (f"{device.name}-{i}" for i in itertools.count(1))
            name = next(one for one in numbered if one not in self._brokers)
        self._check_free(name)
        ports = lend_ports(name, device, sockets)
        for port in ports.values():
            self._check_new(name, port, ports)
        return self._enter(name, device, ports, prefixes)

    def _enter(
        self, name: str, device: Device, ports: Mapping[str, Port], prefixes: tuple[bytes, bytes] | None
    ) -> Broker:
        broker = Broker(
            name,
            device,
            ports["frontend"],
            ports.get("backend"),
            ports.get("capture"),
            pumping=self._pumping,
            prefixes=prefixes,
            surroundings=self._surroundings,
            gone=self._gone,
        )
        broker.start()
        for port in broker.ports:
            self._owners[port.key] = broker
            if port.owned:
                self.released.forget(port.endpoints)
        self._brokers[name] = broker
        return broker

    def _give_back(self, broker: Broker) -> None:
        """It has ended: its sockets are nobody's now. Unless it was to be removed, it stays in the table to be seen."""
        if broker in self._leaving:
            self._leaving.remove(broker)
            del self._brokers[broker.name]
        for port in broker.ports:
            del self._owners[port.key]
            if port.owned:
                self.released.note(port.endpoints)
        if broker.state is BrokerState.ENDED and self._stands_in_own_context(broker):
            others = filter(self._stands_in_own_context, self._brokers.values())
            if all(other.state in FINAL_STATES for other in others):
                self._context_ended()

    def _stands_in_own_context(self, broker: Broker) -> bool:
        return broker.frontend.owned or broker.frontend.socket.context is self._context

    def pause(self, name: str) -> None:
        """Pause a broker."""
        self._alive(name).pause()

    def resume(self, name: str) -> None:
        """Resume a broker."""
        self._alive(name).resume()

    def begin_removal(self, name: str, timeout_s: float) -> Broker:
        """Take a broker out: at once if it holds nothing, else when it has sent that or the time is over."""
        check_delay(timeout_s)
        broker = self._steerable(name)
        if broker.state in FINAL_STATES:
            del self._brokers[name]
            return broker
        self._leaving.add(broker)
        broker.begin_removal()
        if broker in self._leaving:
            self._surroundings.call_later(timeout_s, broker.end_removal)
        return broker

    def begin_removing_all(self, timeout_s: float) -> list[Broker]:
        """Take every broker out, as `begin_removal`."""
        return [self.begin_removal(name, timeout_s) for name in self.snapshot()]

    def remove_at_once(self, name: str) -> Broker:
        """Take a broker out without waiting: what it holds is offered once."""
        broker = self.begin_removal(name, 0.0)
        broker.offer_held()
        broker.end_removal()
        return broker

    def _check_free(self, name: str) -> None:
        if not isinstance(name, str) or not name or not name.isprintable():
            raise EngineError(f"{name!r} cannot name a broker; expected a non-empty, printable string")
        if name in self._brokers:
            raise EngineError(f"brokers.{name}: the name is taken; expected one that no broker of this engine has")

    def _check_new(self, name: str, port: Port, ports: Mapping[str, Port]) -> None:
        place = f"brokers.{name}.{port.name}"
        for other in ports.values():
            if other is not port and other.key == port.key:
                raise EngineError(f"{place}: the socket is registered twice here, as {other.name} too")
        if port.key in self._owners:
            self._owners[port.key].look_alive()  # it may have been closed under the engine, and its address used again
        if port.key in self._owners:
            owner = self._owners[port.key]
            known = next(one for one in owner.ports if one.key == port.key)
            raise EngineError(f"{place}: the socket is registered already, as brokers.{owner.name}.{known.name}")

    def _known(self, name: str) -> Broker:
        broker = self._brokers.get(name)
        if broker is None:
            known = ", ".join(self._brokers) or "none"
            raise EngineError(f"no broker is named {name!r}; there are: {known}")
        return broker

    def _steerable(self, name: str) -> Broker:
        broker = self._known(name)
        if broker.hub.working:
            raise EngineError(f"brokers.{name}: its own handler cannot steer it; use engine.call_soon_threadsafe")
        return broker

    def _alive(self, name: str) -> Broker:
        broker = self._steerable(name)
        if broker.state in FINAL_STATES or broker.state is BrokerState.REMOVING:
            why = "" if broker.error is None else f": {broker.error}"
            raise EngineError(f"brokers.{broker.name}: it is {broker.state}{why}")
        return broker
