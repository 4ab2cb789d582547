"""From what `Engine.add` and `Engine.register` are told to the ports of a broker.

A `Plan` is made, and everything in it checked, in the caller's thread; its sockets are opened in the engine's.
"""

import errno
import resource
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import zmq

from pollbroker.device import CAPTURE_TYPES, Device, PortName, guess_device
from pollbroker.endpoint import Endpoint, Endpoints, parse_endpoints
from pollbroker.errors import ConfigError, DeviceError, EndpointError, EngineError
from pollbroker.options import Value, parse_options
from pollbroker.port import WorkingPort, open_port, socket_type_of
from pollbroker.pump import Socket

ADDRESS_RELEASE_S: Final = 5.0
"""How long a closed socket's address may still be in use: libzmq closes its listeners in another thread, which may have
to wait for a core: beside four busy loops on two cores it took more than a second."""


@dataclass(frozen=True)
class PortPlan:
    """A port to open."""

    where: str
    name: str
    socket_type: zmq.SocketType
    endpoints: tuple[Endpoint, ...]
    options: tuple[tuple[zmq.SocketOption, Value], ...]


@dataclass(frozen=True)
class Plan:
    """A broker's ports to open."""

    ports: tuple[PortPlan, ...]

    def open(self, context: zmq.Context[Socket], released: "ReleasedAddresses") -> dict[str, WorkingPort]:
        """Open all of them, by name; on an error those that were opened are closed again, and noted as released."""
        opened: dict[str, WorkingPort] = {}
        try:
            for plan in self.ports:
                opened[plan.name] = open_port(
                    context,
                    where=plan.where,
                    name=plan.name,
                    socket_type=plan.socket_type,
                    endpoints=plan.endpoints,
                    options=plan.options,
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
    endpoints: Mapping[str, Endpoints | None],
    options: Mapping[str, Mapping[str, object] | None],
    capture_type: int,
) -> Plan:
    """Check what a broker is to be opened with. Both mappings are by port: frontend, backend, capture.

    Raises `DeviceError`, `EndpointError` or `ConfigError`.
    """
    if capture_type not in CAPTURE_TYPES:
        _refuse_capture(name, capture_type)
    plans = []
    for port, given in endpoints.items():
        where = f"brokers.{name}.{port}"
        is_capture = port == "capture"
        types = (zmq.SocketType(capture_type),) if is_capture else device.types_of(_port_name(port))
        if given is None:
            if types and not is_capture:
                raise EndpointError(f"{where}: no endpoint is given; the device {device.name} has a {port}")
            continue
        if not types:
            raise DeviceError(f"{where}: the device {device.name} has no {port}; expected no endpoint for it")
        merged: dict[str, object] = {}
        if not is_capture:
            merged |= {k.lower(): v for k, v in device.options_of(_port_name(port)).items()}
        asked = options.get(port)
        if asked is not None and not isinstance(asked, Mapping):
            raise ConfigError(f"{where}: {asked!r}: expected a mapping of socket options by name")
        merged |= {str(k).lower(): v for k, v in (asked or {}).items()}
        plans.append(
            PortPlan(where, port, types[0], parse_endpoints(where, given), tuple(parse_options(where, merged)))
        )
    return Plan(tuple(plans))


def lend_ports(name: str, device: Device, sockets: Mapping[str, Socket | None]) -> dict[str, WorkingPort]:
    """The ports of a broker whose sockets stay the caller's, by name: frontend, backend, capture.

    Raises `DeviceError` for a socket of a type that cannot stand there, and `EngineError` for one that is closed.
    """
    ports: dict[str, WorkingPort] = {}
    for port, socket in sockets.items():
        where = f"brokers.{name}.{port}"
        if socket is None:
            if port != "capture" and device.types_of(_port_name(port)):
                raise DeviceError(f"{where}: no socket is given; the device {device.name} has a {port}")
            continue
        _check_socket(where, socket)
        if port == "capture":
            if socket_type_of(socket) not in CAPTURE_TYPES:
                _refuse_capture(name, socket_type_of(socket))
        elif not device.types_of(_port_name(port)):
            raise DeviceError(f"{where}: the device {device.name} has no {port}; expected no socket for it")
        else:
            device.check_socket_type(_port_name(port), socket_type_of(socket))
        ports[port] = WorkingPort(port, socket, owned=False)
    return ports


def device_between(name: str | None, frontend: Socket, backend: Socket | None) -> Device:
    """The device that goes with the types of two sockets, as for `zmq.proxy`; see `guess_device`.

    Raises `DeviceError`, or `EngineError` for a socket that is closed.
    """
    types = []
    for port, socket in (("frontend", frontend), ("backend", backend)):
        if socket is not None:
            _check_socket(f"brokers.{name}.{port}", socket)
            types.append(socket_type_of(socket))
    return guess_device(name, types[0], types[1] if len(types) > 1 else None)


def _check_socket(where: str, socket: Socket) -> None:
    if not hasattr(socket, "getsockopt"):
        raise DeviceError(f"{where}: {socket!r} is no ZeroMQ socket")
    if socket.closed:
        raise EngineError(f"{where}: the socket is closed; expected an open one")


def _port_name(port: str) -> PortName:
    return "frontend" if port == "frontend" else "backend"


def _refuse_capture(name: str, socket_type: object) -> None:
    expected = ", ".join(t.name for t in CAPTURE_TYPES)
    found = f"a {socket_type.name} socket" if isinstance(socket_type, zmq.SocketType) else repr(socket_type)
    raise DeviceError(f"brokers.{name}.capture: {found} cannot capture; expected one of {expected}")


def check_prefixes(name: str | None, prefixes: object) -> None:
    """Raise `DeviceError` unless these can precede captured messages: two frames, or None."""
    if prefixes is None:
        return
    if not isinstance(prefixes, tuple) or len(prefixes) != 2 or not all(isinstance(one, bytes) for one in prefixes):
        raise DeviceError(f"brokers.{name}.capture: prefixes {prefixes!r}: expected two frames: a tuple of bytes")


def roomy_context() -> zmq.Context[Any]:
    """A context that allows as many sockets as the process may open descriptors; libzmq's default is 1,023."""
    context: zmq.Context[Any] = zmq.Context()
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = context.get(zmq.SOCKET_LIMIT)
    context.set(zmq.MAX_SOCKETS, most if descriptors == resource.RLIM_INFINITY else min(descriptors, most))
    return context


class ReleasedAddresses:
    """Addresses that were bound here until a moment ago, and may not be free yet.

    libzmq closes a listener in its own thread, soon after the socket: a bind at once may find the address in use.
    """

    def __init__(self) -> None:
        self._released_s: dict[str, float] = {}

    def note(self, addresses: Iterable[str]) -> None:
        """What was bound there is being closed."""
        now_s = time.monotonic()
        self._released_s = {a: s for a, s in self._released_s.items() if now_s - s < ADDRESS_RELEASE_S}
        self._released_s |= dict.fromkeys(map(_place_of, addresses), now_s)

    def forget(self, addresses: Iterable[str]) -> None:
        """What is bound there is in use for good."""
        gone = set(map(_place_of, addresses))
        self._released_s = {a: s for a, s in self._released_s.items() if a not in gone}

    def explain(self, error: EndpointError) -> bool:
        """Whether this may pass by itself: an address in use, soon after one of ours was released."""
        cause = error.__cause__
        in_use = isinstance(cause, zmq.ZMQError) and cause.errno == errno.EADDRINUSE
        return in_use and error.address is not None and self._is_recent(error.address)

    def _is_recent(self, address: str) -> bool:
        released_s = self._released_s.get(_place_of(address))
        return released_s is not None and time.monotonic() - released_s < ADDRESS_RELEASE_S


RELEASED: Final = ReleasedAddresses()
"""Those of all engines in this process."""


def _place_of(address: str) -> str:
    """What of an address can be in use: of tcp its port, since one interface has several names."""
    return f"tcp:{address.rpartition(':')[2]}" if address.startswith("tcp://") else address
