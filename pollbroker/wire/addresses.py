"""Addresses of streams: from libzmq's notation (zmq_tcp(7), zmq_ipc(7)) to those of the `socket` module, and back."""

import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

IPC_PATH_MAX_BYTES: Final = 107
"""unix(7): sun_path has 108, with the zero byte at its end."""

_CREDENTIALS: Final = struct.Struct("3i")
"""unix(7): struct ucred."""


@dataclass(frozen=True)
class Address:
    """What a socket is bound or connected to."""

    family: socket.AddressFamily
    sockaddr: Any
    source: Any = None
    """What the socket is bound to before it is connected (`tcp://source;address`), or None."""


def is_numeric(address: str) -> bool:
    """Return True if no name has to be looked up to connect to this address."""
    if not address.startswith("tcp://"):
        return True
    return all(_is_ip(part.rpartition(":")[0]) for part in address.removeprefix("tcp://").split(";"))


def parse_connected(address: str, *, ipv6: bool) -> Address:
    """The address to connect to. Blocks while a name is looked up. Raises `OSError` if it does not resolve."""
    transport, _, rest = address.partition("://")
    if transport == "ipc":
        return _parse_ipc(rest)
    source, _, target = rest.rpartition(";")
    family, sockaddr = _resolve(target, ipv6=ipv6)
    return Address(family, sockaddr, _resolve(source, ipv6=ipv6, passive=True)[1] if source else None)


def parse_bound(address: str, *, ipv6: bool) -> Address:
    """The address to bind. Raises `OSError` if it does not resolve."""
    transport, _, rest = address.partition("://")
    if transport == "ipc":
        return _parse_ipc(rest)
    family, sockaddr = _resolve(rest, ipv6=ipv6, passive=True)
    return Address(family, sockaddr)


def format_bound(bound: socket.socket) -> str:
    """The address that a socket is bound to, in libzmq's notation."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return f"ipc://@{name[1:].decode()}" if isinstance(name, bytes) else f"ipc://{name}"
    host = f"[{name[0]}]" if bound.family == socket.AF_INET6 else name[0]
    return f"tcp://{host}:{name[1]}"


def from_anywhere(address: str) -> str:
    """An address that leads to the same place from each directory. Raises `OSError` if the present one was removed."""
    path = address.removeprefix("ipc://")
    if path == address or path.startswith(("@", "/")):
        return address
    return f"ipc://{os.getcwd()}/{path}"  # noqa: PTH109 - a symbolic link in it is to be left as it is


def describe_peer(descriptor: int) -> str:
    """The address of a connection's other end; of a local one, the process that it belongs to. Nobody else may close
    the descriptor meanwhile."""
    with _borrowed(descriptor) as connection:
        if connection.family == socket.AF_UNIX:
            return f"ipc, process {_credentials(connection)[0]}"
        try:
            host, port = connection.getpeername()[:2]
        except OSError:
            return "tcp, gone"
        return f"tcp://[{host}]:{port}" if connection.family == socket.AF_INET6 else f"tcp://{host}:{port}"


def zap_address(descriptor: int) -> str:
    """Where the other end of a connection is, as libzmq tells an authenticator; empty if it has gone. Nobody else may
    close the descriptor meanwhile."""
    with _borrowed(descriptor) as connection:
        try:
            if connection.family == socket.AF_UNIX:
                process, user, group = _credentials(connection)
                return f"localhost:{user}:{group}:{process}"
            return str(connection.getpeername()[0])
        except OSError:
            return ""


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """As a context: the socket of a descriptor, which stays open. A copy would need another descriptor, and there may
    be none left."""
    connection = socket.socket(fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    """The process, the user and the group of the other end of a local connection."""
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    process, user, group = _CREDENTIALS.unpack(told)
    return process, user, group


def _parse_ipc(path: str) -> Address:
    if path in ("", "@"):  # bind(2) would choose an abstract name
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if len(os.fsencode(path)) > IPC_PATH_MAX_BYTES:
        raise OSError(
            errno.ENAMETOOLONG, f'ipc path "{path}" is longer than {IPC_PATH_MAX_BYTES} bytes (sockaddr_un.sun_path)'
        )
    return Address(socket.AF_UNIX, b"\0" + path[1:].encode() if path.startswith("@") else path)


@lru_cache
def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host == "*"
    return True


def _resolve(text: str, *, ipv6: bool, passive: bool = False) -> tuple[socket.AddressFamily, Any]:
    host, _, port = text.rpartition(":")
    bare = host.strip("[]")
    number = 0 if port in ("*", "") else int(port)
    if bare == "*":
        return (socket.AF_INET6, ("::", number)) if ipv6 else (socket.AF_INET, ("0.0.0.0", number))
    if passive and not _is_ip(bare) and bare in {name for _, name in socket.if_nameindex()}:
        return socket.AF_INET, (_address_of_interface(bare), number)
    if not ipv6 and _is_ip(bare) and ":" not in bare:
        return socket.AF_INET, (bare, number)  # the resolver would say the same, and takes longer than bind(2)
    family = socket.AF_UNSPEC if ipv6 else socket.AF_INET
    found = socket.getaddrinfo(bare, number, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE if passive else 0)
    return found[0][0], found[0][4]


def _address_of_interface(name: str) -> str:
    """The first IPv4 address of an interface, such as `lo` (netdevice(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
    return socket.inet_ntoa(answer[20:24])
