"""Binding a socket that is to listen, and looking whether that would be possible."""

import errno
import os
import socket
from collections.abc import Iterable
from itertools import dropwhile
from typing import Final, Protocol, TypeVar

from pollbroker.socket_files import is_taken_path, path_of, what_is_in_the_way
from pollbroker.wire.addresses import parse_bound

_ENTERED_AND_WRITTEN: Final = os.X_OK | os.W_OK


def why_not(address: str, *, ipv6: bool) -> str | None:
    """Why no socket could listen at an address of tcp or ipc; None if one could.

    The address is not taken, not even for a moment: another daemon that has begun at the same time may need it.
    """
    try:
        if is_taken_path(address):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        if address.startswith("tcp://"):
            bound_socket(address, ipv6=ipv6).close()  # others can bind it, too, since it does not listen
        elif (path := path_of(address)) is not None and not os.access(path.parent, _ENTERED_AND_WRITTEN):
            path.parent.stat()
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        return describe_refusal(address, error)
    return None


class _HasAddress(Protocol):
    @property
    def address(self) -> str: ...


T = TypeVar("T", bound=_HasAddress)


def not_tried(ones: Iterable[T], failed: str | None) -> list[T]:
    """What comes after the address that could not be bound, of those that are bound in this order."""
    return list(dropwhile(lambda one: one.address != failed, ones))[1:]


def describe_refusal(address: str, error: OSError) -> str:
    """Say why nobody can listen at an address."""
    return f"{error.strerror or error}{what_is_in_the_way(address)}"


def bound_socket(address: str, *, ipv6: bool) -> socket.socket:
    """A socket that is bound to an address of tcp or ipc, and does not listen yet. Raises `OSError`."""
    parsed = parse_bound(address, ipv6=ipv6)
    made = socket.socket(parsed.family, socket.SOCK_STREAM)
    try:
        if parsed.family != socket.AF_UNIX:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if parsed.family == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(parsed.sockaddr)
    except BaseException:
        made.close()
        raise
    return made
