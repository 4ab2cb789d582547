"""Opening a socket: its options are set, then its endpoints are bound and connected.

libzmq's errors say little, and some it does not report at all. This room looks first for what libzmq would do wrong in
silence, and adds to each error what the user can do about it.
"""

import errno
import logging
import os
import resource
import socket as net
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import zmq

from pollbroker.descriptors import SPARE_DESCRIPTORS, check_descriptors
from pollbroker.endpoint import Endpoint
from pollbroker.errors import EndpointError, EngineError
from pollbroker.options import Value, set_options
from pollbroker.port import WorkingPort
from pollbroker.pump import Socket
from pollbroker.socket_files import (
    SocketFile,
    binding_alone,
    is_taken_path,
    make_directory,
    path_of,
    what_is_in_the_way,
)

_logger = logging.getLogger("pollbroker")

LINGER_MS: Final = 1000
"""How long a socket of the engine's goes on sending, once closed, the messages that it had accepted. With libzmq's
default, for ever, `Context.term()` could wait without end. The option `linger` overrides this."""

_CONTEXT_ENDED: Final = (zmq.ETERM, zmq.ENOTSUP, errno.EFAULT)
"""The errors of opening a socket when its context is being terminated (libzmq), was terminated by the same object
(pyzmq), or was terminated by another object that shares it (libzmq)."""

_HINTS: Final = {
    errno.ENODEV: " (expected an address or an interface of this machine, or a name that resolves to one)",
    errno.EADDRNOTAVAIL: " (expected an address of this machine)",
    errno.ECONNREFUSED: " (nothing is bound there in this context)",
}


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
    """Open a socket, set its options, and bind and connect its endpoints. After an error nothing is left open.

    `prepare` is called with the socket before anything is bound or connected. `when_ended` is what the error says if
    the context has ended.

    Raises `EndpointError`, `ConfigError` (an option that libzmq refuses), or `EngineError` if no socket can be opened.
    """
    try:
        check_descriptors()
        socket = _open(context, socket_type)
    except (zmq.ZMQError, OSError) as error:
        why = when_ended if error.errno in _CONTEXT_ENDED else _why_no_socket(context, socket_type, error)
        raise EngineError(f"{where}: cannot open a socket: {why}") from error
    files: list[SocketFile] = []
    try:
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        endpoints, options = tuple(endpoints), tuple(options)
        if any("://[" in endpoint.address for endpoint in endpoints):
            socket.setsockopt(zmq.IPV6, 1)  # without it libzmq says of [::1] that there is no such device
        set_options(where, socket, options)
        if prepare is not None:
            prepare(socket)
        # A listener whose descriptor is given (USE_FD) is bound already, and its file is not the engine's to remove.
        makes_files = dict(options).get(zmq.SocketOption.USE_FD, -1) == -1
        addresses = tuple(
            _bind_or_connect(where, socket, endpoint, files if makes_files else None) for endpoint in endpoints
        )
        asked_for = tuple(map(str, endpoints))
        return WorkingPort(name, socket, owned=True, endpoints=addresses, files=tuple(files), asked_for=asked_for)
    except BaseException:
        for file in files:
            file.remove()
        socket.close(linger=0)
        raise


def _open(context: zmq.Context[Socket], socket_type: int) -> Socket:
    """Open a socket.

    pyzmq 27 reads the errno of a call that failed only while it makes the exception. If the garbage collector runs
    before, and frees a socket that was closed in C, the errno is ENOTSOCK, with which zmq_socket(3) never fails.
    """
    try:
        return context.socket(socket_type)
    except zmq.ZMQError as error:
        if error.errno != zmq.ENOTSOCK:
            raise
        return context.socket(socket_type)


def _why_no_socket(context: zmq.Context[Socket], socket_type: int, error: OSError | zmq.ZMQError) -> str:
    if not isinstance(error, zmq.ZMQError):  # check_descriptors
        return (
            f"{error.strerror}: fewer than {SPARE_DESCRIPTORS} descriptors are left; expected a higher limit "
            f"(ulimit -n){_describe_limits(context, error)}"
        )
    if error.errno == errno.EMFILE:
        return (
            f"too many are open; close some, or set MAX_SOCKETS on the context before its first socket, or raise the "
            f"limit of descriptors (ulimit -n){_describe_limits(context, error)}"
        )
    if error.errno == errno.EINVAL:
        return f"this libzmq ({zmq.zmq_version()}) has no sockets of the type {socket_type!r}"
    return error.strerror or str(error)


def _bind_or_connect(where: str, socket: Socket, endpoint: Endpoint, files: list[SocketFile] | None) -> str:
    """Bind or connect, and return the real address. The file of an `ipc://` path that is bound is added to `files`.

    `files` is None if the descriptor of a listener was given, since the path was bound with that.
    """
    try:
        if endpoint.bind:
            return _bind(where, socket, endpoint.address, files)
        socket.connect(endpoint.address)
    except zmq.ZMQError as error:
        verb = "bind" if endpoint.bind else "connect"
        hint = _HINTS.get(error.errno or 0, "")
        if error.errno == errno.EADDRINUSE:
            hint = what_is_in_the_way(endpoint.address)
        limits = _describe_limits(socket.context, error)
        failure = EndpointError(f"{where}: {endpoint}: cannot {verb}: {_reason(error)}{hint}{limits}")
        failure.address = endpoint.address
        raise failure from error
    if endpoint.host_name is not None:
        threading.Thread(
            target=_warn_unless_resolved, args=(where, endpoint), name="pollbroker-resolve", daemon=True
        ).start()
    return endpoint.address


def _bind(where: str, socket: Socket, address: str, files: list[SocketFile] | None) -> str:
    if files is None:
        return _bound(where, socket, address, None)
    with binding_alone(address):
        if is_taken_path(address):
            raise zmq.ZMQError(errno.EADDRINUSE)
        return _bound(where, socket, address, files)


def _bound(where: str, socket: Socket, address: str, files: list[SocketFile] | None) -> str:
    directory: Path | None = None
    if files is not None and address == "ipc://*":
        # Without TMPDIR libzmq 4.3.5 would make its directory in the working directory, and give a relative path.
        directory = make_directory(where)
        address = f"ipc://{directory}/socket"
    try:
        if files is None:
            _bind_copy(socket, address)
        else:
            socket.bind(address)
    except BaseException:
        if directory is not None:
            directory.rmdir()
        raise
    path = None if files is None else path_of(address)
    if files is not None and path is not None:
        with suppress(OSError):  # another program has removed the file at once
            files.append(SocketFile.at(path, directory))
    bound = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(bound, bytes)
    return bound.rstrip(b"\0").decode()


COPIES_AT_LIBZMQ: Final[set[int]] = set()
"""The descriptors that libzmq was given as copies of listeners. It closes them some time after the socket that is bound
by them, so that one of these numbers may be of something else by now."""


def _bind_copy(socket: Socket, address: str) -> None:
    """Bind a socket to which the descriptor of a listener was given, by a copy of it. libzmq closes the one that it is
    bound by. A port of the wire makes its own copy."""
    if hasattr(socket, "wire_port"):
        socket.bind(address)
        return
    given = socket.getsockopt(zmq.USE_FD)
    assert isinstance(given, int)
    try:
        copy = os.dup(given)
    except OSError as error:
        raise zmq.ZMQError(error.errno) from error
    if not _listens(copy, is_ipc=address.startswith("ipc:")):
        os.close(copy)
        raise zmq.ZMQError(zmq.EINVAL, "the socket of use_fd does not listen at an address of this kind")
    socket.setsockopt(zmq.USE_FD, copy)
    COPIES_AT_LIBZMQ.add(copy)
    try:
        socket.bind(address)
    except BaseException:
        os.close(copy)  # libzmq fails before it looks at the descriptor
        raise
    finally:
        socket.setsockopt(zmq.USE_FD, given)


def _listens(descriptor: int, *, is_ipc: bool) -> bool:
    """Return True if a socket listens, for peers of ipc or of tcp. libzmq aborts the process if it does not."""
    given = net.socket(fileno=descriptor)
    try:
        return (given.family == net.AF_UNIX) == is_ipc and bool(given.getsockopt(net.SOL_SOCKET, net.SO_ACCEPTCONN))
    finally:
        given.detach()  # it stays open


def _reason(error: zmq.ZMQError) -> str:
    """What the error itself says. pyzmq adds the address to some errors, and the message names the address already."""
    return (error.strerror or str(error)).split(" (addr=")[0]


def _describe_limits(context: zmq.Context[Socket], error: OSError | zmq.ZMQError) -> str:
    if error.errno != errno.EMFILE:
        return ""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f" (this process may open {descriptors} descriptors, this context {context.get(zmq.MAX_SOCKETS)} sockets)"


def _warn_unless_resolved(where: str, endpoint: Endpoint) -> None:
    """Log a warning if a name does not resolve. libzmq says nothing then: it tries again at each reconnect interval."""
    assert endpoint.host_name is not None
    try:
        net.getaddrinfo(endpoint.host_name.strip("[]"), None)
    except OSError as error:
        _logger.warning(
            "%s: %s: %s does not resolve (%s); the connection is made once it does",
            where, endpoint, endpoint.host_name, error.strerror or error,
        )  # fmt: skip
