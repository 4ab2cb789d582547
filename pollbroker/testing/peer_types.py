"""The socket types of peers: which may connect to each port of a device, and which devices the kit can judge.

A device may have any number of ports, with any names. Only the first socket type of a port is tested.
"""

from functools import lru_cache
from typing import Final

from zmq import SocketType

from pollbroker.device import Device
from pollbroker.errors import DeviceError

_T = SocketType

INITIATORS: Final[dict[SocketType, tuple[SocketType, ...]]] = {
    _T.ROUTER: (_T.DEALER, _T.REQ),
    _T.DEALER: (_T.DEALER,),
    _T.PULL: (_T.PUSH,),
    _T.PUSH: (_T.PULL,),
    _T.SUB: (_T.PUB, _T.XPUB),
    _T.XSUB: (_T.XPUB, _T.PUB),
    _T.PUB: (_T.SUB,),
    _T.XPUB: (_T.SUB,),
    _T.PAIR: (_T.PAIR,),
}
"""The socket types that may connect to a port of each type."""

WORKERS: Final = INITIATORS | {_T.DEALER: (_T.DEALER, _T.REP)}
"""The socket types that may connect to a port to which only ROUTERs give."""

LINKS: Final = {
    (_T.DEALER, _T.ROUTER),
    (_T.PUSH, _T.PULL),
    (_T.XPUB, _T.XSUB),
    (_T.PUB, _T.SUB),
    (_T.PAIR, _T.PAIR),
    (_T.DEALER, _T.DEALER),
}
"""The pairs of a backend and a frontend that can be chained."""

PUBLISHERS: Final = frozenset({_T.PUB, _T.XPUB})

ALONE: Final = frozenset({_T.PAIR})
"""The socket types that have one peer only."""


def type_of(device: Device, port: str) -> SocketType:
    """The socket type that the kit puts at a port: the first of those that may stand there."""
    return device.types_of(port)[0]


def has_usual_ports(device: Device) -> bool:
    """Return True if the device has a frontend, and no other port but a backend."""
    return "frontend" in device.ports and set(device.ports) <= {"frontend", "backend"}


def has_handler(device: Device) -> bool:
    """Return True if a route of the device has a handler."""
    return any(route.via is not None for route in device.routes)


def peer_types(device: Device, port: str) -> tuple[SocketType, ...]:
    """The socket types that may connect to a port of a device, the plainest first.

    A REQ reads nothing but the reply to its request, and a REP answers only what has an envelope. So they are left out
    if a handler may change messages. A REQ is left out too if something else than one reply may come to it, and a REP
    if something else than requests may.
    """
    sinks_by_source = {route.source: route.sinks for route in device.routes}
    sources = [source for source, sinks in sinks_by_source.items() if port in sinks]
    asks = port not in sources and all(sinks_by_source.get(port) == (source,) for source in sources)
    answers = port in sinks_by_source and sources and all(type_of(device, one) is _T.ROUTER for one in sources)
    types = (WORKERS if answers else INITIATORS)[type_of(device, port)]
    left_out = {
        _T.REQ: has_handler(device) or not asks,
        _T.REP: has_handler(device),
    }
    return tuple(one for one in types if not left_out.get(one))


@lru_cache(maxsize=64)
def check_can_be_judged(device: Device) -> None:
    """Raise `DeviceError` if the kit cannot judge a broker of this device."""
    if device.behaviour is not None:
        raise DeviceError(
            f"device {device.name}: it has a behaviour; expected one without, since this tests what routes do; for one "
            "with a behaviour there are `check_device`, `check_behaviour_seed` and `check_behaviour`"
        )
    where = f"device {device.name}"
    for port in device.ports:
        kind = type_of(device, port)
        if kind not in INITIATORS:
            expected = ", ".join(sorted(one.name for one in INITIATORS))
            found = f"the test kit has no peers for a {kind.name}"
            raise DeviceError(f"{where}: {port}: {found}; expected one of {expected}")
        if kind is _T.SUB and not _subscribes(device, port):
            raise DeviceError(
                f"{where}: {port}: this SUB subscribes to nothing, so no message would be tested; expected "
                f"options={{{port!r}: {{'subscribe': ...}}}}"
            )
        if kind is _T.XSUB and not any(port in route.sinks for route in device.routes):
            raise DeviceError(
                f"{where}: {port}: no route brings subscriptions to this XSUB, so no message would be tested; expected "
                "a route from an XPUB, or a SUB with the option 'subscribe'"
            )
    for route in device.routes:
        if route.awaits:
            raise DeviceError(
                f"{where}: {route}: a coroutine handler runs on an event loop, which the simulation does not have; "
                "expected a function or a generator function"
            )
        for sink in route.sinks:
            if (type_of(device, route.source) is _T.XPUB) != (type_of(device, sink) is _T.XSUB):
                raise DeviceError(
                    f"{where}: {route}: subscriptions come from an XPUB, and the test kit can judge them only on their "
                    f"way to an XSUB; found {type_of(device, route.source).name} to {type_of(device, sink).name}"
                )


def _subscribes(device: Device, port: str) -> bool:
    """Return True if the device itself has the SUB at this port subscribe to something."""
    topics = {name.lower(): value for name, value in device.options_of(port).items()}.get("subscribe", ())
    return isinstance(topics, (bytes, str)) or bool(topics)  # an empty topic is a subscription to everything
