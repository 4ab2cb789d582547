"""A device at work: its ports, its flows with the hub that lets them move, and its life from start to end.

Everything here happens in the engine's thread; `broker.py` is what others are given.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

import zmq

from pollbroker.accounting import account_for
from pollbroker.device import CAPTURE, Device
from pollbroker.errors import DeviceError, describe_error
from pollbroker.flows import make_hub
from pollbroker.frozen import FrozenDict
from pollbroker.port import WorkingPort
from pollbroker.pump import FLUSHED, RETRY, FlowState, Hub, Implementation
from pollbroker.retry import Retries
from pollbroker.states import FINAL_STATES, BrokerState
from pollbroker.statistics import BrokerStatistics
from pollbroker.timers import Handle

_logger = logging.getLogger("pollbroker")

UNREAD_MOST: Final = 10_000
"""How many unread messages a removal counts at each source: more would keep the other brokers waiting."""

_FUTURES: Final = threading.Lock()
"""A broker's future is made when somebody first asks for it, in whatever thread: a thousand brokers have none."""


@dataclass(frozen=True)
class LoopAccess:
    """What a broker needs of the loop that it works in."""

    ready: list[Hub]
    """The hubs that have work in the next turn."""
    watch: Callable[[Hub, int, WorkingPort], None]
    """Have a hub's `wake` called with this index when something happens at this port."""
    unwatch: Callable[[WorkingPort], None]
    """No longer: the port is about to be closed, or the caller's again."""
    call_later: Callable[[float, Callable[[], None]], Handle]
    clock: Callable[[], float]


class WorkingBroker:
    """A device at work. Attributes may be read from any thread; methods are the engine's."""

    __slots__ = (
        "__weakref__",
        "_loop_access",
        "_on_end",
        "_removed",
        "device",
        "error",
        "final",
        "hub",
        "name",
        "ports",
        "retries",
        "state",
        "watched_ports",
    )

    def __init__(
        self,
        name: str,
        device: Device,
        ports: Mapping[str, WorkingPort],
        *,
        implementation: Implementation,
        prefixes: Mapping[str, bytes],
        loop_access: LoopAccess,
        on_end: Callable[["WorkingBroker"], None],
    ) -> None:
        self.name = name
        self.device = device
        self.state = BrokerState.RUNNING
        self.error: BaseException | None = None
        """Why it failed."""
        self._loop_access = loop_access
        self._on_end = on_end
        self.final: BrokerStatistics | None = None
        """Its last statistics, once it is removed or has ended by itself."""
        self._removed: Future[BrokerStatistics] | None = None
        self.watched_ports = tuple(ports[port] for port in device.ports)
        """The ports that something can happen at, by their index in the hub; nothing waits for a capture socket."""
        self.ports = (*self.watched_ports, ports[CAPTURE]) if CAPTURE in ports else self.watched_ports
        """All of its ports: those of the device in its order, and the capture port if there is one."""
        self.hub = make_hub(self, device, ports, implementation, prefixes, loop_access.ready)
        self.retries = Retries(self.hub, loop_access.call_later)

    def port(self, name: str) -> WorkingPort:
        """The port of this name. Raises `DeviceError` if there is none."""
        for port in self.ports:
            if port.name == name:
                return port
        names = ", ".join(port.name for port in self.ports)
        raise DeviceError(f"brokers.{self.name}: it has no {name}; its ports are: {names}")

    @property
    def removed(self) -> "Future[BrokerStatistics]":
        """Resolved, with its last statistics, when it is removed or has ended by itself."""
        with _FUTURES:
            if self._removed is None:
                self._removed = Future()
                if self.final is not None:
                    self._removed.set_result(self.final)
            return self._removed

    # -- what its hub leaves to it ------------------------------------------------------------------------------------

    def carry_out(self, flags: int) -> None:
        """Do what the hub has left to do: `RETRY`, `FLUSHED`."""
        if flags & RETRY:
            self.retries.set_timers()
        if flags & FLUSHED:
            self.end_removal()

    def fail(self, error: Exception) -> None:
        """End for an error: the end of the sockets' context is an orderly one, anything else a failure."""
        self.check_alive()
        if self.state not in FINAL_STATES:
            self._end(error)

    def check_alive(self) -> None:
        """Find out if a socket was closed under the engine, which nothing announces."""
        if self.state not in FINAL_STATES:
            for port in self.ports:
                try:
                    port.check_open()
                except zmq.ZMQError as error:
                    self._end(error)
                    return

    def _end(self, error: Exception) -> None:
        if isinstance(error, zmq.ZMQError) and error.errno == zmq.ETERM:
            self._finish(BrokerState.ENDED)
        else:
            self.error = error
            # An error of a socket says all that there is to say; of any other the place where it was raised matters.
            trace = None if isinstance(error, zmq.ZMQError) else error
            _logger.error("brokers.%s: failed: %s", self.name, describe_error(error), exc_info=trace)
            self._finish(BrokerState.FAILED)

    # -- what the engine is told to do --------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin: have the ports watched, and every flow try. If a port cannot be watched, it is as if nothing was."""
        watched: list[WorkingPort] = []
        try:
            for port_index, port in enumerate(self.watched_ports):
                self._loop_access.watch(self.hub, port_index, port)
                watched.append(port)
        except BaseException:
            for port in watched:
                self._loop_access.unwatch(port)
            for port in self.ports:
                port.close()
            raise
        self.hub.schedule()

    def pause(self) -> None:
        """Move nothing until `resume`."""
        if self.state is BrokerState.RUNNING:
            self.state = BrokerState.PAUSED
            for flow in self.hub.flows:
                flow.pause(self._loop_access.clock())

    def resume(self) -> None:
        """Move again: every flow tries, and what it finds tells what to wait for."""
        if self.state is BrokerState.PAUSED:
            self.state = BrokerState.RUNNING
            for flow in self.hub.flows:
                flow.resume()
            self.hub.schedule()

    def recheck_sources(self) -> None:
        """Have every flow that waits look at its source in the next turn."""
        for flow in self.hub.flows:
            if flow.state == FlowState.WAITING:
                flow.resume()
                self.hub.schedule()

    def begin_removal(self) -> None:
        """Take nothing more; go on sending what is held. `removed` is resolved when nothing is."""
        if self.state not in (BrokerState.RUNNING, BrokerState.PAUSED):
            return
        self.state = BrokerState.REMOVING
        self.hub.flushing = True
        for flow in self.hub.flows:
            if not flow.pump.held:
                flow.end(self._loop_access.clock())
            elif flow.state == FlowState.PAUSED:
                flow.resume()
        if all(flow.state == FlowState.ENDED for flow in self.hub.flows):
            self.end_removal()
        else:
            self.hub.schedule()

    def offer_held_messages(self) -> None:
        """Offer what is held once more, now, whatever its flows wait for."""
        for flow in self.hub.flows:
            if flow.pump.held and flow.state != FlowState.ENDED:
                flow.resume()
        try:
            for _ in range(2):  # a first refusal may be stale; then the sink is asked, and tried again if it says so
                self.carry_out(self.hub.work(1, 1, self._loop_access.clock()))
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this broker alone
            self.fail(error)

    def end_removal(self) -> None:
        """Be removed now, whatever is held still; the final statistics say what that is."""
        if self.state not in FINAL_STATES:
            self._finish(BrokerState.REMOVED)

    def _count_unread(self) -> dict[int, int]:
        """Leave no message half read: by the source of each flow, how many messages are lost with a socket that the
        engine closes. At a socket of the caller's the next message is the caller's."""
        unread: dict[int, int] = {}
        try:
            for flow in self.hub.flows:
                source = self.watched_ports[flow.source]
                if source.socket.closed:
                    continue  # under the engine: the native code would read memory that libzmq has given back
                if not source.owned:
                    flow.pump.discard_rest()
                elif source.type != zmq.XPUB:  # what comes from there is subscriptions, of no use to anybody any more
                    unread[flow.source] = flow.pump.count_unread(UNREAD_MOST)
        except zmq.ZMQError as error:
            _logger.warning("brokers.%s: what was left unread cannot be counted: %s", self.name, error)
        return unread

    def _finish(self, state: BrokerState) -> None:
        unread = self._count_unread() if state is BrokerState.REMOVED else {}
        self.state = state
        self.hub.end(self._loop_access.clock())
        for port in self.watched_ports:
            self._loop_access.unwatch(port)
        for port in self.ports:
            port.close()
        final = self.statistics(unread)
        self._on_end(self)
        with _FUTURES:
            self.final = final
            removed = self._removed
        if removed is not None:
            removed.set_result(final)

    # -- what it tells ------------------------------------------------------------------------------------------------

    @property
    def engine_id(self) -> object:
        """See `pollbroker.claims`."""
        return self._loop_access.ready

    def describe_use(self, key: int) -> str | None:
        """See `pollbroker.claims`."""
        known = next((port for port in self.ports if port.key == key), None)
        return None if known is None or known.socket.closed else f"brokers.{self.name}.{known.name}"

    @property
    def idle(self) -> bool:
        """True if nothing is held, and nothing was left to read when its sockets were last settled."""
        return all(flow.state in (FlowState.WAITING, FlowState.ENDED) for flow in self.hub.flows)

    def statistics(self, unread: Mapping[int, int] = FrozenDict()) -> BrokerStatistics:
        """A snapshot; `unread` by the source of each flow."""
        return account_for(
            name=self.name,
            device=self.device.name,
            state=self.state,
            error=self.error,
            ports=self.ports,
            flows=self.hub.flows,
            unread=unread,
            now_s=self._loop_access.clock(),
        )

    def __repr__(self) -> str:
        return f"<Broker {self.name} {self.device.name} {self.state}>"
