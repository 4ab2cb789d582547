"""What a broker at work is, and what it tells of itself: its state, its counters, what is left for it to do, and, to
those who tap it, what passes.

What it does is in `working.py`.
"""

import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Final

from pollbroker.accounting import BEHAVIOUR, account_for
from pollbroker.continuing import continue_counters
from pollbroker.device import Device
from pollbroker.errors import DeviceError
from pollbroker.flows import Lifecycle
from pollbroker.frozen import FrozenDict
from pollbroker.loop_access import LoopAccess
from pollbroker.port import WorkingPort
from pollbroker.pump import NO_SOURCE, Hub
from pollbroker.states import FINAL_STATES, BrokerState
from pollbroker.statistics import BrokerStatistics, PeerStatistics
from pollbroker.taps import Tap, TapPoint

_FUTURES: Final = threading.Lock()
"""Guards the making of a broker's future `removed`. To save memory it is made when it is first asked for, and any
thread may ask."""
os.register_at_fork(before=_FUTURES.acquire, after_in_parent=_FUTURES.release, after_in_child=_FUTURES.release)


class TellingBroker:
    """The part of a broker at work that tells of it. `WorkingBroker` sets the attributes. Any thread may read them;
    only the engine's thread may call the methods."""

    __slots__ = (
        "__weakref__",
        "_lifecycle",
        "_loop_access",
        "_removed",
        "device",
        "disabled",
        "earlier",
        "error",
        "final",
        "hub",
        "name",
        "ports",
        "state",
        "taps",
        "watched_ports",
    )

    name: str
    device: Device
    state: BrokerState
    error: BaseException | None
    """Why the broker failed; None if it has not."""
    disabled: bool
    """True while the ports that bind do not listen; see `Engine.disable`."""
    watched_ports: tuple[WorkingPort, ...]
    """The ports of the device, by their index in the hub. The capture port is not watched, since no flow waits for
    it."""
    ports: tuple[WorkingPort, ...]
    """All ports: those of the device in its order, then the capture port if there is one."""
    hub: Hub
    taps: tuple[Tap, ...]
    """Who watches the messages that pass."""
    earlier: BrokerStatistics | None
    """What an earlier broker has counted, whose counters this one goes on with."""
    final: BrokerStatistics | None
    """The final statistics, after the broker was removed, has ended or has failed."""
    _lifecycle: Lifecycle
    _loop_access: LoopAccess
    _removed: "Future[BrokerStatistics] | None"

    # -- its state and its ports --------------------------------------------------------------------------------------

    @property
    def told_state(self) -> BrokerState:
        """The state for other threads, which is final only when all ports are closed: whoever sees that may use their
        addresses."""
        state = self.state
        return BrokerState.REMOVING if state in FINAL_STATES and self.final is None else state

    @property
    def is_ending(self) -> bool:
        """True if the broker is amid its end: its state is final, and its ports may still be open."""
        return self.state in FINAL_STATES and self.final is None

    @property
    def removed(self) -> "Future[BrokerStatistics]":
        """A future that is resolved, with the final statistics, when the broker is removed, has ended or has failed."""
        with _FUTURES:
            if self._removed is None:
                self._removed = Future()
                self._removed.set_running_or_notify_cancel()  # several may wait for it, so none of them can cancel it
                if self.final is not None:
                    self._removed.set_result(self.final)
            return self._removed

    def _keep_final(self, final: BrokerStatistics) -> "Future[BrokerStatistics] | None":
        """Keep the final statistics. Return the future that is to be resolved with them; None if nobody has asked for
        it."""
        with _FUTURES:
            self.final = final
            return self._removed

    def port(self, name: str) -> WorkingPort:
        """The port of this name. Raises `DeviceError` if there is none."""
        for port in self.ports:
            if port.name == name:
                return port
        names = ", ".join(port.name for port in self.ports)
        raise DeviceError(f"brokers.{self.name}: it has no {name}; its ports are: {names}")

    @property
    def engine_id(self) -> object:
        """See `pollbroker.claims`."""
        return self._loop_access.ready

    def describe_use(self, key: int) -> str | None:
        """See `pollbroker.claims`."""
        known = next((port for port in self.ports if port.key == key), None)
        return None if known is None or known.socket.closed else f"brokers.{self.name}.{known.name}"

    def __repr__(self) -> str:
        return f"<Broker {self.name} {self.device.name} {self.state}>"

    # -- its counters -------------------------------------------------------------------------------------------------

    def statistics(self, unread: Mapping[int, int] = FrozenDict()) -> BrokerStatistics:
        """A snapshot. `unread` has the number of unread messages by the source of each flow."""
        statistics = account_for(
            name=self.name,
            device=self.device.name,
            state=self.state,
            error=self.error,
            ports=self.ports,
            flows=self.hub.flows,
            unread=unread,
            counters=self._lifecycle.counters,
            waits=self._lifecycle.waits,
            disabled=self.disabled,
            now_s=self._loop_access.clock(),
        )
        return statistics if self.earlier is None else continue_counters(statistics, self.earlier)

    def peers(self) -> tuple[PeerStatistics, ...]:
        """The connections of those ports that are the wire's."""
        return tuple(peer for port in self.ports for peer in port.peers())

    @property
    def dropped(self) -> int:
        """Messages dropped so far. Where each message has one sink and no handler, three numbers of the account say it,
        which cost a hundredth of all counters."""
        if self.final is not None:
            return sum(flow.dropped for flow in self.final.flows.values())
        device = self.device
        if device.behaviour is not None or any(route.via or len(route.sinks) > 1 for route in device.routes):
            own = sum(flow.pump.counters().dropped for flow in self.hub.flows)
        else:
            own = sum(flow.pump.received - flow.pump.sent - flow.pump.held for flow in self.hub.flows)
        return own if self.earlier is None else own + self._dropped_before(self.earlier)

    def _dropped_before(self, earlier: BrokerStatistics) -> int:
        """What an earlier broker has dropped in the flows that this one has, too; see `continue_counters`."""
        behaves = self.device.behaviour is not None
        sources = {BEHAVIOUR} if behaves else {self.watched_ports[flow.source].name for flow in self.hub.flows}
        return sum(flow.dropped + flow.held for source, flow in earlier.flows.items() if source in sources)

    # -- what is left for it to do ------------------------------------------------------------------------------------

    @property
    def holds_in_pause(self) -> bool:
        """True if the broker is paused and holds a message, or one is in the queue of a port."""
        return self.state is BrokerState.PAUSED and (
            bool(self._lifecycle.kept) or any(flow.pump.held for flow in self.hub.flows)
        )

    # -- who watches what passes --------------------------------------------------------------------------------------

    def set_taps(self, taps: tuple[Tap, ...]) -> None:
        """Show these taps, and no others, each message that a sink has accepted."""
        self.taps = taps
        for flow in self.hub.flows:
            flow.pump.set_taps([self._tap_point(flow.source, sink) for sink in flow.sinks])

    def _tap_point(self, source_index: int, sink_index: int) -> TapPoint | None:
        source = None if source_index == NO_SOURCE else self.watched_ports[source_index]
        sink = self.watched_ports[sink_index]
        name = "" if source is None else source.name
        taps = [tap for tap in self.taps if tap.port in (None, name, sink.name)]
        return TapPoint(name, None if source is None else source.type, sink.name, sink.type, taps) if taps else None
