"""Which ports are the wire's, and which are sockets of libzmq.

The wire speaks ZMTP itself, in the engine's thread. It serves what `pollbroker.wire.served` lists; for everything else,
and for registered sockets, there is libzmq.
"""

import os
from collections.abc import Iterable
from typing import Final

from zmq import SocketOption, SocketType

from pollbroker.endpoint import Endpoint
from pollbroker.errors import ConfigError
from pollbroker.options import check_fit
from pollbroker.wire.served import OPTIONS, TRANSPORTS, TYPES, why_not_built

LIBZMQ: Final = "libzmq"
WIRE: Final = "wire"
AUTO: Final = "auto"

_SERVED: Final = frozenset(int(option) for option in SocketOption if option.name.lower() in OPTIONS)
"""The options that the wire serves, by libzmq's numbers."""

AUTO_PREFERS = WIRE
"""What `auto` means for a port that both can serve."""


def choose_transport(where: str, name: str | None) -> str:
    """`auto`, `wire` or `libzmq`: what is asked for, or else what POLLBROKER_TRANSPORT says, or else `auto`.

    Raises `ConfigError` for another name.
    """
    place = f"{where}: transport" if name else "POLLBROKER_TRANSPORT"
    name = name or os.environ.get("POLLBROKER_TRANSPORT") or AUTO
    if name not in (AUTO, WIRE, LIBZMQ):
        raise ConfigError(f"{place}: {name!r}: expected 'auto', 'wire' or 'libzmq'")
    return name


def transport_of_port(
    where: str,
    asked_for: str,
    socket_type: int,
    endpoints: Iterable[Endpoint],
    options: Iterable[tuple[SocketOption, object]],
    wanted: str | None = None,
) -> str:
    """`wire` or `libzmq`, for one port. Raises `ConfigError` if the wire was asked for and cannot serve it, or if an
    option does not fit the type of the socket. (At ports that only libzmq may serve, libzmq says so.)

    `wanted` is what was asked for that only the wire has, or None.
    """
    if asked_for == LIBZMQ:
        if wanted is not None:
            raise ConfigError(f"{where}: transport 'libzmq': it has no {wanted}; expected 'auto' or 'wire'")
        return LIBZMQ
    if asked_for == AUTO and AUTO_PREFERS == LIBZMQ and wanted is None:
        return LIBZMQ
    options = tuple(options)
    check_fit(where, socket_type, options)
    why = why_libzmq(socket_type, endpoints, options)
    if why is None:
        return WIRE
    if wanted is not None:
        raise ConfigError(f"{where}: {wanted}: only the wire has this, and cannot serve the port: {why}")
    if asked_for == WIRE:
        raise ConfigError(f"{where}: transport 'wire': {why}; expected 'auto' or 'libzmq'")
    return LIBZMQ


def why_libzmq(
    socket_type: int, endpoints: Iterable[Endpoint], options: Iterable[tuple[SocketOption, object]]
) -> str | None:
    """Why the wire cannot serve a port; None if it can."""
    why = why_not_built()
    if why is not None:
        return why
    if socket_type not in TYPES:
        return f"the wire has no sockets of the type {SocketType(socket_type).name}"
    for endpoint in endpoints:
        transport = endpoint.address.partition("://")[0]
        if transport not in TRANSPORTS:
            return f"the wire has no endpoints of {transport}://"
    for option, _ in options:
        if int(option) not in _SERVED:
            return f"the wire has no option {option.name.lower()}"
    return None
