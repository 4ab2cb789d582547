"""Sockets that the service manager has opened and listens at (socket activation: sd_listen_fds(3)).

Since the service manager keeps them, the kernel queues connections while the daemon is down, and they are served when
it is back. A port whose address equals that of such a socket accepts from it, instead of binding the address itself.
"""

import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pollbroker.wire.addresses import format_bound, parse_bound

_logger = logging.getLogger("pollbroker.daemon")

_FIRST: Final = 3
"""SD_LISTEN_FDS_START."""

_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


@dataclass
class _Inherited:
    socket: socket.socket
    name: str
    wanted: bool = False

    def __str__(self) -> str:
        return f"{self.name!r} ({format_bound(self.socket)})"


class InheritedSockets:
    """The sockets of the service manager. They stay open until `close`, so that a broker that a reload has removed can
    come back to its address."""

    def __init__(self, sockets: Iterable[tuple[socket.socket, str]] = ()) -> None:
        self._sockets = [_Inherited(*one) for one in sockets]

    @classmethod
    def of_environment(cls, environment: MutableMapping[str, str]) -> "InheritedSockets":
        """Those that the environment tells of. The variables are removed, so that no child takes them for its own.

        What is not a socket that listens, of tcp or of ipc, is closed, with a warning.
        """
        pid, count, names = (environment.pop(name, "") for name in _VARIABLES)
        if pid != str(os.getpid()) or not count:
            return cls()
        if not count.isascii() or not count.isdigit():
            _logger.warning("LISTEN_FDS is %r; expected a number of sockets", count)
            return cls()
        named = names.split(":") if names else []
        found = []
        for number in range(int(count)):
            name = named[number] if number < len(named) else f"number {number}"
            made = _listening(_FIRST + number, name)
            if made is not None:
                found.append((made, name))
        return cls(found)

    def describe(self) -> list[tuple[dict[str, object], int]]:
        """Each as another daemon needs it: an object of JSON, and its descriptor, which stays open here."""
        return [({"name": one.name}, one.socket.fileno()) for one in self._sockets]

    def take_described(self, described: Mapping[str, Any], descriptors: Sequence[int]) -> None:
        """Take a socket that another daemon has described. Its descriptor belongs to these from now on. That daemon had
        a port for it, so that it stays open until `close`."""
        taken = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        self._sockets += [_Inherited(one, str(described.get("name")), wanted=True) for one in taken]

    def move_to(self, others: "InheritedSockets") -> None:
        """Give all of these to others."""
        others._sockets += self._sockets
        self._sockets.clear()

    def take(self, address: str, *, ipv6: bool) -> socket.socket | None:
        """A copy of the socket that listens at an address, which the caller closes; None if there is none. Raises
        `OSError` if the address does not resolve."""
        if not self._sockets:
            return None
        parsed = parse_bound(address, ipv6=ipv6)
        for one in self._sockets:
            if _is_same(one.socket, parsed.family, parsed.sockaddr):
                one.wanted = True
                return one.socket.dup()
        return None

    def descriptors(self) -> set[int]:
        """Those of all that are open."""
        return {one.socket.fileno() for one in self._sockets}

    def close_unwanted(self) -> None:
        """Close those that no port has taken, with a warning for each."""
        for one in [one for one in self._sockets if not one.wanted]:
            _logger.warning("the inherited socket %s is closed: it is not the one address of any port", one)
            one.socket.close()
            self._sockets.remove(one)

    def close(self) -> None:
        """Close all. The service manager has its own copies."""
        for one in self._sockets:
            one.socket.close()
        self._sockets.clear()


def _listening(descriptor: int, name: str) -> socket.socket | None:
    try:
        os.set_inheritable(descriptor, False)
        made = socket.socket(fileno=descriptor)
    except OSError as error:
        if error.errno == errno.ENOTSOCK:
            os.close(descriptor)
        _logger.warning("the inherited descriptor %d (%r) is not a socket: %s", descriptor, name, error.strerror)
        return None
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if (
        made.family not in families
        or made.type != socket.SOCK_STREAM
        or not made.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        _logger.warning("the inherited socket %r is closed: it does not listen for streams of tcp or ipc", name)
        made.close()
        return None
    made.setblocking(False)  # two brokers may accept from it for a moment: see `listeners.py`
    return made


def _is_same(bound: socket.socket, family: int, sockaddr: Any) -> bool:
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX or family == socket.AF_UNIX:
        return bound.family == family and _path(name) == _path(sockaddr)
    return name[1] == sockaddr[1] != 0 and _host(name[0]) == _host(sockaddr[0])


def _path(name: str | bytes) -> str | bytes:
    """A path, absolute; or an abstract name, which is bytes."""
    return name if isinstance(name, bytes) else os.path.abspath(name)  # noqa: PTH100 - links are left as they are


def _host(text: str) -> object:
    """An address of a machine. Every address of IPv4 and every address of IPv6 count as one: a unit that listens at a
    port alone listens at both, and is meant for `tcp://*:port`."""
    ip = ipaddress.ip_address(text.partition("%")[0])
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return "*" if ip.is_unspecified else ip
