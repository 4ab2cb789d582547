"""Control: steering a running engine through a ZeroMQ socket, with the commands of libzmq's zmq_proxy_steerable.

Scripts written for libzmq's steerable proxy steer an engine unchanged; what goes beyond that, docs/control.md tells.

- `Control` is sans-I/O: the frames of one command in, the frames of its reply out. Sockets come in with `attach`.
- A command is carried out whole, or refused with `ERROR` and one line that says why: then nothing has changed.
- No frame that a peer sends raises. A REP socket answers every command, since one left unanswered would end it.
- Nothing waits: a reply that cannot be sent at once is dropped and counted. A burst of commands is bounded, so that
  traffic keeps its turn; the engine calls readers before brokers, so that control keeps its own.
"""

import json
import logging
import math
import struct
import time
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any, Final, TypeAlias

import zmq

from pollbroker.broker import BrokerState
from pollbroker.endpoint import Endpoints, parse_endpoints
from pollbroker.engine import Engine
from pollbroker.errors import ConfigError, ControlError, EndpointError, EngineError, PollbrokerError
from pollbroker.options import parse_options
from pollbroker.port import Port, open_port
from pollbroker.pump import Socket, choose_pumping

_logger = logging.getLogger("pollbroker")

Frames: TypeAlias = list[bytes]

OK: Final = b"OK"
ERROR: Final = b"ERROR"
_DONE: Final[Frames] = [b""]

_SOCKET_TYPES: Final = (zmq.REP, zmq.PAIR, zmq.SUB, zmq.ROUTER)
_UNANSWERED: Final = ([b"PAUSE"], [b"RESUME"], [b"TERMINATE"])
"""At a PAIR socket, as libzmq has it, but for its 4.3.5 (libzmq #4600)."""

_OPTIONS: Final[Mapping[int, Mapping[str, object]]] = {
    zmq.SUB: {"subscribe": b"", "linger": 0},
    # Without it libzmq drops a reply to a client that has left, or does not read, without a word.
    zmq.ROUTER: {"router_mandatory": 1},
}
_FRAME_MAX_BYTES: Final = 1 << 20
"""libzmq closes the connection of whoever sends a larger frame: no command comes near, and memory is the engine's."""

_BURST_COMMANDS: Final = 100
_BURST_S: Final = 0.002
"""A turn of the loop carries out this many commands, or as many as fit into this time, which is what a broker's burst
may take: with a thousand brokers, a single STATS takes ten milliseconds."""

_SHOWN_CHARACTERS: Final = 60
"""How much of a peer's frame an error repeats."""

_LOG_INTERVAL_S: Final = 1.0


class Control:
    """Carries out the commands that come in at a control socket of one type: REP, PAIR, SUB or ROUTER.

    Raises `ConfigError` for any other type.
    """

    def __init__(self, engine: Engine, socket_type: int = zmq.REP) -> None:
        if socket_type not in _SOCKET_TYPES:
            found = getattr(socket_type, "name", socket_type)
            raise ConfigError(f"control: a {found} socket cannot take commands; expected REP, PAIR, SUB or ROUTER")
        self._engine = engine
        self._type = socket_type
        self._warn = _make_seldom_warning()

    def handle(self, frames: Frames) -> Frames | None:
        """The reply to one command, or None where this type of socket sends none.

        Both are whole messages of the socket: those of a ROUTER begin with an envelope, which is the routing id, or
        all up to an empty delimiter if the client (a REQ) sent one. Nothing in `frames` makes it raise.
        """
        length = _envelope_length(frames) if self._type == zmq.ROUTER else 0
        envelope, command = frames[:length], frames[length:]
        try:
            reply = _carry_out(self._engine, command)
        except PollbrokerError as error:
            reply = _refusal(str(error))
        except Exception as error:  # noqa: BLE001 - a REP socket has to be answered, whatever happened
            self._warn("control: a command raised", exc_info=error)
            reply = _refusal(f"the engine failed to carry it out: {error!r}")
        if self._type == zmq.SUB:
            if reply[0] == ERROR:
                self._warn("control: %s", reply[1].decode())
            return None
        if self._type == zmq.PAIR and command in _UNANSWERED and reply == _DONE:
            return None
        return envelope + reply


def _envelope_length(frames: Frames) -> int:
    """Of a ROUTER's message. An empty frame at the end is an (empty) command, not a delimiter."""
    try:
        return frames.index(b"", 1, -1) + 1
    except ValueError:
        return 1


def _carry_out(engine: Engine, command: Frames) -> Frames:
    """The reply to a valid command, carried out. Raises `PollbrokerError` for any other, and nothing has changed."""
    if not command:
        raise ControlError(f"an empty message; expected {_EXPECTED}")
    verb, *names = command
    carry_out = _COMMANDS.get(verb)
    if carry_out is None:
        raise ControlError(f"unknown command {_shown(verb)}; expected {_EXPECTED}")
    most = 0 if carry_out is _list else 1
    if len(names) > most:
        expected = "the command and a broker's name" if most else "the command alone"
        raise ControlError(f"{verb.decode()}: {len(command)} frames; expected {expected}")
    return carry_out(engine, _find(engine, verb, names[0]) if names else None)


def _find(engine: Engine, verb: bytes, frame: bytes) -> str:
    try:
        name = frame.decode()
    except UnicodeDecodeError:
        raise ControlError(f"{verb.decode()}: {_shown(frame)}: expected a broker's name in UTF-8") from None
    known = engine.brokers
    if name not in known:
        some = ", ".join(list(known)[:10]) + (", ..." if len(known) > 10 else "")
        raise ControlError(f"{verb.decode()}: no broker is named {_shown(frame)}; there are: {some or 'none'}")
    return name


def _steer(engine: Engine, steer: Callable[[str], None], name: str | None) -> Frames:
    if name is not None:
        steer(name)
        return _DONE
    for each, broker in engine.brokers.items():
        try:
            steer(each)
        except EngineError:
            if broker.state in (BrokerState.RUNNING, BrokerState.PAUSED):
                raise  # else it has ended or is about to, which must not keep the others from being steered
    return _DONE


def _terminate(engine: Engine, name: str | None) -> Frames:
    if name is None:
        engine.stop()
    else:
        engine.remove(name, timeout_s=0.0)
    return _DONE


def _statistics(engine: Engine, name: str | None) -> Frames:
    counts = dict.fromkeys(product(("frontend", "backend"), ("received", "sent"), ("frames", "bytes")), 0)
    brokers = engine.statistics().brokers
    for broker in brokers.values() if name is None else (brokers[name],):
        for flow in broker.flows.values():
            # libzmq counts what its proxy with one socket sends as the backend's.
            sink = "backend" if flow.sink == flow.source and len(broker.flows) == 1 else flow.sink
            for port, way in ((flow.source, "received"), (sink, "sent")):
                for unit in ("frames", "bytes"):
                    counts[port, way, unit] += getattr(flow, f"{way}_{unit}")
    return [struct.pack("=Q", count % (1 << 64)) for count in counts.values()]


def _list(engine: Engine, _: str | None) -> Frames:
    return [OK, *(name.encode() for name in engine.brokers)]


def _stats(engine: Engine, name: str | None) -> Frames:
    statistics = engine.statistics()
    return [OK, json.dumps(statistics if name is None else statistics.brokers[name], default=vars).encode()]


_COMMANDS: Final[Mapping[bytes, Callable[[Engine, str | None], Frames]]] = {
    b"PAUSE": lambda engine, name: _steer(engine, engine.pause, name),
    b"RESUME": lambda engine, name: _steer(engine, engine.resume, name),
    b"TERMINATE": _terminate,
    b"STATISTICS": _statistics,
    b"LIST": _list,
    b"STATS": _stats,
}
_EXPECTED: Final = ", ".join(verb.decode() for verb in _COMMANDS)


def _refusal(text: str) -> Frames:
    return [ERROR, " ".join(text.split()).encode(errors="backslashreplace")]


def _shown(frame: bytes) -> str:
    """A peer's frame as one printable line."""
    text = repr(frame[:_SHOWN_CHARACTERS].decode(errors="backslashreplace"))
    return text if len(frame) <= _SHOWN_CHARACTERS else f"{text}... ({len(frame)} bytes)"


def _make_seldom_warning() -> Callable[..., None]:
    """Logs a warning once a second at most: who floods a control socket is not to flood the log."""
    next_s = -math.inf

    def warn(message: str, *args: object, exc_info: BaseException | None = None) -> None:
        nonlocal next_s
        now_s = time.monotonic()
        if now_s >= next_s:
            next_s = now_s + _LOG_INTERVAL_S
            _logger.warning(message, *args, exc_info=exc_info)

    return warn


class ControlServer:
    """A control socket in an engine's loop; `attach` and `attach_socket` make it. It ends with the engine."""

    def __init__(self, engine: Engine, control: Control, port: Port) -> None:
        self.endpoints = port.endpoints
        """The real addresses; none for a socket of the caller's own."""
        self.dropped_replies = 0
        """Replies that could not be sent at once: their client has left, or does not read."""
        self.closed = False
        self._engine = engine
        self._control = control
        self._port = port
        self._warn = _make_seldom_warning()
        engine.on_close(self.close)
        engine.add_reader(port.plain, self._serve)

    def close(self) -> None:
        """Take no more commands. The socket is closed if `attach` opened it; replies on their way still leave."""
        if not self.closed:
            self._engine.remove_reader(self._port.plain)
            self.closed = True
            self._port.close()

    def _serve(self) -> None:
        """Carry out the commands that have come in, up to the bounds of a burst."""
        end_s = time.monotonic() + _BURST_S
        try:
            for _ in range(_BURST_COMMANDS):
                self._port.check_open()
                self._answer(self._port.plain.recv_multipart(zmq.DONTWAIT))
                if time.monotonic() >= end_s:
                    break
        except zmq.Again:
            pass
        except zmq.ZMQError as error:
            if error.errno != zmq.ETERM:  # which is an orderly end
                _logger.warning("control: %r takes commands no longer: %s", self._port, error)
            self.close()

    def _answer(self, frames: Frames) -> None:
        reply = self._control.handle(frames)
        if reply is None:
            return
        try:
            self._port.plain.send_multipart(reply, zmq.DONTWAIT)
        except zmq.ZMQError as error:
            self.dropped_replies += 1
            if error.errno not in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                raise
            self._warn("control: a reply was dropped (%d so far): %s", self.dropped_replies, error)


def attach(
    engine: Engine,
    endpoint: Endpoints,
    *,
    socket_type: int = zmq.REP,
    options: Mapping[str, object] | None = None,
) -> ControlServer:
    """Open a control socket in `engine.context` and steer the engine by what comes in; returns it with its endpoints.

    Arguments:
        endpoint: one or several, as for a broker: `@tcp://...` or without a mark is bound, `>tcp://...` connected. Who
            reaches it can stop the engine: bind to loopback, or to `ipc://`.
        socket_type: REP or ROUTER (for any number of clients), PAIR (for one), or SUB (which cannot answer).
        options: socket options by name.

    Raises `EndpointError`, `ConfigError` (the socket type or an option), or `EngineError` (no socket can be had).
    """
    if socket_type == zmq.REP:
        # A message without a delimiter, from a peer that has left or does not read, makes libzmq's REP lose its next
        # reply, whoever that is for (rollback() in router.cpp). A ROUTER serves the same clients, and loses none.
        socket_type = zmq.ROUTER
    control = Control(engine, socket_type)
    defaults = {"maxmsgsize": _FRAME_MAX_BYTES, **_OPTIONS.get(socket_type, {})}
    given = {str(option).lower(): value for option, value in (options or {}).items()}
    port = open_port(
        engine.context,
        choose_pumping(engine.statistics().pump),
        place="control",
        name="control",
        socket_type=socket_type,
        endpoints=parse_endpoints("control", endpoint),
        options=parse_options("control", defaults | given),
    )
    try:
        return ControlServer(engine, control, port)
    except BaseException:
        port.close()
        raise


def attach_socket(engine: Engine, socket: Socket) -> ControlServer:
    """Steer the engine by what comes in at a socket of the caller's, which stays the caller's: never closed, no option
    touched. Until the server is closed only the engine may use it.

    Raises `ConfigError` (a socket of the wrong type) or `EngineError` (it is closed).
    """
    if socket.closed:
        raise EngineError("control: the socket is closed; expected an open REP, PAIR, SUB or ROUTER socket")
    port = Port("control", socket, choose_pumping(engine.statistics().pump), owned=False)
    return ControlServer(engine, Control(engine, port.type), port)


def request(
    endpoint: str,
    command: str | bytes,
    broker: str | bytes | None = None,
    *,
    timeout_s: float = 5.0,
    context: zmq.Context[Any] | None = None,
) -> Frames:
    """The frames of the reply to one command, sent from a REQ socket to the REP or ROUTER control socket at `endpoint`.

    It is connected to, unless marked with `@`. `context` is needed for `inproc://` only.

    Raises `ControlError` if no answer comes within `timeout_s` seconds, or if the command is refused (with the reason),
    `EndpointError`, or `EngineError` (no socket can be had).
    """
    if context is None:
        with zmq.Context[Socket]() as own:
            return request(endpoint, command, broker, timeout_s=timeout_s, context=own)
    endpoint = endpoint.strip()
    parsed = parse_endpoints("control", endpoint if endpoint[:1] in ("@", ">") else f">{endpoint}")
    if len(parsed) > 1:
        raise EndpointError(f"control: {endpoint}: expected one endpoint")
    message = [part.encode() if isinstance(part, str) else part for part in (command, broker) if part is not None]
    end_s = time.monotonic() + timeout_s
    port = open_port(
        context,
        choose_pumping("python"),
        place="control",
        name="client",
        socket_type=zmq.REQ,
        endpoints=parsed,
        options=[(zmq.LINGER, 0)],
    )
    with port.plain as socket:
        try:
            _await(socket, zmq.POLLOUT, end_s)
            socket.send_multipart(message, zmq.DONTWAIT)
            _await(socket, zmq.POLLIN, end_s)
            reply = socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            raise ControlError(f"{endpoint}: no answer to {_shown(message[0])} within {timeout_s:g} s") from None
        except zmq.ZMQError as error:
            raise ControlError(f"{endpoint}: {_shown(message[0])}: {error.strerror}") from error
    if reply[0] == ERROR:
        raise ControlError(b" ".join(reply[1:]).decode(errors="backslashreplace"))
    return reply


def _await(socket: Socket, event: int, end_s: float) -> None:
    socket.poll(max(0, math.ceil((end_s - time.monotonic()) * 1000)), event)
