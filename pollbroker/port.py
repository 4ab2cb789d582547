"""Ports: a broker's sockets at run time, opened by the engine (`binding.py`) or lent to it by the caller."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import zmq

from pollbroker.frozen import FrozenDict
from pollbroker.pump import Socket
from pollbroker.socket_files import SocketFile
from pollbroker.statistics import PeerStatistics

_NOTHING: Final[Mapping[str, int]] = FrozenDict()


class WorkingPort:
    """One socket of a broker: a port of its device, or its `capture` port."""

    __slots__ = ("asked_for", "endpoints", "files", "key", "name", "owned", "socket", "sync_socket", "type", "wire")

    def __init__(
        self,
        name: str,
        socket: Socket,
        *,
        owned: bool,
        endpoints: tuple[str, ...] = (),
        files: tuple[SocketFile, ...] = (),
        asked_for: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.socket = socket
        """The socket that the engine opened, or that was registered. Only the engine's thread may use it."""
        self.key = int(socket.underlying)
        """libzmq's address of the socket. Two Python objects that stand for one open socket have the same key."""
        self.owned = owned
        """True if the engine opened the socket, and so closes it."""
        self.endpoints = endpoints
        """The real addresses: those that were bound, with wildcards resolved, and those that were connected."""
        self.asked_for = asked_for
        """The endpoints as they were asked for, wildcards and all. Empty for a registered socket."""
        self.files = files
        """The files of the `ipc://` paths that were bound."""
        self.sync_socket: Socket = _sync_socket(socket)
        """The socket with pyzmq's plain methods, which messages are moved with."""
        self.type = socket_type_of(self.sync_socket)
        self.wire: Any = getattr(socket, "wire_port", None)
        """The port of the wire (`pollbroker.wire.native.Port`); None if the socket is libzmq's."""

    def check_open(self) -> None:
        """Raise `zmq.ZMQError` (ENOTSOCK) if the socket was closed under the engine."""
        if self.socket.closed:
            raise zmq.ZMQError(zmq.ENOTSOCK, f"{self.name}: the socket was closed under the engine")

    def peers(self) -> tuple[PeerStatistics, ...]:
        """The connections of a port of the wire. A socket of libzmq does not tell."""
        if self.wire is None:
            return ()
        socket: Any = self.socket  # a WireSocket
        peers: tuple[PeerStatistics, ...] = socket.peers(self.name)
        return peers

    @property
    def wire_socket(self) -> Any:
        """The socket, if it is the wire's (`pollbroker.wire.sockets.WireSocket`)."""
        assert self.wire is not None
        return self.socket

    @property
    def transport(self) -> str:
        """`wire` or `libzmq`."""
        return "libzmq" if self.wire is None else "wire"

    @property
    def peer_count(self) -> int | None:
        """How many peers of a port of the wire are connected. None: a socket of libzmq does not tell."""
        return None if self.wire is None else self.wire.peer_count

    @property
    def connections_ended(self) -> Mapping[str, int]:
        """How many connections of a port of the wire have ended, by the reason."""
        return _NOTHING if self.wire is None else FrozenDict(self.wire.ended_by)

    @property
    def missed(self) -> int:
        """Messages that were for a peer of a PUB, XPUB, SUB or XSUB of the wire and were not written to it."""
        return 0 if self.wire is None else self.wire.missed

    @property
    def queued(self) -> int:
        """Messages that the port has accepted and has yet to hand to the kernel. A socket of libzmq does not tell."""
        return 0 if self.wire is None else self.wire.held

    @property
    def can_ask_to_leave(self) -> bool:
        """True if the port is the wire's, and of a type whose peers send without waiting for an answer."""
        return self.wire is not None and self.type in (zmq.PULL, zmq.SUB, zmq.XSUB)

    def ask_peers_to_leave(self) -> None:
        """Have the peers leave, after all that they have sent. It is the port of a broker that is about to end."""
        if self.can_ask_to_leave:
            self._unlink_files()
            self.wire_socket.ask_peers_to_leave()

    def stop_listening(self) -> None:
        """Accept no more connections at a port of the wire. Those that were accepted go on."""
        self._unlink_files()
        self.wire_socket.stop_listening()

    def own_file(self, path: Path) -> None:
        """Listen again at one of the paths where the port has listened, since now."""
        self.files = tuple(SocketFile.at(path, file.directory) if file.path == path else file for file in self.files)

    def _unlink_files(self) -> None:
        """While a socket listens, its file keeps its inode, and nobody else takes its path. So the files are removed
        first."""
        self.files = tuple(file.unlinked() for file in self.files)

    @property
    def is_left(self) -> bool:
        """True if no connection is open of a peer that was asked to leave."""
        return self.wire is None or not self.can_ask_to_leave or not self.wire.connections

    def tell_when_written(self, call: Callable[[], None]) -> None:
        """Call this, and nothing else any more, whenever a peer of a port of the wire has been written all of its
        messages, or has left."""
        if self.wire is not None and not self.socket.closed:
            self.wire.set("tells_when_empty", True)
            self.wire.on_ready = call

    def write(self) -> None:
        """Try at once to write what is `queued`."""
        if self.wire is not None:
            self.wire.write()

    def close(self, *, linger: int | None = None) -> None:
        """Close the socket if the engine opened it; a registered socket is left as it is.

        `linger` (milliseconds) takes the place of the socket's own setting.

        The socket's files are removed first.
        """
        if self.owned and not self.socket.closed:
            for file in self.files:
                file.remove()
            self.socket.close(linger)

    def __repr__(self) -> str:
        return f"<WorkingPort {self.name} {' '.join(self.endpoints) or 'registered'}>"


def _sync_socket(socket: Socket) -> Socket:
    """The plain socket beneath one of a subclass, such as those of zmq.asyncio and zmq.green, that receives or sends in
    a way of its own: it may wait, and native code would not call it.

    Any other socket is returned as it is, also one that is not pyzmq's, such as a simulated one.
    """
    own = isinstance(socket, zmq.Socket) and (
        type(socket).recv is not zmq.Socket.recv or type(socket).send is not zmq.Socket.send
    )
    return zmq.Socket(shadow=socket.underlying) if own else socket


def socket_type_of(socket: Socket) -> zmq.SocketType:
    """ZMQ_TYPE, as the enumeration."""
    number = socket.getsockopt(zmq.TYPE)
    assert isinstance(number, int)
    return zmq.SocketType(number)
