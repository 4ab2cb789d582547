"""A device at work: its ports, its hub with the flows, and its states from start to end. What it tells of itself is in
`telling.py`.

Everything here happens in the engine's thread. Users are given the handle of `broker.py`.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import zmq

from pollbroker.connectivity import connecting_ports, listen_again, listening_ports
from pollbroker.device import CAPTURE, Device
from pollbroker.errors import describe_error
from pollbroker.flows import PumpMaking, make_hub
from pollbroker.loop_access import LoopAccess
from pollbroker.port import WorkingPort
from pollbroker.pump import FLUSHED, NO_SOURCE, RETRY, FlowState, Implementation, StartTask
from pollbroker.remaining import count_unread, is_done, unanswered
from pollbroker.retry import Retries
from pollbroker.states import FINAL_STATES, BrokerState
from pollbroker.statistics import BrokerStatistics
from pollbroker.telling import TellingBroker

_logger = logging.getLogger("pollbroker")


class WorkingBroker(TellingBroker):
    """A device at work. Any thread may read the attributes; only the engine's thread may call the methods."""

    __slots__ = ("_on_end", "_was", "handed_over", "interrupt", "retries")

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
        self.error = None
        self.disabled = False
        self._loop_access = loop_access
        self._on_end = on_end
        self.earlier = earlier
        self.final = None
        self._removed = None
        self.handed_over = False
        """True if another process has its connections now."""
        self._was = self.state
        """What the broker did before it was suspended."""
        self.interrupt: Callable[[], None] | None = None
        """While the broker is handed over: decides that at once. Afterwards it goes on, or has ended."""
        self.watched_ports = tuple(ports[port] for port in device.ports)
        self.ports = (*self.watched_ports, ports[CAPTURE]) if CAPTURE in ports else self.watched_ports
        making = PumpMaking(
            implementation, prefixes, start_task, loop_access.call_soon, loop_access.call_later, loop_access.clock
        )
        self.hub, self._lifecycle = make_hub(self, device, ports, making, loop_access.ready)
        self.retries = Retries(self.hub, loop_access.call_later)
        self.taps = ()

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
            self.hub.end(self._loop_access.clock())  # the behaviour may have given it work
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
            port.stop_listening()
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
        """End the broker. Whoever listens to events is told of it, and of what happens to its connections, when it has
        ended whole, and may remove it then.

        All of this is done whatever a part of it raises, such as a KeyboardInterrupt or a behaviour's SystemExit: an
        engine could never be closed that has a broker whose end was cut off. What is entered last is done first.
        """
        unread: Mapping[int, int] = {}
        if state is BrokerState.REMOVED:
            unread = count_unread(f"brokers.{self.name}", self.hub.flows, self.watched_ports)
        self.state = state
        with self._loop_access.events.told_afterwards(), ExitStack() as end:
            end.callback(self._tell_end, unread)
            for port in reversed(self.ports):
                end.callback(port.close)
            for tap in reversed(self.taps):
                end.callback(tap.end, self._why_ended())
            end.callback(self._loop_access.monitors.remove, self)
            for port in reversed(self.watched_ports):
                end.callback(self._loop_access.unwatch, port)
            end.callback(self._lifecycle.end)
            end.callback(self.hub.end, self._loop_access.clock())

    def _tell_end(self, unread: Mapping[int, int]) -> None:
        """Say that the broker has ended, and what it has counted."""
        final = self.statistics(unread)
        removed = self._keep_final(final)
        try:
            self._on_end(self)
        finally:
            if removed is not None:
                removed.set_result(final)

    def _why_ended(self) -> str:
        if self.handed_over:
            return "another process has taken it over"
        if self.error is not None:
            return f"it has failed: {describe_error(self.error)}"
        return "it was removed" if self.state is BrokerState.REMOVED else "its context was terminated"

    @property
    def idle(self) -> bool:
        """True if no message is held, and none was left to read when the sockets were last settled. If the broker is
        being drained, no reply is outstanding either, and all peers have left that were asked to."""
        draining, flows = self.state is BrokerState.DRAINING, self.hub.flows
        if self._lifecycle.kept or (draining and self.take_no_requests()):
            return False
        if not all(is_done(flow, self.watched_ports, draining=draining) for flow in flows):
            return False
        return not draining or all(port.is_left for port in self.ports)

    def take_no_requests(self) -> int:
        """If replies are outstanding, take no more requests from now on, since they might never be all answered. Return
        how many are outstanding. Only a broker that is being drained may be asked."""
        outstanding = self._lifecycle.outstanding
        asking = self._lifecycle.request_ports if outstanding else ()
        for flow in self.hub.flows:
            requests = unanswered(flow, self.hub.flows, self.watched_ports)
            outstanding += requests
            if requests or (asking and flow.source != NO_SOURCE and self.watched_ports[flow.source].name in asking):
                flow.read_no_more(self._loop_access.clock())
        return outstanding
