"""One command to a running engine, and its reply: what `pollbroker ctl` sends.

libzmq goes on trying to connect for ever and reports nothing. Its socket monitor (zmq_socket_monitor(3)) reports each
attempt that failed, and the end of a connection. So the error "nobody listens there" comes at once, and is not the same
as "somebody listens there, but does not answer". A REQ does not send its request again on another connection: if the
engine ends before it has answered, no answer comes.
"""

import math
import socket as net
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, Final

import zmq

from pollbroker.binding import open_port
from pollbroker.control.default_endpoint import process_listening_at
from pollbroker.control.deferred_signals import DeferredSignals
from pollbroker.control.replies import ERROR, EVERYONE, TIMEOUT, Frames, shown
from pollbroker.endpoint import Endpoint, parse_endpoints
from pollbroker.errors import (
    CommandRefusedError,
    ControlError,
    EndpointError,
    NoAnswerError,
    NobodyListensError,
    NotInTimeError,
)
from pollbroker.pump import Socket
from pollbroker.socket_files import path_of

_FAILURES: Final[Mapping[bytes, type[ControlError]]] = {ERROR: CommandRefusedError, TIMEOUT: NotInTimeError}

_MONITOR: Final = "inproc://pollbroker.control.client.{}"

_EVENTS: Final = (
    zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
)


def request(
    endpoint: str,
    command: str | bytes,
    broker: str | bytes | None = None,
    *,
    wait_s: float | None = None,
    timeout_s: float = 5.0,
    context: zmq.Context[Any] | None = None,
) -> Frames:
    """Send one command to a control socket, and return the frames of the reply.

    Arguments:
        endpoint: the endpoint of the control socket, a REP or ROUTER. It is connected to, unless it begins with `@`.
        command: the command, such as "PAUSE".
        broker: the name of the broker that the command is for; by default it is for all brokers.
        wait_s: how long a command that takes time may take: DRAIN, and PAUSE, which then waits until what is held was
            delivered.
        timeout_s: the longest time to wait for the reply, beyond `wait_s`.
        context: the context for the client's sockets; it is needed for `inproc://` only.

    Raises a `ControlError`: `NobodyListensError` (at once), `NoAnswerError` if no reply comes in time,
    `NotInTimeError` with what is left if the command has taken `wait_s`, and `CommandRefusedError` with the reason;
    `EndpointError`; `EngineError` if no socket can be opened. If the engine ends before it has answered, whether the
    command was carried out is not known: that is `NobodyListensError` too, or `NoAnswerError` if another one listens
    there then. In the main thread, handlers of signals run while it waits or at its end, so that Ctrl-C leaves no
    socket behind.
    """
    parts = (command, broker) if wait_s is None else (command, EVERYONE if broker is None else broker, f"{wait_s:.9g}")
    message = [part.encode() if isinstance(part, str) else part for part in parts if part is not None]
    with DeferredSignals() as signals, zmq.Context[Socket]() if context is None else nullcontext(context) as used:
        return _ask(endpoint, message, timeout_s + (wait_s or 0.0), used, signals)


def ask(endpoint: str, message: Frames, *, timeout_s: float, context: zmq.Context[Any]) -> Frames:
    """Send the frames of a command, and return those of the reply: what `request` does for commands of any form."""
    with DeferredSignals() as signals:
        return _ask(endpoint, message, timeout_s, context, signals)


def parse_endpoint(endpoint: str) -> Endpoint:
    """The endpoint of a control socket, as `request` takes it. Raises `EndpointError`."""
    endpoint = endpoint.strip()
    parsed = parse_endpoints("control", endpoint if endpoint[:1] in ("@", ">") else f">{endpoint}")
    if len(parsed) > 1:
        raise EndpointError(f"control: {endpoint}: expected one endpoint")
    return parsed[0]


def _ask(
    endpoint: str, message: Frames, timeout_s: float, context: zmq.Context[Any], signals: DeferredSignals
) -> Frames:
    """Send a message and return the reply; raises for one that tells of a failure."""
    reply = _exchange(context, parse_endpoint(endpoint), endpoint.strip(), message, timeout_s, signals)
    if reply[0] not in _FAILURES:
        return reply
    lines = [line.decode(errors="backslashreplace") for line in reply[1:]]
    failure = _FAILURES[reply[0]](" ".join(lines))
    if isinstance(failure, CommandRefusedError):
        failure.lines = tuple(lines)
    raise failure


def _exchange(
    context: zmq.Context[Any],
    endpoint: Endpoint,
    given: str,
    message: Frames,
    timeout_s: float,
    signals: DeferredSignals,
) -> Frames:
    """Send a message and return the reply. `given` is the endpoint as the caller wrote it, for error messages."""
    end_s = time.monotonic() + timeout_s
    verb = shown(message[0])
    when_ended = "the context was terminated; expected an open one, or none"
    attempts = open_port(
        context,
        where="control",
        name="attempts",
        socket_type=zmq.PAIR,
        endpoints=(),
        options=[(zmq.LINGER, 0)],
        when_ended=when_ended,
    )

    def watch_attempts(socket: Socket) -> None:
        address = _MONITOR.format(attempts.key)
        socket.monitor(address, _EVENTS)
        attempts.sync_socket.connect(address)

    try:
        client = open_port(
            context,
            where="control",
            name="client",
            socket_type=zmq.REQ,
            endpoints=[endpoint],
            options=[(zmq.LINGER, 0)],
            prepare=watch_attempts,
            when_ended=when_ended,
        )
        try:
            with signals.waiting():
                client.sync_socket.poll(_until_ms(end_s), zmq.POLLOUT)
            client.sync_socket.send_multipart(message, zmq.DONTWAIT)
            connection = _Connection(endpoint, given, verb)
            _await_reply(client.sync_socket, attempts.sync_socket, connection, end_s, signals)
            try:
                return client.sync_socket.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                but = connection.describe()
                raise NoAnswerError(f"{given}: no answer to {verb} within {timeout_s:g} s{but}") from None
        except zmq.Again:
            raise NoAnswerError(f"{given}: nobody connected within {timeout_s:g} s to be sent {verb}") from None
        except zmq.ZMQError as error:
            raise ControlError(f"{given}: {verb}: {error.strerror}") from error
        finally:
            # A monitor waits for ever where nobody reads it any more, and with it the I/O thread of its context.
            with suppress(zmq.ZMQError):  # the context was terminated
                client.sync_socket.disable_monitor()
            client.close()
    finally:
        attempts.close()


class _Connection:
    """What is known of the connection to the engine.

    Arguments:
        given: the endpoint as the caller wrote it.
        verb: the command.
    """

    def __init__(self, endpoint: Endpoint, given: str, verb: str) -> None:
        self._endpoint = endpoint
        self._given = given
        self._verb = verb
        self._connected = False
        self._somebody_listens = False
        """True once a connection was made."""
        self._has_request = False
        """True once the engine was sent the request, which is when both sides have shaken hands."""
        self._lost = False
        """True once the connection with the request has ended."""
        self._will_retry = False
        """True from the end of a connection until libzmq tells that it is about to try again."""

    def hear(self, event: int) -> None:
        """Take note of what the monitor tells. Raises `NobodyListensError`, or `NoAnswerError` if somebody listens, but
        has not got the request."""
        if event == zmq.EVENT_CONNECTED:
            if self._lost:
                raise NoAnswerError(f"{self._given}: {self._how_lost}; somebody listens there again")
            self._connected = self._somebody_listens = True
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._has_request = self._connected
        elif event == zmq.EVENT_DISCONNECTED:
            self._will_retry = self._connected
            self._lost = self._lost or self._has_request
            self._connected = self._has_request = False
        elif self._will_retry:
            self._will_retry = False
        elif not self._connected and (why := _why_nobody(self._endpoint)) is not None:
            then = self._how_lost if self._lost else "expected the control socket of an engine"
            raise NobodyListensError(f"{self._given}: nobody listens there{why}; {then}")

    def describe(self) -> str:
        """Why there may be no answer in time, as the end of an error message."""
        if self._lost:
            return "; the connection has ended"
        return f"; {_who_listens(self._endpoint)} listens there, but does not answer" if self._somebody_listens else ""

    @property
    def _how_lost(self) -> str:
        return f"the connection ended before {self._verb} was answered"


def _await_reply(
    client: Socket, attempts: Socket, connection: _Connection, end_s: float, signals: DeferredSignals
) -> None:
    """Wait for the reply until `end_s`. Raises what `_Connection.hear` raises."""
    from zmq.utils.monitor import recv_monitor_message  # it imports asyncio, which an engine with a server need not do

    poller = zmq.Poller()
    poller.register(client, zmq.POLLIN)
    poller.register(attempts, zmq.POLLIN)
    while True:
        with signals.waiting():
            ready = dict(poller.poll(_until_ms(end_s)))
        if client in ready or not ready:
            return
        connection.hear(recv_monitor_message(attempts)["event"])


def _who_listens(endpoint: Endpoint) -> str:
    path = path_of(endpoint.address)
    process = None if path is None else process_listening_at(path)
    return "somebody" if process is None else f"process {process}"


def _why_nobody(endpoint: Endpoint) -> str | None:
    """Return a reason for a connection that failed, as the end of an error message.

    Returns None if somebody listens after all, with a full queue of connections.
    """
    path = endpoint.address.removeprefix("ipc://")
    if path == endpoint.address:
        return "" if endpoint.host_name is None else ", or the name does not resolve"
    with net.socket(net.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect("\0" + path[1:] if path.startswith("@") else path)
        except BlockingIOError:
            return None
        except FileNotFoundError:
            return ": there is no such file"
        except ConnectionRefusedError:
            if path.startswith("@"):
                return ""
            is_left_behind = Path(path).is_socket()
            return " any more: the process that made the file has ended" if is_left_behind else ": it is not a socket"
        except OSError as error:
            return f", or not for this process: {error.strerror}"
    return None


def _until_ms(end_s: float) -> int:
    return max(0, math.ceil((end_s - time.monotonic()) * 1000))
