"""Devices: what stands at the frontend and the backend, and which routes run between them.

A `Device` is a definition, immutable, and can be used by any number of brokers. The well-known ones stand in the table
`DEVICES` by name; add your own to the table, or pass them to the engine as they are. To change one, such as a QUEUE
with a handler, `dataclasses.replace(QUEUE, name=..., routes=...)` keeps what it knows: its socket options among them.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import zmq
from zmq import SocketType

from pollbroker.errors import DeviceError, did_you_mean
from pollbroker.frozen import FrozenDict
from pollbroker.pump import MAXFRAMES, SUBSCRIPTION_MAX_BYTES, Handler

PortName: TypeAlias = Literal["frontend", "backend"]
SocketTypes: TypeAlias = SocketType | Iterable[SocketType]
OptionValue: TypeAlias = int | bytes | str | Iterable[bytes | str]
Options: TypeAlias = Mapping[str, OptionValue]

_BOTH_WAYS: Final = frozenset({zmq.ROUTER, zmq.DEALER, zmq.REQ, zmq.REP, zmq.XSUB, zmq.XPUB, zmq.PAIR})
_RECEIVES: Final = _BOTH_WAYS | {zmq.PULL, zmq.SUB}
_SENDS: Final = _BOTH_WAYS | {zmq.PUSH, zmq.PUB}

CAPTURE_TYPES: Final = (zmq.PUB, zmq.PUSH, zmq.DEALER, zmq.PAIR)
"""What may stand at a capture port, as for libzmq's own proxy (zmq_proxy(3))."""


@dataclass(frozen=True)
class Route:
    """One direction of a device: messages go from the port `source` to the port `sink`.

    With `via`, each message passes through a handler, which is given its frames (`list[bytes]`: from a ROUTER, the
    routing id first) and returns the message to send, or None to drop it; a generator function yields any number.
    """

    source: PortName
    sink: PortName
    via: Handler | None = None


@dataclass(frozen=True)
class Device:
    """A device definition.

    Arguments:
        name: what statistics and errors call it.
        frontend, backend: the socket type of each port, or several types, of which `Engine.add` opens the first and
            `Engine.register` accepts any. A backend of None makes a device with one socket, whose routes run from
            "frontend" to "frontend".
        routes: the directions. A port is the source of one route at most: who reads a socket reads all of it.
        frontend_options, backend_options: socket options by name that `Engine.add` sets unless told otherwise.
        slow_peer: what happens to a message whose one receiver, at a ROUTER sink, is full while others are not:
            "drop" it (counted), or "wait" (and let those behind it wait too).
        maxframes: the most frames of a message. One that has more is dropped (counted as `too_many_frames`), so that no
            message of a peer holds up the other brokers and control. How large a frame may be, the socket option
            `maxmsgsize` says.

    Raises `DeviceError` if the definition is unsound.
    """

    name: str
    frontend: SocketTypes
    backend: SocketTypes | None
    routes: Sequence[Route]
    frontend_options: Options = field(default_factory=dict, hash=False)
    backend_options: Options = field(default_factory=dict, hash=False)
    slow_peer: Literal["drop", "wait"] = "drop"
    maxframes: int = MAXFRAMES

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise DeviceError(f"device {self.name!r}: its name must be a non-empty string")
        put = object.__setattr__  # normalise once, so that everything behind this line can rely on the shapes
        put(self, "frontend", self._as_types("frontend", self.frontend))
        if self.backend is not None:
            put(self, "backend", self._as_types("backend", self.backend))
        put(self, "routes", self._as_routes(self.routes))
        put(self, "frontend_options", self._as_options("frontend_options", self.frontend_options))
        put(self, "backend_options", self._as_options("backend_options", self.backend_options))
        if self.slow_peer not in ("drop", "wait"):
            raise DeviceError(f"device {self.name}: slow_peer is {self.slow_peer!r}: expected 'drop' or 'wait'")
        if isinstance(self.maxframes, bool) or not isinstance(self.maxframes, int) or not 1 <= self.maxframes < 1 << 63:
            raise DeviceError(f"device {self.name}: maxframes is {self.maxframes!r}: expected a positive integer")
        if not self.routes:
            raise DeviceError(f"device {self.name}: it has no route; expected one or two")
        for route in self.routes:
            self._check_route(route)
        sources = [route.source for route in self.routes]
        if len(set(sources)) < len(sources):
            raise DeviceError(
                f"device {self.name}: two routes take from one port; a port can be read by one route only"
            )

    def types_of(self, port: PortName) -> tuple[SocketType, ...]:
        """The socket types that may stand at a port; none where the device has no such port."""
        types = self.frontend if port == "frontend" else self.backend
        assert types is None or isinstance(types, tuple)
        return types or ()

    def options_of(self, port: PortName) -> Options:
        """The socket options that the device asks for at a port."""
        return self.frontend_options if port == "frontend" else self.backend_options

    def check_socket_type(self, port: PortName, socket_type: int) -> None:
        """Raise `DeviceError` unless a socket of this type may stand at the port."""
        if socket_type not in self.types_of(port):
            expected = " or ".join(t.name for t in self.types_of(port))
            found = SocketType(socket_type).name
            raise DeviceError(f"device {self.name}: {port}: a {found} socket cannot stand here; expected {expected}")

    def _as_types(self, port: PortName, types: SocketTypes) -> tuple[SocketType, ...]:
        if not isinstance(types, Iterable):
            types = (types,)
        several = tuple(types)
        usable = _RECEIVES | _SENDS
        for one in several:
            if not isinstance(one, int) or one not in usable:
                names = ", ".join(sorted(SocketType(t).name for t in usable))
                found = SocketType(one).name if one in list(SocketType) else repr(one)
                raise DeviceError(
                    f"device {self.name}: {port}: {found} cannot serve in a broker; expected one of {names}"
                )
        if not several:
            raise DeviceError(f"device {self.name}: {port}: no socket type is given")
        return tuple(SocketType(one) for one in several)

    def _as_routes(self, routes: object) -> tuple[Route, ...]:
        several = tuple(routes) if isinstance(routes, Iterable) else (None,)
        if not all(isinstance(route, Route) for route in several):
            raise DeviceError(f"device {self.name}: {routes!r} are no routes; expected several Route(source, sink)")
        return several

    def _as_options(self, which: str, options: object) -> Options:
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise DeviceError(f"device {self.name}: {which}: {options!r}: expected a mapping by option name")
        return FrozenDict(options)

    def _check_route(self, route: Route) -> None:
        where = f"device {self.name}: route {route.source} -> {route.sink}"
        for end, port, able, verb in (
            ("source", route.source, _RECEIVES, "receive"),
            ("sink", route.sink, _SENDS, "send"),
        ):
            if port not in ("frontend", "backend"):
                raise DeviceError(f"{where}: the {end} must be 'frontend' or 'backend'")
            if not self.types_of(port):
                raise DeviceError(f"{where}: the device has no {port}")
            for socket_type in self.types_of(port):
                if socket_type not in able:
                    raise DeviceError(f"{where}: a {socket_type.name} socket cannot {verb}")
        if route.via is not None and not callable(route.via):
            raise DeviceError(f"{where}: via must be callable, not {route.via!r}")
        call = getattr(route.via, "__call__", None)  # noqa: B004 - an object may be called through an async method
        for function in (route.via, call):
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                raise DeviceError(
                    f"{where}: via is {route.via!r}, a coroutine function: nobody would await it; expected a function "
                    "that returns the message, or a generator function that yields messages"
                )


_THERE: Final = Route("frontend", "backend")
_AND_BACK: Final = Route("backend", "frontend")

QUEUE: Final = Device(
    "queue",
    zmq.ROUTER,
    zmq.DEALER,
    (_THERE, _AND_BACK),
    # Without it libzmq drops the reply to a client that has left, or is slow, without a word.
    frontend_options={"router_mandatory": 1},
)
"""Requests to workers, replies to their requesters (ROUTER, DEALER)."""

FORWARDER: Final = Device(
    "forwarder",
    zmq.XSUB,
    zmq.XPUB,
    (_THERE, _AND_BACK),
    # What comes in there is subscriptions. One that is too long would be dropped before it reaches the XSUB; with this
    # limit libzmq closes the connection of whoever sends one, and keeps it in none of its tables.
    backend_options={"maxmsgsize": SUBSCRIPTION_MAX_BYTES},
)
"""Publishers to subscribers; subscriptions travel upstream, so only what somebody wants crosses (XSUB, XPUB). A
subscription of more than 4,096 bytes is not passed on: the connection that it came by is closed at once, and at an XPUB
that you register yourself it is dropped (counted as `long_subscription`)."""

FILTER: Final = Device("filter", zmq.SUB, zmq.PUB, (_THERE,), frontend_options={"subscribe": b""})
"""Publishers to subscribers, by a fixed list of topic prefixes: `frontend_options={"subscribe": [b"a", b"b"]}`."""

STREAMER: Final = Device("streamer", zmq.PULL, zmq.PUSH, (_THERE,))
"""Pushers to pullers (PULL, PUSH)."""

REFLECTOR: Final = Device(
    "reflector",
    (zmq.ROUTER, zmq.DEALER, zmq.PAIR, zmq.REP),
    None,
    (Route("frontend", "frontend"),),
    frontend_options={"router_mandatory": 1},
)
"""One socket, frontend and backend at once: each message goes back where it came from."""

DEVICES: Final[dict[str, Device]] = {device.name: device for device in (QUEUE, FORWARDER, FILTER, STREAMER, REFLECTOR)}
"""The table of device definitions, by name. Programs may add their own."""


def find_device(device: Device | str) -> Device:
    """The device itself, or the one of that name in `DEVICES`. Raises `DeviceError` if there is none."""
    if isinstance(device, Device):
        return device
    try:
        return DEVICES[device.lower()]
    except (KeyError, AttributeError):
        known = ", ".join(sorted(DEVICES))
        near = did_you_mean(device, DEVICES) if isinstance(device, str) else None
        raise DeviceError(f"{device!r} is not a device; expected a Device or one of: {known}{near or ''}") from None


def guess_device(name: str | None, frontend: SocketType, backend: SocketType | None) -> Device:
    """The device that libzmq's proxy would be between two sockets of these types: whatever either can receive goes to
    the other, if that can send. It is one of `DEVICES` if one is just that, and else one of the name `proxy`. A backend
    of None: the frontend alone, which gets back what it gives.

    A REQ or REP is in step as ever: it takes its next request when it has had its reply, or has given it.

    Raises `DeviceError`, which names the broker `name`, if nothing could pass.
    """
    there = Route("frontend", "frontend" if backend is None else "backend")
    ends = ((frontend, frontend),) if backend is None else ((frontend, backend), (backend, frontend))
    routes = tuple(
        route
        for route, (source, sink) in zip((there, _AND_BACK), ends, strict=False)
        if source in _RECEIVES and sink in _SENDS
    )
    if not routes:
        types = frontend.name if backend is None else f"{frontend.name} and {backend.name}"
        raise DeviceError(
            f"brokers.{name}: nothing can pass between sockets of the types {types}; expected one that receives and "
            f"one that sends, such as ROUTER and DEALER, or PULL and PUSH"
        )
    for device in DEVICES.values():
        fits = frontend in device.types_of("frontend") and (
            device.backend is None if backend is None else backend in device.types_of("backend")
        )
        if fits and tuple(device.routes) == routes:
            return device
    return Device("proxy", frontend, backend, routes)
