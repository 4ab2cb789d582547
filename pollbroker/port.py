"""Ports: a broker's sockets at run time, opened by the engine or lent to it by the caller."""

import errno
import logging
import os
import resource
import socket as net
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zmq

from pollbroker.endpoint import Endpoint
from pollbroker.errors import EndpointError, EngineError
from pollbroker.options import Value, set_options
from pollbroker.pump import Socket

_logger = logging.getLogger("pollbroker")

LINGER_MS: Final = 1000
"""How long an engine's own socket, once closed, goes on sending what it had accepted. libzmq's default is for ever, and
`Context.term()` waits that long; the option `linger` overrides it."""


SPARE_DESCRIPTORS: Final = 16
"""libzmq 4.3.5 needs up to a dozen at once: for a context's threads, a socket's mailbox, a listener, a name look-up."""


@dataclass(frozen=True)
class SocketFile:
    """The file of an `ipc://` path that was bound here. libzmq 4.3.5 leaves it behind when the socket is closed."""

    path: Path
    """Absolute, since the program may change its directory."""
    identity: tuple[int, int]
    """The device and the inode, which tell it from a file that somebody else has bound at the path since."""
    directory: Path | None = None
    """The directory that was made for it alone."""

    def remove(self) -> None:
        """Remove the file, if it is still the one that was bound here, and its directory."""
        with suppress(OSError):  # it is gone already, or the directory may no longer be written
            if _identify(self.path) == self.identity:
                self.path.unlink()
            if self.directory is not None:
                self.directory.rmdir()


def _identify(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


class WorkingPort:
    """One socket of a broker: `frontend`, `backend` or `capture`."""

    __slots__ = ("endpoints", "files", "key", "name", "owned", "socket", "sync_socket", "type")

    def __init__(
        self,
        name: str,
        socket: Socket,
        *,
        owned: bool,
        endpoints: tuple[str, ...] = (),
        files: tuple[SocketFile, ...] = (),
    ) -> None:
        self.name = name
        self.socket = socket
        """The socket that the engine opened, or that was registered. Only the engine's thread may use it."""
        self.key = int(socket.underlying)
        """What identifies the socket while it is open, whichever object stands for it."""
        self.owned = owned
        """Whether the engine opened it, and so closes it."""
        self.endpoints = endpoints
        """The real addresses: what was bound, wildcards resolved, and what was connected."""
        self.files = files
        """The files of the `ipc://` paths among them that were bound."""
        self.sync_socket: Socket = _sync_socket(socket)
        self.type = socket_type_of(self.sync_socket)

    def check_open(self) -> None:
        """Raise `zmq.ZMQError` (ENOTSOCK) if the socket was closed under the engine."""
        if self.socket.closed:
            raise zmq.ZMQError(zmq.ENOTSOCK, f"{self.name}: the socket was closed under the engine")

    def close(self, *, linger: int | None = None) -> None:
        """Close the socket if the engine opened it; a lent one is left as it is. `linger`: milliseconds, if not as set.

        Its files are removed first. As long as the socket is open no other file can have the inode of one of them, so
        that a file of somebody else's is never taken for it.
        """
        if self.owned and not self.socket.closed:
            for file in self.files:
                file.remove()
            self.socket.close(linger)

    def __repr__(self) -> str:
        return f"<WorkingPort {self.name} {' '.join(self.endpoints) or 'registered'}>"


def _sync_socket(socket: Socket) -> Socket:
    """The socket itself; of the classes of zmq.asyncio and zmq.green, which wait in their own ways, the plain socket
    beneath. What is no socket of pyzmq's, such as a simulated one, is taken as it is."""
    waits = isinstance(socket, zmq.Socket) and type(socket).recv is not zmq.Socket.recv
    return zmq.Socket(shadow=socket.underlying) if waits else socket


def socket_type_of(socket: Socket) -> zmq.SocketType:
    """ZMQ_TYPE, as the enumeration."""
    number = socket.getsockopt(zmq.TYPE)
    assert isinstance(number, int)
    return zmq.SocketType(number)


def open_port(
    context: zmq.Context[Socket],
    *,
    where: str,
    name: str,
    socket_type: int,
    endpoints: Iterable[Endpoint],
    options: Iterable[tuple[zmq.SocketOption, Value]],
    prepare: Callable[[Socket], None] | None = None,
    when_ended: str = "the engine's context was terminated; make a new Engine",
) -> WorkingPort:
    """A fresh socket with its options set and its endpoints bound and connected; on an error nothing is left open.

    `prepare` is called with the socket before anything is bound or connected. `when_ended` is what the error says if
    the context has ended.

    Raises `EndpointError`, `ConfigError` (an option that libzmq refuses), or `EngineError` if no socket can be had.
    """
    try:
        _check_descriptors()
        socket = context.socket(socket_type)
    except (zmq.ZMQError, OSError) as error:
        why = when_ended if error.errno in _CONTEXT_ENDED else _why_no_socket(context, socket_type, error)
        raise EngineError(f"{where}: cannot open a socket: {why}") from error
    files: list[SocketFile] = []
    try:
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        endpoints, options = tuple(endpoints), tuple(options)
        if any("://[" in endpoint.address for endpoint in endpoints):
            socket.setsockopt(zmq.IPV6, 1)  # libzmq's default is to know no such device as [::1]
        set_options(where, socket, options)
        if prepare is not None:
            prepare(socket)
        # A listener that was handed in as a descriptor is at its path already, and the file is not ours.
        makes_files = dict(options).get(zmq.SocketOption.USE_FD, -1) == -1
        addresses = tuple(_attach(where, socket, endpoint, files if makes_files else None) for endpoint in endpoints)
        return WorkingPort(name, socket, owned=True, endpoints=addresses, files=tuple(files))
    except BaseException:
        for file in files:
            file.remove()
        socket.close(linger=0)
        raise


_CONTEXT_ENDED: Final = (zmq.ETERM, zmq.ENOTSUP, errno.EFAULT)
"""What opening a socket fails with when the context is being terminated (libzmq), was terminated by the same object
(pyzmq), or by another one that shares it (libzmq)."""


def _why_no_socket(context: zmq.Context[Socket], socket_type: int, error: OSError | zmq.ZMQError) -> str:
    if not isinstance(error, zmq.ZMQError):  # _check_descriptors
        return (
            f"{error.strerror}: fewer than {SPARE_DESCRIPTORS} descriptors are left; expected a higher limit "
            f"(ulimit -n){_limits(context, error)}"
        )
    if error.errno == errno.EMFILE:
        return (
            f"too many are open; close some, or set MAX_SOCKETS on the context before its first socket, or raise the "
            f"limit of descriptors (ulimit -n){_limits(context, error)}"
        )
    if error.errno == errno.EINVAL:
        return f"this libzmq ({zmq.zmq_version()}) has no sockets of the type {socket_type!r}"
    return error.strerror or str(error)


def _check_descriptors() -> None:
    """Raise `OSError` (EMFILE) unless there are a few descriptors left: with fewer, libzmq aborts the whole process."""
    spare: list[int] = []
    try:
        for _ in range(SPARE_DESCRIPTORS):
            spare.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in spare:
            os.close(descriptor)


def _attach(where: str, socket: Socket, endpoint: Endpoint, files: list[SocketFile] | None) -> str:
    """Bind or connect; the real address. The file of an `ipc://` path that is bound is added to `files`.

    `files` is None if the path is not bound here but by whoever handed in the descriptor of the listener.
    """
    try:
        if endpoint.bind:
            return _bind(where, socket, endpoint.address, files)
        socket.connect(endpoint.address)
    except zmq.ZMQError as error:
        verb = "bind" if endpoint.bind else "connect"
        hint = _HINTS.get(error.errno or 0, "")
        limits = _limits(socket.context, error)
        failure = EndpointError(f"{where}: {endpoint}: cannot {verb}: {_reason(error)}{hint}{limits}")
        failure.address = endpoint.address
        raise failure from error
    if endpoint.host_name is not None:
        threading.Thread(
            target=_warn_unless_resolved, args=(where, endpoint), name="pollbroker-resolve", daemon=True
        ).start()
    return endpoint.address


def _bind(where: str, socket: Socket, address: str, files: list[SocketFile] | None) -> str:
    directory: Path | None = None
    if files is not None:
        if _is_taken_path(address):
            raise zmq.ZMQError(errno.EADDRINUSE)
        if address == "ipc://*":
            # Without TMPDIR libzmq 4.3.5 would make its directory in the working directory, and give a relative path.
            directory = _make_directory(where)
            address = f"ipc://{directory}/socket"
    try:
        socket.bind(address)
    except BaseException:
        if directory is not None:
            directory.rmdir()
        raise
    path = _path_of(address)
    if files is not None and path is not None:
        with suppress(OSError):  # somebody has removed the file at once
            files.append(SocketFile(path, _identify(path), directory))
    bound = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(bound, bytes)
    return bound.rstrip(b"\0").decode()


def _make_directory(where: str) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="pollbroker-")).absolute()
    except OSError as error:
        raise EndpointError(f"{where}: @ipc://*: cannot make a directory for the socket: {error}") from error


def _path_of(address: str) -> Path | None:
    """Where the file of an `ipc://` address is; None where there is none: an abstract name, or another transport."""
    path = address.removeprefix("ipc://")
    if path == address or path.startswith("@"):
        return None
    return Path(os.fsdecode(path.encode())).absolute()  # UTF-8 to libzmq, whatever the encoding of file names here


_HINTS: Final = {
    errno.ENODEV: " (expected an address or an interface of this machine, or a name that resolves to one)",
    errno.EADDRNOTAVAIL: " (expected an address of this machine)",
    errno.ECONNREFUSED: " (nothing is bound there in this context)",
}


def _is_taken_path(address: str) -> bool:
    """Whether somebody listens at an `ipc://` path: libzmq would take the path away without a word."""
    path = address.removeprefix("ipc://")
    if path in (address, "*"):
        return False
    with net.socket(net.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect("\0" + path[1:] if path.startswith("@") else path)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def _reason(error: zmq.ZMQError) -> str:
    """The error's own words; pyzmq adds the address to some, which the message names already."""
    return (error.strerror or str(error)).split(" (addr=")[0]


def _limits(context: zmq.Context[Socket], error: OSError | zmq.ZMQError) -> str:
    if error.errno != errno.EMFILE:
        return ""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f" (this process may open {descriptors} descriptors, this context {context.get(zmq.MAX_SOCKETS)} sockets)"


def _warn_unless_resolved(where: str, endpoint: Endpoint) -> None:
    """libzmq says nothing of a name that does not resolve: it tries again at each reconnect interval, for ever."""
    assert endpoint.host_name is not None
    try:
        net.getaddrinfo(endpoint.host_name.strip("[]"), None)
    except (OSError, UnicodeError) as error:
        _logger.warning(
            "%s: %s: %s does not resolve (%s); the connection is made once it does",
            where, endpoint, endpoint.host_name, getattr(error, "strerror", None) or error,
        )  # fmt: skip
