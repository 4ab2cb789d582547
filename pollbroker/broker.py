"""Brokers: a device at work. Its ports, its flows, and the one subtle rule of the loop.

**Settling.** A socket is settled when ZMQ_EVENTS has been read after the last operation on it. libzmq's descriptor
(ZMQ_FD) is readable while commands are pending, and a send or a receive may process them: then nothing is left to wake
anybody, though a message or room has come. So whoever works with a broker's sockets settles them before the loop may
sleep; `work` does. One operation settles as well, for reading: a receive that found nothing, since libzmq processes the
commands before it says EAGAIN, as long as nothing was sent on the socket after it.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import zmq

from pollbroker.device import Device
from pollbroker.errors import DeviceError
from pollbroker.flow import Flow, FlowState
from pollbroker.port import Port
from pollbroker.pump import HandlerPump, Pump, Pumping
from pollbroker.statistics import BrokerStatistics

_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)


class BrokerState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    REMOVING = "removing"
    """Only what it holds is still sent."""
    REMOVED = "removed"
    ENDED = "ended"
    """Its context was terminated: an orderly end."""
    FAILED = "failed"
    """See `Broker.error`."""


FINAL_STATES: Final = frozenset({BrokerState.REMOVED, BrokerState.ENDED, BrokerState.FAILED})


@dataclass(frozen=True)
class Surroundings:
    """What a broker needs of the loop that it works in."""

    rouse: Callable[["Broker"], None]
    """Have `work` called in the next turn."""
    watch: Callable[["Broker", Port], None]
    """Have `wake` called when something happens at this port of it."""
    unwatch: Callable[[Port], None]
    """No longer: the port is about to be closed, or the caller's again."""
    call_later: Callable[[float, Callable[[], None]], object]
    clock: Callable[[], float]


class Broker:
    """A device at work. Attributes may be read from any thread; methods are the engine's.

    `frontend`, `backend` and `capture` are its ports; a port's `endpoints` are the real addresses.
    """

    def __init__(
        self,
        name: str,
        device: Device,
        frontend: Port,
        backend: Port | None,
        capture: Port | None,
        *,
        pumping: Pumping,
        prefixes: tuple[bytes, bytes] | None,
        surroundings: Surroundings,
    ) -> None:
        self.name = name
        self.device = device
        self.frontend = frontend
        self._backend = backend
        self.capture = capture
        self.state = BrokerState.RUNNING
        self.error: BaseException | None = None
        """Why it failed."""
        self.removed: Future[BrokerStatistics] = Future()
        """Resolved when it is removed, or has ended by itself."""
        self.working = False
        """Whether it is within `work` now: its own handlers are told that they cannot steer it."""
        self._surroundings = surroundings
        self.ports = tuple(port for port in (frontend, backend, capture) if port is not None)
        """Its sockets: frontend, backend and capture, as far as it has them."""
        self._watched_ports = tuple(port for port in (frontend, backend) if port is not None)
        self._flows = tuple(self._make_flows(pumping, prefixes))

    @property
    def backend(self) -> Port:
        """The backend. Raises `DeviceError` if the device has none."""
        if self._backend is None:
            raise DeviceError(f"brokers.{self.name}: the device {self.device.name} has one socket, its frontend")
        return self._backend

    @property
    def watched_ports(self) -> tuple[Port, ...]:
        """Those of them that something can happen at; nothing waits for a capture socket."""
        return self._watched_ports

    def _make_flows(self, pumping: Pumping, prefixes: tuple[bytes, bytes] | None) -> Iterator[Flow]:
        for route in self.device.routes:
            source, sink = getattr(self, route.source), getattr(self, route.sink)
            capture = None if self.capture is None else self.capture.plain
            prefix = None if prefixes is None else prefixes[0 if route.source == "frontend" else 1]
            drop = self.device.slow_peer == "drop"
            pump: Pump
            if route.via is None:
                pump = pumping.make_pump(source.plain, sink.plain, capture=capture, prefix=prefix, drop_slow_peer=drop)
            else:
                pump = HandlerPump(
                    source.plain, sink.plain, route.via, capture=capture, prefix=prefix, drop_slow_peer=drop
                )
            yield Flow(source, sink, pump, self._surroundings.clock)

    # -- the engine's turn --------------------------------------------------------------------------------------------

    def work(self, limit_messages: int, limit_bytes: int) -> None:
        """Let each ready flow move at most that much, then settle what was touched."""
        if self.state in FINAL_STATES:
            return
        self.working = True
        try:
            self._check_open()
            removing = self.state is BrokerState.REMOVING
            read_dry: set[Port] = set()
            for flow in self._flows:
                if flow.state is FlowState.READY:
                    if removing:
                        limit_messages, limit_bytes = 1, 1  # what it holds, and no more
                    if flow.move(limit_messages, limit_bytes):
                        read_dry.discard(flow.sink)
                    if flow.is_waiting:
                        read_dry.add(flow.source)
                    if removing and not flow.pump.held:
                        flow.end()
            for port in self._watched_ports:
                interest = self.interest(port)
                if interest & _POLLOUT or (interest and port not in read_dry):
                    self._settle(port)
        except zmq.ZMQError as error:
            self._end(error)
            return
        finally:
            self.working = False
        self._rouse_if_ready()

    def wake(self, port: Port) -> None:
        """Something has happened at a port: have it read, and settle it if that is not for a flow to do."""
        if self.state in FINAL_STATES:
            return
        try:
            self._check_open()
            if self._have_read(port):
                self._surroundings.rouse(self)
                return
            self._settle(port)
        except zmq.ZMQError as error:
            self._end(error)
            return
        self._rouse_if_ready()

    def _have_read(self, port: Port) -> bool:
        """Make the flow that waits for this source ready, if there is one: to try costs no more than to ask."""
        for flow in self._flows:
            if flow.source is port and flow.state in (FlowState.WAITING, FlowState.READY):
                flow.state = FlowState.READY
                return True
        return False

    def look_alive(self) -> None:
        """Find out if a socket was closed under the engine, which nothing announces."""
        try:
            self._check_open()
        except zmq.ZMQError as error:
            self._end(error)

    def _check_open(self) -> None:
        if self.state not in FINAL_STATES:
            for port in self.ports:
                if port.socket.closed:
                    port.check_open()

    def _settle(self, port: Port) -> None:
        events = port.read_events()
        for flow in self._flows:
            if flow.source is port and flow.state is FlowState.WAITING and events & _POLLIN:
                flow.state = FlowState.READY
            elif flow.sink is port and flow.state is FlowState.STALLED:
                flow.sink_says(bool(events & _POLLOUT))
                if flow.is_retrying:
                    self._retry_later(flow)

    def _retry_later(self, flow: Flow) -> None:
        def retry() -> None:
            if flow.state is FlowState.RETRYING:
                flow.state = FlowState.READY
                self._surroundings.rouse(self)

        self._surroundings.call_later(flow.next_retry_s(), retry)

    def _rouse_if_ready(self) -> None:
        for flow in self._flows:
            if flow.state is FlowState.READY:
                self._surroundings.rouse(self)
                return
        if self.state is BrokerState.REMOVING and all(flow.state is FlowState.ENDED for flow in self._flows):
            self.end_removal()

    def interest(self, port: Port) -> int:
        """The events for which a port has to be watched: a flow that could not move for them is not woken by them."""
        events = 0
        for flow in self._flows:
            if flow.source is port and flow.state is FlowState.WAITING:
                events |= _POLLIN
            if flow.sink is port and flow.state is FlowState.STALLED:
                events |= _POLLOUT
        return events

    # -- what the engine is told to do --------------------------------------------------------------------------------

    def pause(self) -> None:
        """Move nothing until `resume`."""
        if self.state is BrokerState.RUNNING:
            self.state = BrokerState.PAUSED
            for flow in self._flows:
                flow.pause()

    def resume(self) -> None:
        """Move again: every flow tries, and what it finds tells what to wait for."""
        if self.state is BrokerState.PAUSED:
            self.state = BrokerState.RUNNING
            for flow in self._flows:
                flow.resume()
            self._surroundings.rouse(self)

    def start(self) -> None:
        """Begin: have the ports watched, and every flow try. If a port cannot be watched, it is as if nothing was."""
        watched: list[Port] = []
        try:
            for port in self.watched_ports:
                self._surroundings.watch(self, port)
                watched.append(port)
        except BaseException:
            for port in watched:
                self._surroundings.unwatch(port)
            for port in self.ports:
                port.close()
            raise
        self._surroundings.rouse(self)

    def look_again(self) -> None:
        """Have every flow that waits look at its source in the next turn."""
        for flow in self._flows:
            if flow.state is FlowState.WAITING:
                flow.resume()
        self._rouse_if_ready()

    def begin_removal(self) -> None:
        """Take nothing more; go on sending what is held. `removed` is resolved when nothing is."""
        if self.state in (BrokerState.RUNNING, BrokerState.PAUSED):
            self.state = BrokerState.REMOVING
            for flow in self._flows:
                if not flow.pump.held:
                    flow.end()
                elif flow.state is FlowState.PAUSED:
                    flow.resume()
        self._rouse_if_ready()

    def end_removal(self) -> None:
        """Be removed now, whatever is held still; the final statistics say what that is."""
        if self.state not in FINAL_STATES:
            self._finish(BrokerState.REMOVED)

    def _end(self, error: zmq.ZMQError) -> None:
        """End for an error of one of the sockets: the context's end is an orderly one, anything else a failure."""
        if error.errno == zmq.ETERM:
            self._finish(BrokerState.ENDED)
        else:
            self.error = error
            self._finish(BrokerState.FAILED)

    def _finish(self, state: BrokerState) -> None:
        self.state = state
        for flow in self._flows:
            flow.end()
        for port in self.watched_ports:
            self._surroundings.unwatch(port)
        for port in self.ports:
            port.close()
        self.removed.set_result(self.statistics())

    # -- what it tells ------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is held and nothing was left to read when its sockets were last settled."""
        return all(flow.state in (FlowState.WAITING, FlowState.ENDED) for flow in self._flows)

    def statistics(self) -> BrokerStatistics:
        """A snapshot."""
        return BrokerStatistics(
            name=self.name,
            device=self.device.name,
            state=self.state,
            error=None if self.error is None else str(self.error),
            flows={flow.source.name: flow.statistics() for flow in self._flows},
        )

    def __repr__(self) -> str:
        return f"<Broker {self.name} {self.device.name} {self.state}>"
