"""Control sockets in an engine's loop.

The engine never waits for a control socket: a reply that cannot be sent at once is dropped and counted. The number of
commands in a turn is limited, and so is how much of a message is read, so that control does not hold up the brokers.
The engine calls readers before brokers, so that the brokers do not hold up control.
"""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeAlias

import zmq

from pollbroker.binding import open_port
from pollbroker.control.carrying_out import Command
from pollbroker.control.commands import Control
from pollbroker.control.growing import GrowingFrame, can_send_as_it_is
from pollbroker.control.receiving import FRAMES_MOST, CommandReceiver
from pollbroker.control.removing import remove_in_order
from pollbroker.control.replies import Frames
from pollbroker.control.streams import Answer, Streams
from pollbroker.endpoint import Endpoints, is_loopback, parse_endpoints
from pollbroker.engine import Engine, engine_context
from pollbroker.errors import EngineError
from pollbroker.frozen import FrozenDict
from pollbroker.options import check_complete, parse_options
from pollbroker.port import WorkingPort
from pollbroker.pump import Socket
from pollbroker.seldom import SeldomLog

_logger = logging.getLogger("pollbroker")

_OPTIONS: Final[Mapping[int, Mapping[str, object]]] = {
    zmq.SUB: {"subscribe": b"", "linger": 0},
    # Without this option libzmq drops a reply in silence if the client has left or does not read.
    zmq.ROUTER: {"router_mandatory": 1},
}
_FRAME_MAX_BYTES: Final = 1 << 20
"""libzmq closes the connection of a client that sends a larger frame. No command is nearly as large; the limit protects
the engine's memory."""

MoreCommands: TypeAlias = Mapping[bytes, Callable[[Frames], Answer]]
"""Commands with frames of their own; see `attach`."""

_NO_COMMANDS: Final[MoreCommands] = FrozenDict()

_BURST_COMMANDS: Final = 100
_BURST_S: Final = 0.002
"""In one turn of the loop at most this many commands are carried out, and none is begun after this time, which is how
long the bursts of a turn may take. The time limit is needed because with a thousand brokers a single PAUSE takes ten
milliseconds. Commands that ask every broker for something do so in portions; see `pollbroker.portions`."""


class ControlServer:
    """A control socket in an engine's loop, which `attach` or `attach_socket` has made. It is closed with the
    engine."""

    def __init__(
        self,
        engine: Engine,
        control: Control,
        port: WorkingPort,
        *,
        tap_bodies: bool = False,
        more_commands: MoreCommands = _NO_COMMANDS,
    ) -> None:
        self.endpoints = port.endpoints
        """The real addresses of the socket; empty for a socket that the caller has opened."""
        self.dropped_replies = 0
        """How many replies could not be sent at once, because their client had left or did not read."""
        self.closed = False
        self._engine = engine
        self._control = control
        self._port = port
        self._warn = SeldomLog(_logger.warning)
        self._resting = False
        """True while a REP or PAIR socket owes a reply, and takes no other command before; see `Control.must_rest`."""
        self._serves_soon = False
        """True while a call that serves what is left is on its way to the next turn."""
        self._receive = CommandReceiver(port.sync_socket)
        self._streams = Streams(control.engine, tap_bodies=tap_bodies)
        control.answer_later = self._answer_later
        if can_send_as_it_is(port.sync_socket):
            control.make_document = GrowingFrame
        control.more_commands = FrozenDict(
            {b"REMOVE": partial(remove_in_order, control.engine), **self._streams.commands, **more_commands}
        )
        engine.add_reader(port.sync_socket, self._serve)
        self._at_close = engine.on_close(self.close)

    def close(self) -> None:
        """Take no more commands. If `attach` opened the socket, it is closed; replies on their way are still sent. The
        commands that wait for their reply have none."""
        if not self.closed:
            self._streams.close()
            self._engine.remove_reader(self._port.sync_socket)
            self._at_close.cancel()
            self.closed = True
            self._port.close()

    def _serve(self) -> None:
        """Carry out the commands that have come in, within the limits of one turn."""
        end_s = time.monotonic() + _BURST_S
        try:
            for _ in range(_BURST_COMMANDS):
                self._port.check_open()
                frames = self._receive()
                if frames is not None:
                    self._send(self._reply_to(frames))
                if self._control.must_rest:
                    self._resting = True
                    self._engine.remove_reader(self._port.sync_socket)
                    break
                if time.monotonic() >= end_s:
                    break
        except zmq.Again:
            pass
        except zmq.ZMQError as error:
            self._give_up(error)

    def _reply_to(self, frames: Frames) -> Frames | None:
        if len(frames) > FRAMES_MOST:
            return self._control.refuse(frames, f"more than {FRAMES_MOST} frames; expected fewer")
        return self._control.handle(frames)

    def _answer_later(self, reply: Frames | None) -> None:
        """Send the reply to a command that took time. Called in the engine's thread, outside of the socket's reader."""
        if self.closed:
            return
        try:
            self._port.check_open()
            self._send(reply)
            self._serve_what_is_left()
        except zmq.ZMQError as error:
            self._give_up(error)
            return
        if self._resting and not self._control.must_rest:
            self._resting = False
            self._engine.add_reader(self._port.sync_socket, self._serve)

    def _serve_what_is_left(self) -> None:
        """Serve in the next turn what has come by now, once however many replies were sent in this one. After a use of
        the socket outside of its reader, libzmq tells of that no more, and of what comes later only once it was asked
        whether there is anything."""
        if self._serves_soon:
            return
        events = self._port.sync_socket.getsockopt(zmq.EVENTS)
        assert isinstance(events, int)
        if events & zmq.POLLIN:
            self._serves_soon = True
            self._engine.call_soon_threadsafe(self._serve_if_possible)

    def _serve_if_possible(self) -> None:
        self._serves_soon = False
        if not (self.closed or self._resting):
            self._serve()
        try:
            if not (self.closed or self._resting):
                self._serve_what_is_left()
        except zmq.ZMQError as error:
            self._give_up(error)

    def _give_up(self, error: zmq.ZMQError) -> None:
        if error.errno != zmq.ETERM:  # the end of the context is an orderly end
            _logger.warning("control: %r takes commands no longer: %s", self._port, error)
        self.close()

    def _send(self, reply: Frames | None) -> None:
        if reply is None:
            return
        *first, last = reply
        try:
            if isinstance(last, GrowingFrame):
                for frame in first:
                    self._port.sync_socket.send(frame, zmq.DONTWAIT | zmq.SNDMORE)
                last.send_last(self._port.sync_socket)
            else:
                self._port.sync_socket.send_multipart(reply, zmq.DONTWAIT)
        except zmq.ZMQError as error:
            self.dropped_replies += 1
            if error.errno == zmq.EHOSTUNREACH:
                return  # the client has left, as one that follows events does at Ctrl-C: nobody lacks this reply
            if error.errno != zmq.EAGAIN:
                raise
            self._warn("control: a reply was dropped (%d so far): %s", self.dropped_replies, error)


def attach(
    engine: Engine,
    endpoint: Endpoints,
    *,
    socket_type: int = zmq.REP,
    options: Mapping[str, object] | None = None,
    commands: Mapping[bytes, Callable[[], object] | Command] = FrozenDict(),
    more_commands: MoreCommands = _NO_COMMANDS,
    tap_bodies: bool = False,
    from_network: bool = False,
) -> ControlServer:
    """Open a control socket in `engine.context` and carry out the commands that come in.

    Arguments:
        engine: the engine to steer.
        endpoint: one or several endpoints, as for a broker: `@tcp://...` or an endpoint without a mark is bound,
            `>tcp://...` is connected. Whoever reaches the socket can stop the engine, so bind to loopback or `ipc://`.
        socket_type: REP or ROUTER (for any number of clients), PAIR (for one), or SUB (which cannot answer).
        options: socket options by name.
        commands: further commands by their names, or others in the place of known ones: a `Command`, or a function
            without arguments, which is called in the engine's thread, and answered as PAUSE is.
        more_commands: further commands by their names, each with what it calls, in the engine's thread, with the frames
            behind the command. It returns the frames of the reply, or a future for them, which is to be resolved in the
            engine's thread.
        tap_bodies: whether `TAP` may show the bodies of messages.
        from_network: True if other machines may reach the socket. Otherwise a warning is logged if they can.

    Raises `EndpointError`; `ConfigError` for a wrong socket type or option; `EngineError` if no socket can be opened.
    """
    if socket_type == zmq.REP:
        # A message without a delimiter, from a peer that has left or does not read, makes libzmq's REP lose its next
        # reply, even if that is for another client (rollback() in router.cpp). A ROUTER serves the same clients without
        # such a loss.
        socket_type = zmq.ROUTER
    if engine.closed:
        raise EngineError("control: the engine is closed")
    control = Control(engine, socket_type, commands)
    endpoints = parse_endpoints("control", endpoint)
    for one in endpoints:
        if one.bind and not from_network and not is_loopback(one.address):
            _logger.warning(
                "control: %s: other machines can reach this address, and stop the engine; use ipc://path or "
                "tcp://127.0.0.1:port instead, or say from_network=True",
                one,
            )
    defaults = {"maxmsgsize": _FRAME_MAX_BYTES, **_OPTIONS.get(socket_type, {})}
    given = {str(option).lower(): value for option, value in (options or {}).items()}
    parsed = parse_options("control", defaults | given)
    check_complete("control", parsed)
    port = open_port(
        engine_context(engine),
        where="control",
        name="control",
        socket_type=socket_type,
        endpoints=endpoints,
        options=parsed,
    )
    try:
        return ControlServer(engine, control, port, tap_bodies=tap_bodies, more_commands=more_commands)
    except BaseException:
        port.close()
        raise


def attach_socket(engine: Engine, socket: Socket) -> ControlServer:
    """Carry out the commands that come in at a socket that the caller has opened.

    The socket remains the caller's: it is never closed and none of its options is changed. Until the server is closed,
    only the engine may use the socket.

    Raises `ConfigError` for a socket of the wrong type, and `EngineError` if the socket is closed.
    """
    if socket.closed:
        raise EngineError("control: the socket is closed; expected an open REP, PAIR, SUB or ROUTER socket")
    port = WorkingPort("control", socket, owned=False)
    return ControlServer(engine, Control(engine, port.type), port)
