"""The devices that ship with pollbroker, and how the engine finds a device by its name or by socket types.

The table `DEVICES` has the devices by name. Programs may add their own to it, or give a `Device` to the engine.
"""

from collections.abc import Sequence
from typing import Final

import zmq
from zmq import SocketType

from pollbroker.device import RECEIVES, SENDS, Device, Route, check_usable
from pollbroker.errors import DeviceError, did_you_mean
from pollbroker.patterns import BALANCER, CLONE, LAST_VALUE, MAJORDOMO, PARANOID_PIRATE, SHARDER, TITANIC
from pollbroker.pump import SUBSCRIPTION_MAX_BYTES

_TO_BACKEND: Final = Route("frontend", "backend")
_TO_FRONTEND: Final = Route("backend", "frontend")

QUEUE: Final = Device(
    "queue",
    zmq.ROUTER,
    zmq.DEALER,
    (_TO_BACKEND, _TO_FRONTEND),
    # Without this option libzmq drops replies to clients that have left or are slow, and does not report it.
    frontend_options={"router_mandatory": 1},
)
"""Requests to workers, replies to their requesters (ROUTER, DEALER)."""

FORWARDER: Final = Device(
    "forwarder",
    zmq.XSUB,
    zmq.XPUB,
    (_TO_BACKEND, _TO_FRONTEND),
    # The backend receives subscriptions. A subscription that is too long would be dropped before it reaches the XSUB.
    # With this limit libzmq closes the connection of the peer that sends it, and does not store the subscription.
    backend_options={"maxmsgsize": SUBSCRIPTION_MAX_BYTES},
)
"""Publishers to subscribers (XSUB, XPUB). Subscriptions are passed on to the publishers, so that they send only what
some subscriber wants. A subscription of more than 4,096 bytes is not passed on: the connection of the peer that sent it
is closed at once. At an XPUB that you register yourself, it is dropped (counted as `long_subscription`)."""

FILTER: Final = Device("filter", zmq.SUB, zmq.PUB, (_TO_BACKEND,), frontend_options={"subscribe": b""})
"""Publishers to subscribers, by a fixed list of topic prefixes: `frontend_options={"subscribe": [b"a", b"b"]}`."""

STREAMER: Final = Device("streamer", zmq.PULL, zmq.PUSH, (_TO_BACKEND,))
"""Pushers to pullers (PULL, PUSH)."""

REFLECTOR: Final = Device(
    "reflector",
    (zmq.ROUTER, zmq.DEALER, zmq.PAIR, zmq.REP),
    None,
    (Route("frontend", "frontend"),),
    frontend_options={"router_mandatory": 1},
)
"""One socket (ROUTER, DEALER, PAIR or REP): each message goes back to the peer that sent it."""

DEVICES: Final[dict[str, Device]] = {
    device.name: device
    for device in (
        QUEUE,
        FORWARDER,
        FILTER,
        STREAMER,
        REFLECTOR,
        BALANCER,
        SHARDER,
        PARANOID_PIRATE,
        MAJORDOMO,
        TITANIC,
        LAST_VALUE,
        CLONE,
    )
}
"""The table of device definitions, by name. Programs may add their own."""


def find_device(device: Device | str) -> Device:
    """The device itself, or the device of that name in `DEVICES`. Raises `DeviceError` if there is none.

    In a name upper and lower case mean the same, and so do `-` and `_`.
    """
    if isinstance(device, Device):
        return device
    try:
        name = device.lower()
        return DEVICES[name if name in DEVICES else name.replace("-", "_")]
    except (KeyError, AttributeError, TypeError):
        known = ", ".join(sorted(DEVICES))
        near = did_you_mean(device, DEVICES) if isinstance(device, str) else None
        raise DeviceError(f"{device!r} is not a device; expected a Device or one of: {known}{near or ''}") from None


def guess_device(where: str | None, types: Sequence[SocketType]) -> Device:
    """The device that does what libzmq's proxy does between two sockets of these types.

    Messages go from each socket that can receive to the other, if that can send. The device is one of `DEVICES` if one
    of them has these types and routes, and otherwise a new device named `proxy`. With one type the device has one port,
    `frontend`, and sends back what it receives there.

    A REQ or REP socket alternates between sending and receiving, and the flows wait for its turns.

    Raises `DeviceError`, which begins with `where` if there is one, if no message could pass, and for a type of socket
    that no broker can have, such as STREAM.
    """
    ports = dict(zip(("frontend", "backend"), types, strict=False))
    for port, socket_type in ports.items():
        check_usable(port if where is None else f"{where}.{port}", socket_type)
    opposite = dict(zip(ports, reversed(ports), strict=True))
    routes = tuple(
        Route(source, sink) for source, sink in opposite.items() if ports[source] in RECEIVES and ports[sink] in SENDS
    )
    if not routes:
        place = "" if where is None else f"{where}: "
        raise DeviceError(
            f"{place}nothing can pass between sockets of the types {' and '.join(t.name for t in types)}; "
            "expected one that receives and one that sends, such as ROUTER and DEALER, or PULL and PUSH"
        )
    for device in DEVICES.values():
        fits = list(device.ports) == list(ports) and all(ports[port] in device.ports[port] for port in ports)
        if fits and device.routes == routes:
            return device
    return Device("proxy", ports=ports, routes=routes)
