"""Makes the ports of a broker from the arguments of `Engine.add` and `Engine.register`.

A `Plan` is made and checked in the caller's thread; its sockets are opened in the engine's.
"""

import errno
import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import zmq

from pollbroker.binding import open_port
from pollbroker.device import CAPTURE, CAPTURE_TYPES, LEAST_OUTSTANDING, Device
from pollbroker.endpoint import Endpoint, Endpoints, parse_endpoints
from pollbroker.errors import ConfigError, DeviceError, EndpointError, EngineError
from pollbroker.frozen import FrozenDict
from pollbroker.limits import Limits
from pollbroker.options import Value, check_complete, parse_options
from pollbroker.port import WorkingPort, socket_type_of
from pollbroker.pump import Socket
from pollbroker.standard_devices import guess_device
from pollbroker.transports import WIRE, choose_transport, transport_of_port

ADDRESS_RELEASE_S: Final = 5.0
"""How long the address of a closed socket may still be in use. libzmq closes listeners in another thread, which may
have to wait for a core: beside four busy loops on two cores that took more than a second."""


@dataclass(frozen=True)
class PortPlan:
    """A port to open."""

    where: str
    name: str
    socket_type: zmq.SocketType
    endpoints: tuple[Endpoint, ...]
    options: tuple[tuple[zmq.SocketOption, Value], ...]
    transport: str
    """`wire` or `libzmq`."""
    settings: Mapping[str, int]
    """What a port of the wire is told beside socket options: its limits, and how it distributes messages."""

    def prepare(self, socket: Any) -> None:
        """Set these, and tell the port where it is."""
        if self.transport == WIRE:
            socket.wire_port.where = self.where
            for name, value in self.settings.items():
                socket.wire_port.set(name, value)


@dataclass(frozen=True)
class Plan:
    """The ports of a broker to open."""

    ports: tuple[PortPlan, ...]

    def without_endpoints(self) -> "Plan":
        """The same ports, which bind and connect nothing."""
        return Plan(tuple(replace(port, endpoints=()) for port in self.ports))

    def open(
        self, context: zmq.Context[Socket], wire_context: Callable[[], Any], released: "ReleasedAddresses"
    ) -> dict[str, WorkingPort]:
        """Open the ports, and return them by name. After an error those that were opened are closed again, and their
        addresses noted in `released`.

        Sockets of libzmq are opened in `context`, and those of the wire in what `wire_context` returns."""
        opened: dict[str, WorkingPort] = {}
        try:
            for plan in self.ports:
                opened[plan.name] = open_port(
                    wire_context() if plan.transport == WIRE else context,
                    where=plan.where,
                    name=plan.name,
                    socket_type=plan.socket_type,
                    endpoints=plan.endpoints,
                    options=plan.options,
                    prepare=plan.prepare,
                )
        except BaseException:
            for port in opened.values():
                port.close(linger=0)
                released.note(port.endpoints)
            raise
        return opened


def make_plan(
    name: str,
    device: Device,
    endpoints: Mapping[str, Endpoints | Sequence[Endpoint] | None],
    options: Mapping[str, Mapping[str, object]],
    capture_type: int,
    transport: str | None = None,
    limits: Limits | None = None,
) -> Plan:
    """Check the endpoints and options of a broker's ports, and make a plan of them. Both mappings are by port name,
    with `capture`. `transport` and `limits` are what `add` was asked for.

    Raises `DeviceError`, `EndpointError` or `ConfigError`.
    """
    if capture_type not in CAPTURE_TYPES:
        _refuse_capture(name, capture_type)
    transport = choose_transport(f"brokers.{name}", transport)
    if limits is not None and not isinstance(limits, Limits):
        raise ConfigError(f"brokers.{name}.limits: {limits!r}: expected a Limits")
    types = {port: several[0] for port, several in device.ports.items()} | {CAPTURE: zmq.SocketType(capture_type)}
    for port, given in endpoints.items():
        if port not in types and given is not None:
            raise DeviceError(f"{_no_such_port(name, device, port)}; expected no endpoint for it")
    for port, asked in options.items():
        where = f"brokers.{name}.{port}"
        if not isinstance(asked, Mapping):
            raise ConfigError(f"{where}: {asked!r}: expected a mapping of socket options by name")
        if port not in types and asked:
            raise DeviceError(f"{_no_such_port(name, device, port)}; expected no options for it")
    plans = []
    for port, socket_type in types.items():
        where = f"brokers.{name}.{port}"
        given = endpoints.get(port)
        if given is None:
            if port != CAPTURE:
                raise EndpointError(f"{where}: no endpoint is given; the device {device.name} has a {port}")
            continue
        merged = {str(k).lower(): v for k, v in (*device.options_of(port).items(), *options.get(port, {}).items())}
        parsed, parsed_options = parse_endpoints(where, given), tuple(parse_options(where, merged))
        wanted, settings = _settings_of(device, port, socket_type, parsed, limits)
        serves = transport_of_port(where, transport, socket_type, parsed, parsed_options, wanted)
        check_complete(where, parsed_options)
        plans.append(PortPlan(where, port, socket_type, parsed, parsed_options, serves, settings))
    return Plan(tuple(plans))


def _settings_of(
    device: Device, port: str, socket_type: int, endpoints: Iterable[Endpoint], limits: Limits | None
) -> tuple[str | None, Mapping[str, int]]:
    """What was asked for that only a port of the wire has, and what such a port is told."""
    wanted, settings = None, {}
    if limits is not None and any(not endpoint.address.startswith("inproc:") for endpoint in endpoints):
        wanted = "limits"
        settings = {name: value for name, value in vars(limits).items() if value is not None}
    if device.distribution == LEAST_OUTSTANDING and port != CAPTURE and socket_type in (zmq.DEALER, zmq.PUSH):
        wanted = f"distribution {LEAST_OUTSTANDING!r}"
        settings["least_outstanding"] = True
    return wanted, FrozenDict(settings)


def lend_ports(name: str, device: Device, sockets: Mapping[str, Socket | None]) -> dict[str, WorkingPort]:
    """The ports of a broker on registered sockets, by name, with `capture` if there is one.

    Raises `DeviceError` for a socket whose type the port may not have, and `EngineError` for a closed socket.
    """
    ports: dict[str, WorkingPort] = {}
    if device.distribution == LEAST_OUTSTANDING:
        raise DeviceError(
            f"brokers.{name}: the device {device.name} has the distribution {LEAST_OUTSTANDING!r}, which libzmq's "
            "sockets do not have; expected endpoints, and Engine.add"
        )
    for port in (*device.ports, *(port for port in sockets if port not in device.ports)):
        where = f"brokers.{name}.{port}"
        socket = sockets.get(port)
        if socket is None:
            if port in device.ports:
                raise DeviceError(f"{where}: no socket is given; the device {device.name} has a {port}")
            continue
        if port != CAPTURE and port not in device.ports:
            raise DeviceError(f"{_no_such_port(name, device, port)}; expected no socket for it")
        _check_socket(where, socket)
        if port == CAPTURE:
            if socket_type_of(socket) not in CAPTURE_TYPES:
                _refuse_capture(name, socket_type_of(socket))
        else:
            device.check_socket_type(port, socket_type_of(socket))
        ports[port] = WorkingPort(port, socket, owned=False)
    return ports


def _no_such_port(name: str | None, device: Device, port: str) -> str:
    """The beginning of an error about a port that the device does not have."""
    hint = f"; its ports are: {', '.join(device.ports)}"
    if port.endswith("_options"):
        hint += f" (socket options of a port are given as options={{{port.removesuffix('_options')!r}: ...}})"
    return f"brokers.{name}.{port}: the device {device.name} has no {port}{hint}"


def device_between(name: str | None, sockets: Mapping[str, Socket | None]) -> Device:
    """The device for the types of one or two registered sockets; see `guess_device`.

    Raises `DeviceError`, or `EngineError` for a closed socket.
    """
    types = []
    where = "register" if name is None else f"brokers.{name}"
    for port, socket in sockets.items():
        if socket is None or port == CAPTURE:
            continue
        if port not in ("frontend", "backend"):
            raise DeviceError(f"{where}.{port}: no device is given that has a {port}; expected one")
        _check_socket(f"{where}.{port}", socket)
        types.append(socket_type_of(socket))
    if sockets.get("frontend") is None:
        raise DeviceError(f"{where}.frontend: no socket is given; expected one")
    return guess_device(where, types)


def _check_socket(where: str, socket: Socket) -> None:
    if not hasattr(socket, "getsockopt"):
        raise DeviceError(f"{where}: {socket!r} is not a ZeroMQ socket")
    if socket.closed:
        raise EngineError(f"{where}: the socket is closed; expected an open one")


def _refuse_capture(name: str, socket_type: object) -> None:
    expected = ", ".join(t.name for t in CAPTURE_TYPES)
    found = f"a {socket_type.name} socket" if isinstance(socket_type, zmq.SocketType) else repr(socket_type)
    raise DeviceError(f"brokers.{name}.capture: {found} cannot capture; expected one of {expected}")


Prefixes: TypeAlias = tuple[bytes, bytes] | Mapping[str, bytes]
"""Frames by the ports' names; or a tuple of two frames, for the frontend and for the backend."""


def parse_prefixes(name: str | None, device: Device, prefixes: Prefixes | None) -> Mapping[str, bytes]:
    """The frames that precede captured messages, by the port that a message came from.

    Raises `DeviceError` if `prefixes` is malformed, or names a port that the device does not have.
    """
    where = f"brokers.{name}.capture: prefixes {prefixes!r}"
    by_port = dict(zip(("frontend", "backend"), prefixes, strict=False)) if isinstance(prefixes, tuple) else prefixes
    if by_port is None:
        return {}
    if device.behaviour is not None:
        raise DeviceError(f"{where}: the messages of a behaviour come from no one port; expected no prefixes")
    if isinstance(prefixes, tuple) and len(prefixes) != 2:
        raise DeviceError(f"{where}: expected two frames: a tuple of bytes")
    if not isinstance(by_port, Mapping) or not all(isinstance(frame, bytes) for frame in by_port.values()):
        raise DeviceError(f"{where}: expected two frames: a tuple of bytes, or a mapping of them by port")
    for port in by_port:
        if port not in device.ports and not isinstance(prefixes, tuple):
            raise DeviceError(
                f"{where}: the device {device.name} has no {port}; its ports are: {', '.join(device.ports)}"
            )
    return by_port


def make_context() -> zmq.Context[Any]:
    """Make a context that allows as many sockets as the process may open descriptors; libzmq's default is 1,023."""
    context: zmq.Context[Any] = zmq.Context()
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = context.get(zmq.SOCKET_LIMIT)
    context.set(zmq.MAX_SOCKETS, most if descriptors == resource.RLIM_INFINITY else min(descriptors, most))
    return context


class ReleasedAddresses:
    """Addresses that this process released a moment ago, and that may not be free yet.

    libzmq closes a listener in its own thread, some time after the socket. Until then the address is in use.
    """

    def __init__(self) -> None:
        self._released_s: dict[str, float] = {}

    def note(self, addresses: Iterable[str]) -> None:
        """Note that the sockets at these addresses are being closed."""
        now_s = time.monotonic()
        # A dict is never changed, since engines in other threads may look at it.
        there = {a: s for a, s in self._released_s.items() if now_s - s < ADDRESS_RELEASE_S}
        self._released_s = there | dict.fromkeys(map(_exclusive_part, addresses), now_s)

    def forget(self, addresses: Iterable[str]) -> None:
        """Forget addresses that a broker has bound again: they are in use, and will not soon be free."""
        bound = set(map(_exclusive_part, addresses))
        self._released_s = {a: s for a, s in self._released_s.items() if a not in bound}

    def explain(self, error: EndpointError) -> bool:
        """Return True if a later try may succeed: the address is in use, and this process released it a moment ago."""
        cause = error.__cause__
        in_use = isinstance(cause, zmq.ZMQError) and cause.errno == errno.EADDRINUSE
        return in_use and error.address is not None and self._is_recent(error.address)

    def _is_recent(self, address: str) -> bool:
        released_s = self._released_s.get(_exclusive_part(address))
        return released_s is not None and time.monotonic() - released_s < ADDRESS_RELEASE_S


RELEASED: Final = ReleasedAddresses()
"""The released addresses of all engines in this process."""


def _exclusive_part(address: str) -> str:
    """The part of an address that two sockets cannot share. Of a tcp address this is the port, since one interface has
    several names."""
    return f"tcp:{address.rpartition(':')[2]}" if address.startswith("tcp://") else address
