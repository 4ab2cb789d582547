"""Control sockets in an engine's loop.

Nothing waits: a reply that cannot be sent at once is dropped and counted. A burst of commands is bounded, so that
traffic keeps its turn; the engine calls readers before brokers, so that control keeps its own.
"""

import logging
import time
from collections.abc import Mapping
from typing import Final

import zmq

from pollbroker.control.commands import Control, Frames, make_seldom_warning
from pollbroker.endpoint import Endpoints, parse_endpoints
from pollbroker.engine import Engine
from pollbroker.errors import EngineError
from pollbroker.options import parse_options
from pollbroker.port import WorkingPort, open_port
from pollbroker.pump import Socket

_logger = logging.getLogger("pollbroker")

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


class ControlServer:
    """A control socket in an engine's loop; `attach` and `attach_socket` make it. It ends with the engine."""

    def __init__(self, engine: Engine, control: Control, port: WorkingPort) -> None:
        self.endpoints = port.endpoints
        """The real addresses; none for a socket of the caller's own."""
        self.dropped_replies = 0
        """Replies that could not be sent at once: their client has left, or does not read."""
        self.closed = False
        self._engine = engine
        self._control = control
        self._port = port
        self._warn = make_seldom_warning()
        engine.add_reader(port.sync_socket, self._serve)
        self._at_close = engine.on_close(self.close)

    def close(self) -> None:
        """Take no more commands. The socket is closed if `attach` opened it; replies on their way still leave."""
        if not self.closed:
            self._engine.remove_reader(self._port.sync_socket)
            self._at_close.cancel()
            self.closed = True
            self._port.close()

    def _serve(self) -> None:
        """Carry out the commands that have come in, up to the bounds of a burst."""
        end_s = time.monotonic() + _BURST_S
        try:
            for _ in range(_BURST_COMMANDS):
                self._port.check_open()
                self._answer(self._port.sync_socket.recv_multipart(zmq.DONTWAIT))
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
            self._port.sync_socket.send_multipart(reply, zmq.DONTWAIT)
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
    if engine.closed:
        raise EngineError("control: the engine is closed")
    control = Control(engine, socket_type)
    defaults = {"maxmsgsize": _FRAME_MAX_BYTES, **_OPTIONS.get(socket_type, {})}
    given = {str(option).lower(): value for option, value in (options or {}).items()}
    port = open_port(
        engine.context,
        where="control",
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
    port = WorkingPort("control", socket, owned=False)
    return ControlServer(engine, Control(engine, port.type), port)
