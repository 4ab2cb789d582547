"""Opening streams: sockets with their options, and those that listen. Those that connect are in `connecting.py`."""

import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import zmq

from pollbroker.wire import native
from pollbroker.wire.addresses import Address, format_bound, from_anywhere, parse_bound

NOT_SENT_MAX_BYTES: Final = 128 << 10
"""What the kernel may keep of a stream that it has not yet sent (TCP_NOTSENT_LOWAT, tcp(7)). With the kernel's own
limit of megabytes, a high-water mark would mean little, and a slow peer would be known late."""

_TCP_NOTSENT_LOWAT: Final = 25
"""linux/tcp.h; Python 3.11 has no name for it."""


class Handle(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> object: ...


class Timing(Protocol):
    """What connections use of the loop."""

    def call_later(self, delay_s: float, call: Callable[[], None], /) -> Handle: ...

    def call_soon(self, call: Callable[[], None], /) -> object:
        """Make a call in the engine's thread. Any thread may use this."""


LISTENING: Final = "listening"
CONNECTED: Final = "connected"
CONNECTING: Final = "connecting"
WAITING: Final = "waiting"
OVER: Final = "over"


@dataclass(frozen=True)
class MovedStream:
    """A socket that listens, or a connection, on its way to another process. The descriptor travels beside it."""

    kind: str
    """One of the five above. A connection that is WAITING for its next attempt has no descriptor, and neither has one
    that is OVER and is not made again. That of one that is CONNECTED is its peer's."""
    address: str
    asked_for: str
    place: int = -1
    """Of the peer among those of the port, if it is connected."""
    wait_s: float = 0.0
    """How long it still waits. If it is CONNECTED: until it is ended at once, since it is about to end and be made
    again; 0 if it is not."""
    interval_s: float = 0.0
    """How long it will wait after that, if the next attempt fails."""


class Listening:
    """A socket that listens, and the connections that are accepted from it."""

    def __init__(self, port: native.Port, address: str, options: dict[str, int], asked_for: str | None = None) -> None:
        inherited = options.get("use_fd", -1)
        listener = _copied(inherited) if inherited >= 0 else _bound(address, options)
        try:
            listener.listen(options["backlog"])
            listener.setblocking(False)
            self.address = format_bound(listener)
            self.asked_for = address if asked_for is None else asked_for
            self._anywhere = from_anywhere(self.address)
            self._listener = native.Listener(port, listener.fileno())
            listener.detach()
        finally:
            listener.close()

    @classmethod
    def restored(cls, port: native.Port, moved: "MovedStream", descriptor: int) -> "Listening":
        """Go on accepting at a socket of another process, which belongs to this from now on."""
        made = cls.__new__(cls)
        made.address = made._anywhere = moved.address
        made.asked_for = moved.asked_for
        made._listener = native.Listener(port, descriptor)
        return made

    def suspend(self) -> None:
        """Accept nothing until `resume`."""
        self._listener.suspend()

    def resume(self) -> None:
        """Accept again. Raises `OSError`; it is closed then."""
        try:
            self._listener.resume()
        except OSError:
            self.close()
            raise

    def moved(self, place: int) -> "tuple[MovedStream, int]":  # noqa: ARG002 - it has no peer of its own
        """What another process needs to go on, and the descriptor."""
        return MovedStream(LISTENING, self._anywhere, self.asked_for), self._listener.descriptor

    def address_now(self) -> str:
        """Where to listen again. A relative path, which may be the only one that is short enough, is an absolute one
        once the program has changed its directory."""
        return self.address if from_anywhere(self.address) == self._anywhere else self._anywhere

    @property
    def connector(self) -> native.Connector | None:
        """None: see `Connection`."""
        return None

    def close(self) -> None:
        """Accept no more connections. Those that were accepted go on."""
        self._listener.close()


def _copied(descriptor: int) -> socket.socket:
    copy = os.dup(descriptor)
    try:
        return socket.socket(fileno=copy)
    except BaseException:
        os.close(copy)
        raise


def _bound(address: str, options: dict[str, int]) -> socket.socket:
    parsed = parse_bound(address, ipv6=bool(options["ipv6"]))
    bound = new_socket(parsed, options)
    try:
        if parsed.family == socket.AF_UNIX:
            if isinstance(parsed.sockaddr, str):
                with suppress(FileNotFoundError):
                    Path(parsed.sockaddr).unlink()  # of a socket that nobody listens at: see `binding.py`
        else:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if parsed.family == socket.AF_INET6:
                bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(parsed.sockaddr)
    except BaseException:
        bound.close()
        raise
    return bound


def new_socket(address: Address, options: dict[str, int]) -> socket.socket:
    """A socket with its options. A connection that is accepted has those of the socket that listens."""
    made = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    for name, option in (("sndbuf", socket.SO_SNDBUF), ("rcvbuf", socket.SO_RCVBUF)):
        if options[name] >= 0:
            made.setsockopt(socket.SOL_SOCKET, option, options[name])
    if address.family != socket.AF_UNIX:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, NOT_SENT_MAX_BYTES)
        if options["tos"]:
            made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, options["tos"])
        _set_keepalive(made, options)
    return made


def _set_keepalive(made: socket.socket, options: dict[str, int]) -> None:
    if options["tcp_keepalive"] < 0:
        return
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, options["tcp_keepalive"])
    for name, option in (
        ("tcp_keepalive_idle", socket.TCP_KEEPIDLE),
        ("tcp_keepalive_cnt", socket.TCP_KEEPCNT),
        ("tcp_keepalive_intvl", socket.TCP_KEEPINTVL),
    ):
        if options[name] > 0:
            made.setsockopt(socket.IPPROTO_TCP, option, options[name])


def raise_zmq_error(error: OSError) -> Any:
    """Raise what libzmq would raise for an error of a socket."""
    if isinstance(error, socket.gaierror) or error.errno is None:
        raise zmq.ZMQError(errno.ENODEV) from error
    raise zmq.ZMQError(error.errno, error.strerror) from error
