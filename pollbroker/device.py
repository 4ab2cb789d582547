"""A device: which sockets a broker has, as named ports, and which routes run between them.

A `Device` is a definition: it cannot be changed, and any number of brokers may be made from it. The usual devices are
in `pollbroker.standard_devices`. To make a variant, such as a QUEUE with a handler, use `dataclasses.replace(QUEUE,
name=..., routes=...)`, which copies everything else, such as the socket options.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

import zmq
from zmq import SocketType

from pollbroker.behaviour import Behaviour
from pollbroker.errors import DeviceError, did_you_mean
from pollbroker.frozen import FrozenDict
from pollbroker.pump import MAXFRAMES, Handler, is_coroutine_handler
from pollbroker.settings import make_with_settings

SocketTypes: TypeAlias = SocketType | Iterable[SocketType]
OptionValue: TypeAlias = int | bytes | str | Iterable[bytes | str]
Options: TypeAlias = Mapping[str, OptionValue]

_BOTH_WAYS: Final = frozenset({zmq.ROUTER, zmq.DEALER, zmq.REQ, zmq.REP, zmq.XSUB, zmq.XPUB, zmq.PAIR})
RECEIVES: Final = _BOTH_WAYS | {zmq.PULL, zmq.SUB}
"""The types of sockets that a message can be received from."""
SENDS: Final = _BOTH_WAYS | {zmq.PUSH, zmq.PUB}
"""The types of sockets that a message can be sent to."""

CAPTURE: Final = "capture"
"""The name of the port that is given a copy of every message that is sent on. Every broker may have one, so no device
has a port of this name."""

CAPTURE_TYPES: Final = (zmq.PUB, zmq.PUSH, zmq.DEALER, zmq.PAIR)
"""The socket types that a capture port may have: the same as for libzmq's own proxy (zmq_proxy(3))."""

LEAST_OUTSTANDING: Final = "least_outstanding"

_ARGUMENTS: Final = frozenset(
    {"self", "name", "device", "options", "capture_type", "capture_prefixes", "transport", "limits"}
)
"""Other arguments of `Engine.add` and `Engine.register`. Ports are arguments of these, too, by their names, so that no
port may have one of these names."""


@dataclass(frozen=True)
class Route:
    """One direction of a device: messages go from the port `source` to the port `sink`, or to several.

    With `via`, each message passes through a handler. It is given the frames (`list[bytes]`: from a ROUTER, the routing
    id first) and returns the message to send, or None to drop it; a generator function yields any number of messages.
    A message goes to every sink of the route; `To("port", frames)` goes to that sink alone. Without `via`, each message
    goes to every sink: the route is then a tee.

    If a sink is full, the route holds the message for it, and reads nothing more until that sink has accepted the
    message. The other sinks of the route have been given their copies by then. Other routes are not affected. (From one
    port of the wire to another, without `via` and capture, the message stays at its source.)

    `via` may be a coroutine function, in an engine on a loop of the program (`pollbroker.asyncio`, `pollbroker.trio`,
    `pollbroker.anyio`). Up to `max_concurrency` messages are with it at a time; the source is not read while there are
    so many. Messages leave in the order in which they came. Until a message has left, it counts as held.
    """

    source: str
    sink: str | Sequence[str]
    via: Handler | None = None
    max_concurrency: int = 100

    def __post_init__(self) -> None:
        if not isinstance(self.sink, str) and isinstance(self.sink, Iterable):
            object.__setattr__(self, "sink", tuple(self.sink))  # so that the route can be hashed, and never changes

    @property
    def sinks(self) -> tuple[str, ...]:
        """The names of all sinks."""
        return (self.sink,) if isinstance(self.sink, str) else tuple(self.sink)

    @property
    def awaits(self) -> bool:
        """True if `via` is a coroutine function."""
        return self.via is not None and is_coroutine_handler(self.via)

    def __str__(self) -> str:
        return f"route {self.source} -> {', '.join(map(str, self.sinks))}"


@dataclass(frozen=True, init=False)
class Device:
    """A device definition.

        Device("queue", zmq.ROUTER, zmq.DEALER, (Route("frontend", "backend"), Route("backend", "frontend")))
        Device("tee", ports={"source": zmq.PULL, "a": zmq.PUSH, "b": zmq.PUSH}, routes=[Route("source", ("a", "b"))])

    Arguments:
        name: the name of the device in statistics and errors.
        frontend, backend: a short form for the two ports that most devices have; each takes the place of the entry of
            that name in `ports`.
        ports: the socket type of each port by the port's name, or several types, of which `Engine.add` opens the first
            and `Engine.register` accepts any. A name is a Python identifier.
        routes: the directions. Every port is the source or a sink of a route. No port is the source of two routes,
            since a message that one of them has read is lost to the other.
        options: for each port by its name, socket options that `Engine.add` sets; its own arguments override them.
        frontend_options, backend_options: a short form of `options` for these two ports; each takes the place of its
            port's entry there.
        slow_peer: what happens at a ROUTER sink to a message for a peer that is full while other peers are not. With
            "drop" the message is dropped (counted as `slow_peer`); with "wait" it is held, and the messages behind it
            wait, too.
        behaviour: in place of routes, the class of a `Behaviour`, or a function that makes one. Each broker has one of
            its own, which decides what becomes of each message. Every port that can receive is a source.
        maxframes: the most frames that a message may have. A message of more frames is dropped (counted as
            `too_many_frames`), so that no message of a peer delays control and the other brokers. The size of a frame
            is limited by the socket option `maxmsgsize`.
        distribution: which peer of a DEALER or PUSH sink is given the next message, of those that have room. With
            "round_robin" they have their turns, as with libzmq. With "least_outstanding" it is the one that has the
            fewest messages to answer (DEALER) or to be written (PUSH), so that a slow worker is given fewer. Only ports
            of the wire can do that.

    Raises `DeviceError` if the definition is unsound.
    """

    name: str
    ports: Mapping[str, tuple[SocketType, ...]] = field(hash=False)
    """The socket types that each port may have, by the port's name. A broker's ports have the same order."""
    routes: Sequence[Route]
    options: Mapping[str, Options] = field(hash=False)
    """The socket options of each port, by the port's name. A port without options has no entry."""
    slow_peer: Literal["drop", "wait"]
    maxframes: int
    distribution: Literal["round_robin", "least_outstanding"]
    behaviour: Callable[[], Behaviour] | None

    def __init__(
        self,
        name: str,
        frontend: SocketTypes | None = None,
        backend: SocketTypes | None = None,
        routes: Sequence[Route] = (),
        frontend_options: Options | None = None,
        backend_options: Options | None = None,
        slow_peer: Literal["drop", "wait"] = "drop",
        maxframes: int = MAXFRAMES,
        *,
        ports: Mapping[str, SocketTypes] = FrozenDict(),
        options: Mapping[str, Options] = FrozenDict(),
        behaviour: Callable[[], Behaviour] | None = None,
        distribution: Literal["round_robin", "least_outstanding"] = "round_robin",
    ) -> None:
        if not isinstance(name, str) or not name:
            raise DeviceError(f"device {name!r}: its name must be a non-empty string")
        given: dict[str, Any] = {
            "name": name,
            "ports": _as_ports(name, ports, frontend=frontend, backend=backend),
            "routes": _as_routes(name, routes),
            "options": _as_options(name, options, frontend=frontend_options, backend=backend_options),
            "slow_peer": slow_peer,
            "maxframes": maxframes,
            "distribution": distribution,
            "behaviour": behaviour,
        }
        for attribute, value in given.items():
            object.__setattr__(self, attribute, value)
        self._check()

    def types_of(self, port: str) -> tuple[SocketType, ...]:
        """The socket types that a port may have; an empty tuple if the device has no such port."""
        return self.ports.get(port, ())

    def options_of(self, port: str) -> Options:
        """The socket options of a port; an empty mapping if there are none."""
        return self.options.get(port, FrozenDict())

    def with_settings(self, **settings: Any) -> "Device":
        """A device whose behaviour is made with these settings: the keyword arguments of its class.

            BALANCER.with_settings(policy="least_loaded", max_wait_s=5.0)

        Settings that had been set before are kept. Raises `DeviceError` if the device has no behaviour, or no such
        setting, and `BehaviourError` if the behaviour refuses a value.
        """
        if self.behaviour is None:
            raise DeviceError(f"device {self.name}: it has no behaviour, and so no settings")
        return replace(self, behaviour=make_with_settings(self.name, self.behaviour, settings))

    def check_socket_type(self, port: str, socket_type: int) -> None:
        """Raise `DeviceError` unless the port may have a socket of this type."""
        if socket_type not in self.types_of(port):
            expected = " or ".join(t.name for t in self.types_of(port))
            found = SocketType(socket_type).name
            raise DeviceError(f"device {self.name}: {port}: a {found} socket cannot stand here; expected {expected}")

    def _check(self) -> None:
        where = f"device {self.name}"
        if self.slow_peer not in ("drop", "wait"):
            raise DeviceError(f"{where}: slow_peer is {self.slow_peer!r}: expected 'drop' or 'wait'")
        if isinstance(self.maxframes, bool) or not isinstance(self.maxframes, int) or not 1 <= self.maxframes < 1 << 63:
            raise DeviceError(f"{where}: maxframes is {self.maxframes!r}: expected a positive integer")
        if self.distribution not in ("round_robin", LEAST_OUTSTANDING):
            raise DeviceError(
                f"{where}: distribution is {self.distribution!r}: expected 'round_robin' or {LEAST_OUTSTANDING!r}"
            )
        if self.behaviour is not None:
            if not callable(self.behaviour):
                raise DeviceError(
                    f"{where}: behaviour is {self.behaviour!r}: expected the class of one, or a function that makes "
                    "one, since each broker has one of its own"
                )
            if self.routes:
                raise DeviceError(f"{where}: it has routes and a behaviour; expected one or the other")
            if not self.ports:
                raise DeviceError(f"{where}: it has no port; expected one or more")
        elif not self.routes:
            raise DeviceError(f"{where}: it has no route; expected one or more, or a behaviour")
        for port in self.options:
            if port not in self.ports:
                raise DeviceError(f"{where}: options: {self._unknown(port)}")
        for route in self.routes:
            self._check_route(route)
        sources = [route.source for route in self.routes]
        for port in self.ports:
            if sources.count(port) > 1:
                raise DeviceError(
                    f"{where}: two routes take from one port, {port}; a port can be read by one route only"
                )
            if self.behaviour is None and port not in sources and not any(port in route.sinks for route in self.routes):
                raise DeviceError(f"{where}: {port}: no route uses this port; expected it as the source or sink of one")

    def _check_route(self, route: Route) -> None:
        where = f"device {self.name}: {route}"
        if not route.sinks:
            raise DeviceError(f"{where}: it has no sink; expected the name of a port, or several")
        if len(set(route.sinks)) < len(route.sinks):
            raise DeviceError(f"{where}: one sink is named twice; expected each of them once")
        for port, able, verb in (
            (route.source, RECEIVES, "receive"),
            *((sink, SENDS, "send") for sink in route.sinks),
        ):
            if port not in self.ports:
                raise DeviceError(f"{where}: {self._unknown(port)}")
            for socket_type in self.types_of(port):
                if socket_type not in able:
                    raise DeviceError(f"{where}: {port}: a {socket_type.name} socket cannot {verb}")
        _check_handler(where, route.via)
        limit = route.max_concurrency
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise DeviceError(f"{where}: max_concurrency is {limit!r}: expected a positive integer")

    def _unknown(self, port: object) -> str:
        near = did_you_mean(port, self.ports) if isinstance(port, str) else None
        return f"the device has no {port}{near or '; its ports are: ' + (', '.join(self.ports) or 'none')}"


def _as_ports(name: str, ports: object, **short: SocketTypes | None) -> FrozenDict[str, tuple[SocketType, ...]]:
    if not isinstance(ports, Mapping):
        raise DeviceError(f"device {name}: ports: {ports!r}: expected a mapping of socket types by the ports' names")
    given = {port: types for port, types in short.items() if types is not None}
    new = {port: types for port, types in given.items() if port not in ports}
    return FrozenDict({port: _as_types(name, port, types) for port, types in {**new, **ports, **given}.items()})


def check_usable(where: str, socket_type: Any) -> None:
    """Raise `DeviceError`, which names the place `where`, for a type of socket that no broker can have, such as
    STREAM."""
    usable = RECEIVES | SENDS
    if not isinstance(socket_type, int) or socket_type not in usable:
        names = ", ".join(sorted(SocketType(t).name for t in usable))
        found = SocketType(socket_type).name if socket_type in list(SocketType) else repr(socket_type)
        raise DeviceError(f"{where}: {found} cannot serve in a broker; expected one of {names}")


def _as_types(name: str, port: object, types: object) -> tuple[SocketType, ...]:
    if not isinstance(port, str) or not port.isidentifier():
        raise DeviceError(f"device {name}: {port!r} cannot name a port; expected an identifier, such as 'frontend'")
    if port == CAPTURE or port in _ARGUMENTS or port.endswith("_options"):
        raise DeviceError(
            f"device {name}: {port}: no port can have this name, which means something else to Engine.add; expected "
            "another"
        )
    several = tuple(types) if isinstance(types, Iterable) and not isinstance(types, str) else (types,)
    for one in several:
        check_usable(f"device {name}: {port}", one)
    if not several:
        raise DeviceError(f"device {name}: {port}: no socket type is given")
    return tuple(SocketType(one) for one in several)


def _as_routes(name: str, routes: object) -> tuple[Route, ...]:
    several = tuple(routes) if isinstance(routes, Iterable) else (None,)
    if not all(isinstance(route, Route) for route in several):
        raise DeviceError(f"device {name}: routes: {routes!r}: expected a sequence of Route(source, sink)")
    return several


def _as_options(name: str, options: object, **short: Options | None) -> FrozenDict[str, Options]:
    if not isinstance(options, Mapping):
        raise DeviceError(f"device {name}: options: {options!r}: expected a mapping of options by the ports' names")
    checked: dict[str, Options] = {}
    for port, asked in (*options.items(), *((port, asked) for port, asked in short.items() if asked is not None)):
        if not isinstance(asked, Mapping) or not all(isinstance(option, str) for option in asked):
            where = f"{port}_options" if port in short else f"options: {port}"
            raise DeviceError(f"device {name}: {where}: {asked!r}: expected a mapping by option name")
        checked[port] = FrozenDict(asked)
    return FrozenDict({port: asked for port, asked in checked.items() if asked})


def _check_handler(where: str, via: object) -> None:
    if via is not None and not callable(via):
        raise DeviceError(f"{where}: via must be callable, not {via!r}")
    call = getattr(via, "__call__", None)  # noqa: B004 - an object may be called through an async method
    if inspect.isasyncgenfunction(via) or inspect.isasyncgenfunction(call):
        raise DeviceError(
            f"{where}: via is {via!r}, an asynchronous generator function; expected a function, a generator function, "
            "or a coroutine function, which may return an iterator of messages"
        )


def make_behaviour(device: Device) -> Behaviour:
    """Make the behaviour of a device that has one. Raises `DeviceError` if it is none, or if a method of it is a
    coroutine function."""
    behaviour = None if device.behaviour is None else device.behaviour()
    if not isinstance(behaviour, Behaviour):
        raise DeviceError(f"device {device.name}: behaviour made {behaviour!r}: expected a Behaviour")
    for name in dir(Behaviour):
        if name.startswith("on_") and inspect.iscoroutinefunction(getattr(behaviour, name)):
            raise DeviceError(
                f"device {device.name}: {type(behaviour).__name__}.{name} is a coroutine function; expected a function "
                "that has done its work when it returns"
            )
    return behaviour
