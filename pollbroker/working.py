"""A device at work: its ports, its hub with the flows, and its states from start to end.

Everything here happens in the engine's thread. Users are given the handle of `broker.py`.
"""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Final

import zmq

from pollbroker.accounting import account_for
from pollbroker.connectivity import connecting_ports, listen_again, listening_ports
from pollbroker.continuing import continue_counters
from pollbroker.device import CAPTURE, Device
from pollbroker.errors import DeviceError, describe_error
from pollbroker.flows import PumpMaking, make_hub
from pollbroker.frozen import FrozenDict
from pollbroker.loop_access import LoopAccess
from pollbroker.port import WorkingPort
from pollbroker.pump import FLUSHED, NO_SOURCE, RETRY, FlowState, Implementation, StartTask
from pollbroker.remaining import count_unread, is_done, unanswered
from pollbroker.retry import Retries
from pollbroker.states import FINAL_STATES, BrokerState
from pollbroker.statistics import BrokerStatistics, PeerStatistics
from pollbroker.taps import Tap, TapPoint

_logger = logging.getLogger("pollbroker")

_FUTURES: Final = threading.Lock()
"""Guards the making of a broker's future `removed`. To save memory it is made when it is first asked for, and any
thread may ask."""
os.register_at_fork(before=_FUTURES.acquire, after_in_parent=_FUTURES.release, after_in_child=_FUTURES.release)


class WorkingBroker:
    """A device at work. Any thread may read the attributes; only the engine's thread may call the methods."""

    __slots__ = (
        "__weakref__",
        "_lifecycle",
        "_loop_access",
        "_on_end",
        "_removed",
        "_was",
        "device",
        "disabled",
        "earlier",
        "error",
        "final",
        "handed_over",
        "hub",
        "interrupt",
        "name",
        "ports",
        "retries",
        "state",
        "taps",
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
        start_task: StartTask | None = None,
        earlier: BrokerStatistics | None = None,
    ) -> None:
        self.name = name
        self.device = device
        self.state = BrokerState.RUNNING
        self.error: BaseException | None = None
        """Why the broker failed; None if it has not."""
        self.disabled = False
        """True while the ports that bind do not listen; see `Engine.disable`."""
        self._loop_access = loop_access
        self._on_end = on_end
        self.earlier = earlier
        """What an earlier broker has counted, whose counters this one goes on with."""
        self.final: BrokerStatistics | None = None
        """The final statistics, after the broker was removed, has ended or has failed."""
        self._removed: Future[BrokerStatistics] | None = None
        self.handed_over = False
        """True if another process has its connections now."""
        self._was = self.state
        """What the broker did before it was suspended."""
        self.interrupt: Callable[[], None] | None = None
        """While the broker is handed over: decides that at once. Afterwards it goes on, or has ended."""
        self.watched_ports = tuple(ports[port] for port in device.ports)
        """The ports of the device, by their index in the hub. The capture port is not watched, since no flow waits for
        it."""
        self.ports = (*self.watched_ports, ports[CAPTURE]) if CAPTURE in ports else self.watched_ports
        """All ports: those of the device in its order, then the capture port if there is one."""
        making = PumpMaking(
            implementation, prefixes, start_task, loop_access.call_soon, loop_access.call_later, loop_access.clock
        )
        self.hub, self._lifecycle = make_hub(self, device, ports, making, loop_access.ready)
        self.retries = Retries(self.hub, loop_access.call_later)
        self.taps: tuple[Tap, ...] = ()
        """Who watches the messages that pass."""

    @property
    def dropped(self) -> int:
        """Messages dropped so far. Where each message has one sink and no handler, three numbers of the account say it,
        which cost a hundredth of all counters."""
        if self.final is not None:
            return sum(flow.dropped for flow in self.final.flows.values())
        device = self.device
        if device.behaviour is not None or any(route.via or len(route.sinks) > 1 for route in device.routes):
            return sum(flow.pump.counters().dropped for flow in self.hub.flows)
        return sum(flow.pump.received - flow.pump.sent - flow.pump.held for flow in self.hub.flows)

    def port(self, name: str) -> WorkingPort:
        """The port of this name. Raises `DeviceError` if there is none."""
        for port in self.ports:
            if port.name == name:
                return port
        names = ", ".join(port.name for port in self.ports)
        raise DeviceError(f"brokers.{self.name}: it has no {name}; its ports are: {names}")

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

    # -- what the hub leaves to its owner -----------------------------------------------------------------------------

    def carry_out(self, flags: int) -> None:
        """Do what the flags of the hub ask for: `RETRY`, `FLUSHED`."""
        if flags & RETRY:
            self.retries.set_timers()
        if flags & FLUSHED:
            self._end_when_written()

    def fail(self, error: Exception) -> None:
        """End the broker because of an error. If its context was terminated, the broker has ended; otherwise it has
        failed."""
        self.check_alive()
        if self.state not in FINAL_STATES:
            self._end(error)

    def check_alive(self) -> None:
        """End the broker if one of its sockets was closed under the engine, of which libzmq tells nobody."""
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
            # A socket's error explains itself; for any other exception the traceback is logged, too.
            trace = None if isinstance(error, zmq.ZMQError) else error
            _logger.error("brokers.%s: failed: %s", self.name, describe_error(error), exc_info=trace)
            self._finish(BrokerState.FAILED)

    # -- what the engine's methods do ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Watch the ports, and have every flow try to move messages in the next turn.

        If a port cannot be watched, all of them are closed or left to the caller again, and the error is raised.
        """
        watched: list[WorkingPort] = []
        try:
            self._lifecycle.start()
            for port_index, port in enumerate(self.watched_ports):
                self._loop_access.watch(self.hub, port_index, port)
                watched.append(port)
        except BaseException:
            self._lifecycle.end()
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
        """Let every flow try to move messages again. What it finds decides what it waits for."""
        if self.state is BrokerState.PAUSED:
            self.state = BrokerState.RUNNING
            self.hub.flushing = False
            for flow in self.hub.flows:
                flow.resume()
            self.hub.schedule()

    def begin_flush(self) -> None:
        """Pause, but go on offering what is held until `end_flush`."""
        if self.state not in (BrokerState.RUNNING, BrokerState.PAUSED):
            return
        self.state = BrokerState.PAUSED
        self.hub.flushing = True
        for flow in self.hub.flows:
            if flow.pump.held == flow.pump.queued:
                flow.pause(self._loop_access.clock())
            elif flow.state in (FlowState.PAUSED, FlowState.WAITING):
                flow.resume()
        self.hub.schedule()

    def end_flush(self) -> None:
        """Let what is still held be held, as in any other pause."""
        if self.state is BrokerState.PAUSED and self.hub.flushing:
            self.hub.flushing = False
            for flow in self.hub.flows:
                flow.pause(self._loop_access.clock())

    @property
    def holds_in_pause(self) -> bool:
        """True if the broker is paused and holds a message, or one is in the queue of a port."""
        return self.state is BrokerState.PAUSED and (
            bool(self._lifecycle.kept) or any(flow.pump.held for flow in self.hub.flows)
        )

    def suspend(self) -> None:
        """Move nothing, and let the ports, which are all the wire's, rest until `go_on`. Another process may take them
        over meanwhile."""
        self._was = self.state
        self.state = BrokerState.HANDING_OVER
        for flow in self.hub.flows:
            flow.pause(self._loop_access.clock())
        for port in self.watched_ports:
            self._loop_access.unwatch(port)
        for port in self.ports:
            port.wire_socket.suspend()

    def go_on(self) -> None:
        """Do again what the broker did before `suspend`."""
        for port_index, port in enumerate(self.watched_ports):
            self._loop_access.watch(self.hub, port_index, port)
        for port in self.ports:
            port.wire_socket.resume()
        self.state = BrokerState.PAUSED
        if self._was is not BrokerState.PAUSED:
            self.resume()

    def disable(self) -> None:
        """Let the ports that bind stop listening. Raises `EngineError`."""
        for port in listening_ports(f"brokers.{self.name}", self.ports):
            port.wire_socket.stop_listening()
        self.disabled = True

    def enable(self, descriptors: Mapping[str, int]) -> None:
        """Let them listen again. Raises `EngineError` or `EndpointError`."""
        ports = listening_ports(f"brokers.{self.name}", self.ports)
        if self.disabled:
            listen_again(f"brokers.{self.name}", ports, descriptors)
            self.disabled = False

    def reconnect(self) -> None:
        """Let the ports that connect do so again. Raises `EngineError`."""
        for port in connecting_ports(f"brokers.{self.name}", self.ports):
            port.wire_socket.reconnect()

    def recheck_sources(self) -> None:
        """Have every waiting flow look at its source in the next turn."""
        for flow in self.hub.flows:
            if flow.state == FlowState.WAITING:
                flow.resume()
                self.hub.schedule()

    def begin_draining(self) -> None:
        """Take what the peers have sent, but no new peers, until the broker is `idle`. What is left to do then is
        `begin_removal`. A paused broker cannot be drained."""
        if self.state is not BrokerState.RUNNING:
            return
        self.state = BrokerState.DRAINING
        for port in self.ports:
            port.ask_peers_to_leave()
        self.hub.schedule()

    def begin_removal(self) -> None:
        """Receive nothing more, and go on sending held messages. When none is held, not even in the queue of a port,
        the broker is removed."""
        if self.state not in (BrokerState.RUNNING, BrokerState.PAUSED, BrokerState.DRAINING):
            return
        self.state = BrokerState.REMOVING
        try:
            self._lifecycle.stop()
        except Exception as error:  # noqa: BLE001 - any error ends this one broker
            self.fail(error)
            return
        self.hub.flushing = True
        for flow in self.hub.flows:
            if flow.pump.held == flow.pump.queued:
                flow.end(self._loop_access.clock())
            elif flow.state == FlowState.PAUSED:
                flow.resume()
        if all(flow.state == FlowState.ENDED for flow in self.hub.flows):
            self._end_when_written()
        else:
            self.hub.schedule()

    def _end_when_written(self) -> None:
        """End the removal when the ports have handed to the kernel what they have accepted. Every flow has ended."""
        if self.state is not BrokerState.REMOVING:
            return  # a flush, which is no removal
        queued = [port for port in self.ports if port.queued]
        for port in queued:
            port.tell_when_written(self._end_when_written)
        if not queued:
            self.end_removal()

    def offer_held_messages(self) -> None:
        """Offer held messages once more, at once, whatever the flows and the ports wait for."""
        for flow in self.hub.flows:
            if flow.pump.held and flow.state != FlowState.ENDED:
                flow.resume()
        for port in self.ports:
            port.write()
        try:
            for _ in range(2):  # the first refusal may be out of date; settling the sink then makes the flow ready
                self.carry_out(self.hub.work(1, 1, self._loop_access.clock()))
        except Exception as error:  # noqa: BLE001 - any error ends this one broker
            self.fail(error)

    def end_removal(self) -> None:
        """Remove the broker now. The final statistics say how many messages are still held."""
        if self.state not in FINAL_STATES:
            self._finish(BrokerState.REMOVED)

    def _finish(self, state: BrokerState) -> None:
        unread = {}
        if state is BrokerState.REMOVED:
            unread = count_unread(f"brokers.{self.name}", self.hub.flows, self.watched_ports)
        self.state = state
        self.hub.end(self._loop_access.clock())
        self._lifecycle.end()
        for port in self.watched_ports:
            self._loop_access.unwatch(port)
        self._loop_access.monitors.remove(self)
        for tap in self.taps:
            tap.end(self._why_ended())
        for port in self.ports:
            port.close()
        final = self.statistics(unread)
        self._on_end(self)
        with _FUTURES:
            self.final = final
            removed = self._removed
        if removed is not None:
            removed.set_result(final)

    def _why_ended(self) -> str:
        if self.handed_over:
            return "another process has taken it over"
        if self.error is not None:
            return f"it has failed: {describe_error(self.error)}"
        return "it was removed" if self.state is BrokerState.REMOVED else "its context was terminated"

    # -- who watches what passes ---------------------------------------------------------------------------------------

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

    # -- what the broker tells of itself ------------------------------------------------------------------------------

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
        """True if no message is held, and none was left to read when the sockets were last settled. If the broker is
        being drained, no reply is outstanding either, and all peers have left that were asked to."""
        draining, flows = self.state is BrokerState.DRAINING, self.hub.flows
        if self._lifecycle.kept or not all(is_done(flow, self.watched_ports, draining=draining) for flow in flows):
            return False
        return not draining or (all(port.is_left for port in self.ports) and not self._awaits_replies())

    @property
    def outstanding(self) -> int:
        """How many requests were passed on whose replies have not come."""
        flows = self.hub.flows
        return sum(unanswered(flow, flows, self.watched_ports) for flow in flows)

    def _awaits_replies(self) -> bool:
        """Return True if replies are outstanding. While they are, no more requests are taken."""
        awaiting = [flow for flow in self.hub.flows if unanswered(flow, self.hub.flows, self.watched_ports)]
        for flow in awaiting:
            flow.pause(self._loop_access.clock())
        return bool(awaiting)

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

    def __repr__(self) -> str:
        return f"<Broker {self.name} {self.device.name} {self.state}>"
