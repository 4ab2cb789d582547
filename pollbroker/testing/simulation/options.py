"""Socket options: which ones the simulation has, for which socket types, and their defaults.

Only those in `_ONLY_FOR` and those that `socket.py` names have an effect. The values of the others are only stored.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, overload

import zmq
from zmq import SocketOption, SocketType

if TYPE_CHECKING:
    from pollbroker.testing.simulation.socket import SimSocket

DEFAULTS: Final[Mapping[int, int | bytes]] = {
    SocketOption.SNDHWM: 1000,
    SocketOption.RCVHWM: 1000,
    SocketOption.SNDTIMEO: -1,
    SocketOption.RCVTIMEO: -1,
    SocketOption.LINGER: -1,
    SocketOption.MAXMSGSIZE: -1,
    SocketOption.ROUTING_ID: b"",
}
"""The defaults of the options that are not 0."""

_PUBLISHERS: Final = frozenset({SocketType.PUB, SocketType.XPUB})
_ROUTERS: Final = frozenset({SocketType.ROUTER, SocketType.REP})

_ONLY_FOR: Final[Mapping[int, frozenset[SocketType]]] = {
    SocketOption.SUBSCRIBE: frozenset({SocketType.SUB}),
    SocketOption.UNSUBSCRIBE: frozenset({SocketType.SUB}),
    SocketOption.XPUB_NODROP: _PUBLISHERS,
    SocketOption.XPUB_VERBOSE: _PUBLISHERS,
    SocketOption.XPUB_VERBOSER: _PUBLISHERS,
    SocketOption.ROUTER_MANDATORY: _ROUTERS,
    SocketOption.ROUTER_HANDOVER: _ROUTERS,
}

_NOT_SETTABLE: Final = frozenset(
    {SocketOption.FD, SocketOption.EVENTS, SocketOption.TYPE, SocketOption.RCVMORE, SocketOption.LAST_ENDPOINT}
)

_NOT_MODELLED: Final = frozenset(
    {
        SocketOption.CONFLATE,
        SocketOption.CONNECT_ROUTING_ID,
        SocketOption.INVERT_MATCHING,
        SocketOption.PROBE_ROUTER,
        SocketOption.REQ_CORRELATE,
        SocketOption.REQ_RELAXED,
        SocketOption.XPUB_MANUAL,
        SocketOption.XPUB_WELCOME_MSG,
    }
)
"""Options that would have to have an effect. They raise, so that nobody believes that they work."""


def check_option(socket_type: SocketType, option: int, value: int | bytes) -> None:
    """Raise `zmq.ZMQError` (EINVAL) where libzmq does, and `NotImplementedError` for what is not simulated."""
    if option in _NOT_MODELLED:
        raise NotImplementedError(f"the simulation has no {SocketOption(option).name}")
    refused = option in _NOT_SETTABLE or socket_type not in _ONLY_FOR.get(option, (socket_type,))
    if option in (SocketOption.SNDHWM, SocketOption.RCVHWM):
        refused = not isinstance(value, int) or value < 0
    elif option == SocketOption.ROUTING_ID:
        refused = not isinstance(value, bytes) or not 0 < len(value) < 256
    if refused:
        raise zmq.ZMQError(zmq.EINVAL)


class Option:
    """An option as an attribute."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    @overload
    def __get__(self, socket: None, owner: type) -> "Option": ...

    @overload
    def __get__(self, socket: "SimSocket", owner: type) -> Any: ...

    def __get__(self, socket: "SimSocket | None", owner: type) -> Any:
        return self if socket is None else socket.getsockopt(self._number)

    def __set__(self, socket: "SimSocket", value: Any) -> None:
        socket.setsockopt(self._number, value)
