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
from pollbroker.opening import Plan, ReleasedAddresses, lend_ports
from pollbroker.port import Port
from pollbroker.pump import Pumping, Socket
from pollbroker.statistics import BrokerStatistics


class Table:
    """The brokers of an engine, by name."""

    def __init__(
        self,
        context: zmq.Context[Any],
        pumping: Pumping,
        surroundings: Surroundings,
        context_ended: Callable[[], None],
    ) -> None:
        self.released = ReleasedAddresses()
        self._context = context
        self._pumping = pumping
        self._surroundings = surroundings
        self._context_ended = context_ended
        self._brokers: dict[str, Broker] = {}
        self._lent: dict[int, tuple[Broker, Port]] = {}

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
        return self._enter(name, device, plan.open(self._context, self._pumping, self.released), prefixes)

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
        ports = lend_ports(name, device, sockets, self._pumping)
        for port in ports.values():
            self._check_not_lent(name, port)
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
        )
        broker.start()
        self._lent |= {port.key: (broker, port) for port in broker.ports if not port.owned}
        broker.removed.add_done_callback(lambda _: self._give_back(broker))
        self._brokers[name] = broker
        return broker

    def _give_back(self, broker: Broker) -> None:
        if broker.state is BrokerState.ENDED and broker.frontend.owned:
            self._context_ended()
        for port in broker.ports:
            if port.owned:
                self.released.note(port.endpoints)
            else:
                del self._lent[port.key]

    def pause(self, name: str) -> None:
        """Pause a broker."""
        self._alive(name).pause()

    def resume(self, name: str) -> None:
        """Resume a broker."""
        self._alive(name).resume()

    def begin_removal(self, name: str, timeout_s: float) -> Broker:
        """Take a broker out: at once if it holds nothing, else when it has sent that or the time is over."""
        broker = self._steerable(name)
        broker.removed.add_done_callback(lambda _: self._brokers.pop(name, None))
        broker.begin_removal()
        if not broker.removed.done():
            self._surroundings.call_later(timeout_s, broker.end_removal)
        return broker

    def remove_at_once(self, name: str) -> Broker:
        """Take a broker out without waiting: what it holds is offered once."""
        broker = self.begin_removal(name, 0.0)
        broker.work(1, 1)
        broker.end_removal()
        return broker

    def _check_free(self, name: str) -> None:
        if not isinstance(name, str) or not name or not name.isprintable():
            raise EngineError(f"{name!r} cannot name a broker; expected a non-empty, printable string")
        if name in self._brokers:
            raise EngineError(f"brokers.{name}: the name is taken; expected one that no broker of this engine has")

    def _check_not_lent(self, name: str, port: Port) -> None:
        owner, lent = self._lent.get(port.key, (None, None))
        if owner is None or lent is None:
            return
        owner.wake(lent)  # it may have been closed under the engine, and its address used again
        if port.key in self._lent:
            already = f"{owner.name}.{lent.name}"
            raise EngineError(f"brokers.{name}.{port.name}: the socket is registered already, as brokers.{already}")

    def _known(self, name: str) -> Broker:
        broker = self._brokers.get(name)
        if broker is None:
            known = ", ".join(self._brokers) or "none"
            raise EngineError(f"no broker is named {name!r}; there are: {known}")
        return broker

    def _steerable(self, name: str) -> Broker:
        broker = self._known(name)
        if broker.working:
            raise EngineError(f"brokers.{name}: its own handler cannot steer it; use engine.call_soon_threadsafe")
        return broker

    def _alive(self, name: str) -> Broker:
        broker = self._steerable(name)
        if broker.state in FINAL_STATES or broker.state is BrokerState.REMOVING:
            why = "" if broker.error is None else f": {broker.error}"
            raise EngineError(f"brokers.{broker.name}: it is {broker.state}{why}")
        return broker
