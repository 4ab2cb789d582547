"""What happens to the connections of libzmq's sockets: their monitors (zmq_socket_monitor(3)), while somebody listens.

- A socket has one monitor at most, so those of registered sockets are left to the caller.
- libzmq's thread waits if nobody can take what a monitor reports. So the monitor's reader has no high-water mark, is
  connected before the monitor begins, and is closed after it has ended.
- A monitor tells a connection by its descriptor, which another may have a moment later. The address of the other end is
  asked for as soon as the connection is reported, and is left out if the descriptor does not fit any more.
- libzmq reports that hands were shaken, but not whose. So a peer counts as connected when its connection is made.
- To begin a monitor takes a socket and its connection. So with many brokers they begin, and end, in several turns.
- A monitor has two descriptors. Whoever listens must not take from peers those that are left, so that none begins
  while they are scarce.
"""

import logging
import os
import socket as net
import struct
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol

import zmq

from pollbroker.binding import open_port
from pollbroker.descriptors import SPARE_DESCRIPTORS, are_descriptors_few
from pollbroker.errors import EngineError
from pollbroker.events import EventKind, EventSource
from pollbroker.port import WorkingPort
from pollbroker.pump import Socket
from pollbroker.seldom import SeldomLog
from pollbroker.wire.addresses import describe_peer

_logger = logging.getLogger("pollbroker")

_ADDRESS: Final = "inproc://pollbroker.monitor.{}"

_EVENTS: Final = (
    zmq.EVENT_CONNECTED
    | zmq.EVENT_ACCEPTED
    | zmq.EVENT_ACCEPT_FAILED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

_LEFT_DESCRIPTORS: Final = 3 * SPARE_DESCRIPTORS
"""So many descriptors are left at least: more than a daemon needs to be ready, and to be ready again."""

_PORTION_S: Final = 0.002
"""After this time no further broker's monitors begin, or end, in a turn of the loop."""

_BURST: Final = 1000
"""How many reports of one monitor are read in a turn of the loop."""


class Readers(Protocol):
    """What is used of the readers of the loop."""

    def add(self, target: Socket | int, callback: Callable[[], Any], /) -> None: ...

    def remove(self, target: Socket | int, /) -> bool: ...


class Monitored(Protocol):
    """What is used of a broker at work."""

    @property
    def name(self) -> str: ...

    @property
    def ports(self) -> Iterable[WorkingPort]: ...


class Monitors:
    """The monitors of an engine's sockets. `brokers` returns the brokers that are at work, `call_soon` makes a call in
    the next turn, and `clock` tells the time in seconds."""

    def __init__(
        self,
        readers: Readers,
        events: EventSource,
        brokers: Callable[[], Iterable[Monitored]],
        call_soon: Callable[[Callable[[], object]], object],
        clock: Callable[[], float],
    ) -> None:
        self._readers = readers
        self._events = events
        self._brokers = brokers
        self._call_soon = call_soon
        self._clock = clock
        self._warn = SeldomLog(_logger.warning, clock)
        self._monitors: dict[WorkingPort, _Monitor] = {}
        self._left: deque[Monitored] = deque()
        """The brokers whose monitors have yet to begin, or to end."""
        self._is_scheduled = False
        """True if `_go_on` is called in the next turn."""
        events.when_wanted(self._set_wanted)

    def add(self, broker: Monitored) -> None:
        """A broker begins: monitor its sockets, if somebody listens."""
        if self._events.wanted:
            for port in broker.ports:
                if port.wire is None and port.owned and not port.socket.closed and port not in self._monitors:
                    self._begin(broker.name, port)

    def _begin(self, broker: str, port: WorkingPort) -> None:
        try:
            if are_descriptors_few(_LEFT_DESCRIPTORS - SPARE_DESCRIPTORS):
                raise EngineError(
                    f"{_LEFT_DESCRIPTORS} descriptors or fewer are left; expected a higher limit (ulimit -n)"
                )
            self._monitors[port] = _Monitor(broker, port, self._readers, self._events)
        except (EngineError, zmq.ZMQError) as error:
            self._warn("brokers.%s.%s: there are no events of its connections: %s", broker, port.name, error)

    def remove(self, broker: Monitored) -> None:
        """The sockets of a broker are about to be closed."""
        for port in broker.ports:
            monitor = self._monitors.pop(port, None)
            if monitor is not None:
                monitor.close()

    def _set_wanted(self, _: bool) -> None:
        self._left = deque(self._brokers())
        if not self._is_scheduled:
            self._go_on()

    def _go_on(self) -> None:
        self._is_scheduled = False
        end_s = self._clock() + _PORTION_S
        while self._left:
            broker = self._left.popleft()
            if self._events.wanted:
                self.add(broker)
            else:
                self.remove(broker)
            if self._left and self._clock() >= end_s:
                self._is_scheduled = True
                self._call_soon(self._go_on)
                return


class _Monitor:
    """The monitor of one socket, and the socket that reads it."""

    def __init__(self, broker: str, port: WorkingPort, readers: Readers, events: EventSource) -> None:
        self._broker = broker
        self._port = port
        self._readers = readers
        self._events = events
        self._addresses: dict[int, str] = {}
        """The other ends of connections, by their descriptors."""
        self._failed: dict[str, str] = {}
        """Why a handshake has failed, by the endpoint, until libzmq says which connection that was."""
        self._reader = open_port(
            port.socket.context,
            where=f"brokers.{broker}.{port.name}",
            name="monitor",
            socket_type=zmq.PAIR,
            endpoints=(),
            options=[(zmq.LINGER, 0), (zmq.RCVHWM, 0)],
        )
        try:
            address = _ADDRESS.format(self._reader.key)
            self._reader.sync_socket.connect(address)
            port.sync_socket.monitor(address, _EVENTS)
            readers.add(self._reader.sync_socket, self._read)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the monitor, and then close its reader."""
        self._readers.remove(self._reader.sync_socket)
        if not self._port.socket.closed:
            self._read()
            with suppress(zmq.ContextTerminated):  # the monitor ends when the socket is closed
                self._port.sync_socket.disable_monitor()
        self._reader.close()

    def _read(self) -> None:
        try:
            for _ in range(_BURST):
                report, endpoint = self._reader.sync_socket.recv_multipart(zmq.DONTWAIT)
                kind, value = struct.unpack("=Hi", report)
                self._handle(kind, value, endpoint.decode(errors="backslashreplace"))
        except zmq.Again:
            pass
        except zmq.ZMQError:  # the context ends, which ends the broker
            self._readers.remove(self._reader.sync_socket)
            self._reader.close()

    def _handle(self, kind: int, value: int, endpoint: str) -> None:
        if kind in (zmq.EVENT_ACCEPTED, zmq.EVENT_CONNECTED):
            address = endpoint if kind == zmq.EVENT_CONNECTED else _other_end(value, endpoint)
            self._addresses[value] = address
            self._emit(EventKind.PEER_CONNECTED, address)
        elif kind == zmq.EVENT_DISCONNECTED:
            address, reason = self._addresses.pop(value, ""), self._failed.pop(endpoint, None)
            ending = EventKind.PEER_LEFT if reason is None else EventKind.HANDSHAKE_FAILED
            self._emit(ending, address, reason or "left")
        elif kind == zmq.EVENT_ACCEPT_FAILED:
            self._emit(EventKind.CONNECTION_REFUSED, "", os.strerror(value))
        else:
            self._failed[endpoint] = _why_failed(kind, value)

    def _emit(self, kind: EventKind, address: str, reason: str = "") -> None:
        self._events.emit(kind, self._broker, port=self._port.name, address=address, reason=reason)


def _other_end(descriptor: int, endpoint: str) -> str:
    """The other end of a connection that was accepted at an endpoint; empty if the descriptor is another's by now."""
    try:
        with net.socket(fileno=os.dup(descriptor)) as connection:  # libzmq may close its own at any moment
            if connection.family == net.AF_UNIX:
                fits = endpoint.startswith("ipc://")
            else:
                fits = endpoint.endswith(f":{connection.getsockname()[1]}")
            return describe_peer(connection.fileno()) if fits else ""
    except OSError:
        return ""


def _why_failed(kind: int, value: int) -> str:
    """Why a handshake has failed, from what the monitor reports (zmq_socket_monitor(3))."""
    if kind == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return f"authentication: {value}"
    if kind == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        try:
            name = zmq.Event(value).name or ""
        except ValueError:
            name = f"{value:#x}"
        return f"protocol: {name.removeprefix('PROTOCOL_ERROR_').lower()}"
    return f"no detail: {os.strerror(value)}" if value else "no detail"
