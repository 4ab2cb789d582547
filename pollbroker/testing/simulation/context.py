"""A simulated context: sockets that find each other by address.

Rules, which are libzmq's (ctx.cpp, socket_base.cpp):

- A socket that connects has its end of the pipe at once. The socket that has bound is told of it by a command. A
  connection to an address that no socket has bound yet has a pipe too, and can be written to; the bind attaches the far
  end.
- Over inproc the high-water marks of both ends are added up; 0 on either side means no limit.
- If a peer is a ROUTER or a REP, the routing id of the other end is the first item in the pipe. Before the bind the
  type of the peer is not known, so the routing id is always put there, and taken out again if the peer does not need
  it.
- The options that count for a peer are those at the time of the bind or connect.
"""

from errno import EMFILE
from typing import TYPE_CHECKING, NamedTuple

import zmq

from pollbroker.testing.simulation.frame import ROUTING_ID, WouldAbort
from pollbroker.testing.simulation.options import DEFAULTS
from pollbroker.testing.simulation.pipe import Pipe, make_pipe
from pollbroker.testing.simulation.truth import on_bind, on_connected

if TYPE_CHECKING:
    from pollbroker.testing.simulation.network import SimNetwork
    from pollbroker.testing.simulation.socket import SimSocket

SOCKET_LIMIT = 65535
DEFAULT_MAX_SOCKETS = 1023


class Endpoint(NamedTuple):
    """A socket that has bound or connects, and its options at that time."""

    socket: "SimSocket"
    send: int
    receive: int
    routing_id: bytes


class Waiting(NamedTuple):
    """A connection to an address that no socket has bound yet."""

    connector: Endpoint
    near: Pipe
    far: Pipe


class SimContext:
    """Looks like a `zmq.Context`. Made by `SimNetwork.context`."""

    def __init__(self, network: "SimNetwork") -> None:
        self.network = network
        self.closed = False
        self._terminating = False
        self._max_sockets = DEFAULT_MAX_SOCKETS
        self._options: dict[int, int] = {}
        self._sockets: dict[int, SimSocket] = {}
        self._bound: dict[str, Endpoint] = {}
        self._waiting: dict[str, list[Waiting]] = {}

    @property
    def sockets(self) -> "list[SimSocket]":
        """The sockets that are open."""
        return list(self._sockets.values())

    def socket(self, socket_type: int) -> "SimSocket":
        """Return a new socket. Raises `zmq.ZMQError`: ETERM (as `ContextTerminated`), EMFILE, EINVAL."""
        if self.closed or self._terminating:
            raise zmq.ContextTerminated
        if len(self._sockets) >= self._max_sockets:
            raise zmq.ZMQError(EMFILE)
        socket = self.network.make_socket(self, socket_type)
        self._sockets[socket.underlying] = socket
        return socket

    def get(self, option: int) -> int:
        if option == zmq.MAX_SOCKETS:
            return self._max_sockets
        if option == zmq.SOCKET_LIMIT:
            return SOCKET_LIMIT
        return self._options.get(option, 0)

    def set(self, option: int, value: int) -> None:
        if option == zmq.MAX_SOCKETS:
            if not 0 < value <= SOCKET_LIMIT:
                raise zmq.ZMQError(zmq.EINVAL)
            self._max_sockets = value
        self._options[option] = value

    getsockopt = get
    setsockopt = set

    # The end

    def shutdown(self) -> None:
        """As zmq_ctx_shutdown: each socket gets a stop command, and raises ETERM once it has processed the command."""
        if not self._terminating:
            self._terminating = True
            for socket in self.sockets:
                socket.mailbox.post(type(socket).on_stop, socket)

    def term(self) -> None:
        """As zmq_ctx_term. That would wait until all sockets are closed, so this raises `RuntimeError` if one is
        open."""
        self.shutdown()
        if self._sockets:
            names = ", ".join(socket.name for socket in self.sockets)
            raise RuntimeError(f"the end of the context would wait for ever for sockets that are still open: {names}")
        self.closed = True

    def destroy(self, linger: int | None = None) -> None:
        """Close all sockets, and terminate the context."""
        for socket in self.sockets:
            socket.close(linger)
        self.term()

    def __enter__(self) -> "SimContext":
        return self

    def __exit__(self, *error: object) -> None:
        self.destroy()

    # Addresses, for the sockets

    def bind(self, socket: "SimSocket", addr: str) -> None:
        if addr in self._bound:
            raise zmq.ZMQError(zmq.EADDRINUSE)
        binder = self._bound[addr] = _endpoint(socket)
        for waiting in self._waiting.pop(addr, ()):
            self._join(binder, waiting)

    def _join(self, binder: Endpoint, waiting: Waiting) -> None:
        connector, near, far = waiting
        far.owner = binder.socket
        if not binder.socket.takes_routing_ids:
            far.read()
        near.set_extra(binder.send, binder.receive)
        far.set_extra(connector.send, connector.receive)
        near.set_water_marks(connector.receive, connector.send)
        far.set_water_marks(binder.receive, binder.send)
        binder.socket.attach(far)
        connector.socket.mailbox.post(on_connected, connector.socket)
        is_told = connector.socket.takes_routing_ids and not connector.socket.closed
        if is_told and not far.write(binder.routing_id, ROUTING_ID):
            raise WouldAbort("ctx.cpp: the socket that connected here takes routing ids, and has disconnected again")

    def connect(self, socket: "SimSocket", addr: str) -> Pipe:
        """Make a pipe and return its near end, which the caller must attach."""
        connector = _endpoint(socket)
        binder = self._bound.get(addr)
        if binder is None:
            near, far = make_pipe(socket, socket, connector.send, connector.receive)
            near.set_extra(int(DEFAULTS[zmq.SNDHWM]), int(DEFAULTS[zmq.RCVHWM]))
            far.set_extra(connector.send, connector.receive)
            near.write(connector.routing_id, ROUTING_ID)
            self._waiting.setdefault(addr, []).append(Waiting(connector, near, far))
            return near
        high_out = connector.send + binder.receive if connector.send and binder.receive else 0
        high_in = connector.receive + binder.send if connector.receive and binder.send else 0
        near, far = make_pipe(socket, binder.socket, high_out, high_in)
        near.set_extra(binder.send, binder.receive)
        far.set_extra(connector.send, connector.receive)
        if binder.socket.takes_routing_ids:
            near.write(connector.routing_id, ROUTING_ID)
        if socket.takes_routing_ids:
            far.write(binder.routing_id, ROUTING_ID)
        binder.socket.mailbox.post(on_bind, far)
        return near

    def unbind(self, socket: "SimSocket", addr: str) -> bool:
        """Take a bind back. Return True if the socket was bound there."""
        if addr not in self._bound or self._bound[addr].socket is not socket:
            return False
        del self._bound[addr]
        return True

    def forget(self, socket: "SimSocket") -> None:
        """Remove a socket that is being closed."""
        self._sockets.pop(socket.underlying, None)
        self._bound = {addr: binder for addr, binder in self._bound.items() if binder.socket is not socket}


def _endpoint(socket: "SimSocket") -> Endpoint:
    send, receive, routing_id = (socket.option(o) for o in (zmq.SNDHWM, zmq.RCVHWM, zmq.ROUTING_ID))
    return Endpoint(socket, int(send), int(receive), bytes(routing_id))
