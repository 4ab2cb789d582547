"""The table of an engine's brokers: how a broker is added, found, paused, resumed and removed.

Everything here happens in the engine's thread, to which `Engine` passes its calls on.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

import zmq

from pollbroker.broker import Broker, working_broker
from pollbroker.device import Device
from pollbroker.errors import DeviceError, EngineError, describe_error
from pollbroker.events import EventKind
from pollbroker.frozen import FrozenDict
from pollbroker.loop_access import LoopAccess
from pollbroker.opening import Plan
from pollbroker.pump import Implementation, Socket
from pollbroker.starting import Starting
from pollbroker.states import FINAL_STATES, BrokerState
from pollbroker.statistics import BrokerStatistics, PeerStatistics
from pollbroker.taps import Tap
from pollbroker.timers import check_delay
from pollbroker.working import WorkingBroker

_LEAVING: Final = frozenset({BrokerState.DRAINING, BrokerState.REMOVING, BrokerState.HANDING_OVER})
"""The states in which a broker cannot be paused or resumed."""
_ENDINGS: Final = {
    BrokerState.FAILED: EventKind.BROKER_FAILED,
    BrokerState.ENDED: EventKind.BROKER_ENDED,
    BrokerState.REMOVED: EventKind.BROKER_REMOVED,
}


class Arrival(Protocol):
    """What another process hands over; see `pollbroker.handing_over`."""

    def has(self, name: str, /) -> bool:
        """Return True if a broker of this name is handed over."""

    def plan_for(self, name: str, device: Device, plan: Plan, /) -> Plan:
        """The plan of this broker's ports, which bind and connect nothing. Raises `ConfigError` if the broker is not
        the one that is handed over."""

    def expect(self, broker: WorkingBroker, /) -> None:
        """This broker will take over what the other process has."""


class Table:
    """The brokers of an engine, by name."""

    def __init__(
        self,
        context: zmq.Context[Any],
        implementation: Implementation,
        loop_access: LoopAccess,
    ) -> None:
        self.starting = Starting(context, implementation, loop_access, self._broker_ended)
        self.arrival: Arrival | None = None
        """The brokers that another process hands over, while they are added here."""
        self.on_exchange: Callable[[WorkingBroker, WorkingBroker], object] = lambda _old, _new: None
        """Called with a broker and the one that has taken its place."""
        self._refuses_others = False
        self._loop_access = loop_access
        self._events = loop_access.events
        self._brokers: dict[str, WorkingBroker] = {}
        self._changes = 0
        """How often a broker has come or gone."""
        self._handles: tuple[int, Mapping[str, Broker]] | None = None
        """A handle for each broker, and the number of changes when they were made."""
        self._alive_count = 0
        self._being_removed: set[WorkingBroker] = set()
        self._prepared: set[WorkingBroker] = set()

    def __iter__(self) -> Iterator[WorkingBroker]:
        return iter(self._brokers.values())

    def __len__(self) -> int:
        return len(self._brokers)

    @property
    def all_ended(self) -> bool:
        """True if there are brokers, and every one of them has ended or failed."""
        return not self._alive_count and bool(self._brokers)

    def statistics(self, which: str | Broker) -> BrokerStatistics:
        """A snapshot of one broker."""
        broker = self.find(which)
        broker.check_alive()
        return broker.statistics()

    def peers(self, which: str | Broker) -> tuple[PeerStatistics, ...]:
        """The connections of one broker."""
        return self.find(which).peers()

    def snapshot(self) -> dict[str, WorkingBroker]:
        """A copy of the table. Any thread may call this."""
        return dict(self._brokers)

    def get(self, name: str) -> WorkingBroker | None:
        """The broker of this name; None if there is none."""
        return self._brokers.get(name)

    def handles(self, make_handle: Callable[[WorkingBroker], Broker]) -> Mapping[str, Broker]:
        """A handle for each broker, by name. They are made again only after a broker has come or gone, since a thousand
        of them take a millisecond. Any thread may call this."""
        changes, known = self._changes, self._handles
        if known is None or known[0] != changes:
            handles = {name: make_handle(broker) for name, broker in self.snapshot().items()}
            self._handles = known = (changes, FrozenDict(handles))  # of this number, even if there are more by now
        return known[1]

    def _note_change(self) -> None:
        """To be called after each change of `_brokers`."""
        self._changes += 1
        self._handles = None

    def add(
        self,
        name: str,
        device: Device,
        plan: Plan,
        prefixes: Mapping[str, bytes],
        earlier: BrokerStatistics | None = None,
    ) -> WorkingBroker:
        """Open the ports of a plan and start a broker on them, whose counters go on with those of an earlier one."""
        self.check_free(name)
        arrival = self.arrival if self.arrival is not None and self.arrival.has(name) else None
        if arrival is not None:
            plan = arrival.plan_for(name, device, plan)
        broker = self._begin(self.starting.open(name, device, plan, prefixes, earlier))
        if arrival is not None:
            arrival.expect(broker)
        return broker

    def register(
        self,
        name: str | None,
        device: Device,
        sockets: Mapping[str, Socket | None],
        prefixes: Mapping[str, bytes],
    ) -> WorkingBroker:
        """Start a broker on registered sockets."""
        if name is None:
            numbered = (f"{device.name}-{i}" for i in itertools.count(1))
            name = next(one for one in numbered if one not in self._brokers)
        self.check_free(name)
        return self._begin(self.starting.register(name, device, sockets, prefixes))

    def _begin(self, broker: WorkingBroker) -> WorkingBroker:
        self._enter(broker)
        self._events.emit(EventKind.BROKER_ADDED, broker.name)
        return broker

    def _enter(self, broker: WorkingBroker) -> None:
        self._brokers[broker.name] = broker
        self._note_change()
        self._alive_count += 1
        self._loop_access.monitors.add(broker)

    # -- a broker in the place of another ------------------------------------------------------------------------------

    def prepare(self, name: str, device: Device, plan: Plan, prefixes: Mapping[str, bytes]) -> WorkingBroker:
        """Start a broker that is not in the table, for `exchange` or `abandon` in the same call."""
        broker = self.starting.open(name, device, plan, prefixes)
        self._prepared.add(broker)
        return broker

    def exchange(self, old: WorkingBroker, new: WorkingBroker) -> None:
        """Put a broker that was prepared in the place of another one, whose sockets are closed. That ends."""
        self._prepared.remove(new)
        del self._brokers[old.name]
        self._enter(new)
        self.on_exchange(old, new)
        if old.taps:
            new.set_taps(old.taps)
            old.set_taps(())
        old.end_removal()
        self.starting.forget_released(new)
        self._events.emit(EventKind.BROKER_ADDED, new.name)

    def abandon(self, broker: WorkingBroker) -> None:
        """End a broker that was prepared, whose sockets are closed."""
        broker.end_removal()

    # -- the end of a broker -------------------------------------------------------------------------------------------

    def _broker_ended(self, broker: WorkingBroker) -> None:
        """Give back the claims of a broker that has ended. If it was not being removed, it stays in the table, so that
        its state and its error can be read."""
        self.starting.note_end(broker)
        if broker in self._prepared:
            self._prepared.remove(broker)
            return
        if broker in self._being_removed:
            self._being_removed.remove(broker)
            del self._brokers[broker.name]
            self._note_change()
        self._alive_count -= 1
        reason = "" if broker.error is None else describe_error(broker.error)
        self._events.emit(_ENDINGS[broker.state], broker.name, reason=reason)

    def end_those_at_the_wire(self) -> None:
        """End every broker that has a port at the wire, since the context is being terminated. Those at libzmq's
        sockets find that out themselves."""
        for broker in self.snapshot().values():
            if any(port.wire is not None for port in broker.ports):
                if broker.interrupt is not None:
                    broker.interrupt()
                broker.fail(zmq.ZMQError(zmq.ETERM))

    def pause(self, which: str | Broker) -> None:
        """Pause a broker."""
        broker = self._not_ended(which)
        if broker.state is not BrokerState.PAUSED:
            broker.pause()
            self._events.emit(EventKind.BROKER_PAUSED, broker.name)

    def resume(self, which: str | Broker) -> None:
        """Resume a broker."""
        broker = self._not_ended(which)
        if broker.state is BrokerState.PAUSED:
            broker.resume()
            self._events.emit(EventKind.BROKER_RESUMED, broker.name)

    def tap(self, which: str | Broker, tap: Tap) -> Callable[[], None]:
        """Begin to tap a broker. Return a function that ends it."""
        broker = self.find(which)
        if broker.state in FINAL_STATES:
            raise EngineError(f"brokers.{broker.name}: it is {broker.state}")
        if tap.port is not None and tap.port not in broker.device.ports:
            names = ", ".join(broker.device.ports)
            raise DeviceError(f"brokers.{broker.name}: it has no {tap.port} to tap; its ports are: {names}")
        broker.set_taps((*broker.taps, tap))

        def end() -> None:
            for each in (broker, *self._brokers.values()):  # another one may have taken its place
                if tap in each.taps:
                    each.set_taps(tuple(one for one in each.taps if one is not tap))

        return end

    def begin_draining(self, which: str | Broker) -> WorkingBroker:
        """Have a broker take what its peers have sent, and no new peers, until it is idle and can be removed."""
        broker = self.steerable(which)
        if broker.interrupt is not None:
            broker.interrupt()
        broker.begin_draining()
        return broker

    def disable(self, which: str | Broker) -> None:
        """Let the ports of a broker that bind stop listening."""
        self._not_ended(which).disable()

    def enable(self, which: str | Broker, descriptors: Mapping[str, int]) -> None:
        """Let them listen again."""
        self._not_ended(which).enable(descriptors)

    def reconnect(self, which: str | Broker) -> None:
        """Let the ports of a broker that connect do so again."""
        self._not_ended(which).reconnect()

    def begin_flush(self, which: str | Broker | None) -> None:
        """Pause a broker, or every broker that has not ended, but let it go on offering what it holds."""
        if which is not None:
            brokers = [self._not_ended(which)]
        else:
            brokers = [one for one in self if one.state in (BrokerState.RUNNING, BrokerState.PAUSED)]
            for broker in brokers:
                self._not_ended(broker.name)  # its own handler cannot steer it
        for broker in brokers:
            was_running = broker.state is BrokerState.RUNNING
            broker.begin_flush()
            if was_running:
                self._events.emit(EventKind.BROKER_PAUSED, broker.name)

    def begin_removal(self, which: str | Broker, timeout_s: float) -> WorkingBroker:
        """Begin to remove a broker. It is removed at once if it holds no message, and otherwise when it has sent the
        held messages, or after `timeout_s`."""
        check_delay(timeout_s)
        broker = self.steerable(which)
        if broker.interrupt is not None:
            broker.interrupt()
            if self.get(broker.name) is not broker:
                return broker  # it was handed over
        if broker.state in FINAL_STATES:
            del self._brokers[broker.name]
            self._note_change()
            self._events.emit(EventKind.BROKER_REMOVED, broker.name)
            return broker
        self._being_removed.add(broker)
        broker.begin_removal()
        if broker in self._being_removed:
            time_out = self._loop_access.call_later(timeout_s, broker.end_removal)
            broker.removed.add_done_callback(lambda _: time_out.cancel())
        return broker

    def begin_removing_all(self, timeout_s: float) -> list[WorkingBroker]:
        """Begin to remove every broker; see `begin_removal`. The end of one may have removed another, as a listener of
        events may."""
        there = self.snapshot().items()
        return [self.begin_removal(name, timeout_s) for name, broker in there if self.get(name) is broker]

    def remove_at_once(self, which: str | Broker) -> WorkingBroker:
        """Remove a broker without waiting: the messages that it holds are offered once."""
        broker = self.begin_removal(which, 0.0)
        broker.offer_held_messages()
        broker.end_removal()
        return broker

    def forget(self, broker: WorkingBroker) -> None:
        """End a broker whose sockets are closed already, since another process has its connections."""
        self._being_removed.add(broker)
        broker.handed_over = True
        broker.end_removal()
        self.starting.forget_released(broker)

    @contextmanager
    def refusing_others(self) -> Iterator[None]:
        """As a context: no other broker may begin, since the engine is closing."""
        self._refuses_others = True
        try:
            yield
        finally:
            self._refuses_others = False

    def check_takes_others(self) -> None:
        """Raise `EngineError` if no other broker may begin."""
        if self._refuses_others:
            raise EngineError("the engine is closed")

    def check_free(self, name: str) -> None:
        """Raise `EngineError` if a broker cannot have this name, or another one has it, or none may begin."""
        self.check_takes_others()
        if not isinstance(name, str) or not name or not name.isprintable():
            raise EngineError(f"{name!r} cannot name a broker; expected a non-empty, printable string")
        if name in self._brokers:
            raise EngineError(f"brokers.{name}: the name is taken; expected one that no broker of this engine has")

    def find(self, which: str | Broker) -> WorkingBroker:
        """The broker with this name or handle. Raises `EngineError` if there is none, or if it was removed."""
        if isinstance(which, Broker):
            broker = self._brokers.get(which.name)
            if broker is None or broker is not working_broker(which):
                whose = ", and belongs to another engine" if which.state not in FINAL_STATES else ""
                raise EngineError(f"brokers.{which.name}: it is {which.state}{whose}")
            return broker
        broker = self._brokers.get(which)
        if broker is None:
            known = ", ".join(self._brokers) or "none"
            raise EngineError(f"no broker is named {which!r}; there are: {known}")
        return broker

    def steerable(self, which: str | Broker) -> WorkingBroker:
        """The broker with this name or handle. Raises `EngineError` as `find`, and for a call of its own handler."""
        broker = self.find(which)
        if broker.hub.working or broker.is_ending:
            raise EngineError(
                f"brokers.{broker.name}: its own handler cannot steer it; use engine.call_soon_threadsafe"
            )
        return broker

    def _not_ended(self, which: str | Broker) -> WorkingBroker:
        broker = self.steerable(which)
        if broker.state in FINAL_STATES or broker.state in _LEAVING:
            why = "" if broker.error is None else f": {broker.error}"
            raise EngineError(f"brokers.{broker.name}: it is {broker.state}{why}")
        return broker
