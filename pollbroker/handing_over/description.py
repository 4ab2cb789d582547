"""What two processes tell each other of brokers before one is moved: which ones can be, and whether they fit.

What is read is checked field by field, and refused whole with the place of the fault.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import zmq

from pollbroker.device import CAPTURE, Device
from pollbroker.errors import HandOverError
from pollbroker.flows import is_direct
from pollbroker.frozen import FrozenDict
from pollbroker.opening import Plan
from pollbroker.pump import Flow, RoutingPump
from pollbroker.working import WorkingBroker

VERSIONS: Final = (1,)
"""Those that this version of pollbroker can read and write: of STATE as of everything else that is said after HELLO."""

NUMBER_MOST: Final = (1 << 64) - 1

T = TypeVar("T")


@dataclass(frozen=True)
class HandedOver:
    """What has become of the brokers of an engine that were to be handed over."""

    moved: tuple[str, ...]
    """The names of those that the other process serves now."""
    left: Mapping[str, str] = field(default_factory=FrozenDict)
    """Why the others, by their names, are still served here."""


# -- reading fields ----------------------------------------------------------------------------------------------------


class Fields:
    """An object of JSON whose fields are read one by one."""

    def __init__(self, told: object, where: str) -> None:
        if not isinstance(told, dict):
            raise HandOverError(f"{where}: {told!r:.60}: expected an object")
        self._told: dict[str, Any] = told
        self._where = where

    def get(self, name: str, kind: type[T]) -> T:
        """A field of this type. Raises `HandOverError`."""
        value = self._told.get(name)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise HandOverError(f"{self._where}.{name}: {value!r:.60}: expected {kind.__name__}")
        return value

    def number(self, name: str) -> int:
        value = self.get(name, int)
        if not 0 <= value <= NUMBER_MOST:
            raise HandOverError(f"{self._where}.{name}: {value}: expected a number of 64 bits")
        return value

    def seconds(self, name: str) -> float:
        value = self._told.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
            raise HandOverError(f"{self._where}.{name}: {value!r:.60}: expected a number of seconds")
        return float(value)

    def list(self, name: str, read: Callable[[object, str], T]) -> list[T]:
        """A list, each item of which `read` is given, with its place."""
        items = self.get(name, list)
        return [read(item, f"{self._where}.{name}[{number}]") for number, item in enumerate(items)]

    def mapping(self, name: str, read: Callable[[object, str], T]) -> dict[str, T]:
        """An object, each value of which `read` is given, with its place."""
        return {key: read(value, f"{self._where}.{name}.{key}") for key, value in self.get(name, dict).items()}


def read_text(told: object, where: str) -> str:
    """A string."""
    if not isinstance(told, str):
        raise HandOverError(f"{where}: {told!r:.60}: expected a string")
    return told


def read_number(told: object, where: str) -> int:
    """A number of 64 bits."""
    return Fields({"number": told}, where).number("number")


# -- what is offered ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfferedPort:
    """A port of a broker that can be moved."""

    name: str
    type: str
    asked_for: tuple[str, ...]
    """Its endpoints, as they were given to `add`."""
    endpoints: tuple[str, ...]
    """Its real endpoints."""


@dataclass(frozen=True)
class OfferedBroker:
    """A broker that can be moved."""

    name: str
    device: str
    ports: tuple[OfferedPort, ...]
    routes: tuple[str, ...]
    """Its flows, each described by `describe_flow`."""

    @classmethod
    def of(cls, broker: WorkingBroker) -> "OfferedBroker":
        """Describe a broker."""
        ports = tuple(OfferedPort(port.name, port.type.name, port.asked_for, port.endpoints) for port in broker.ports)
        return cls(
            broker.name, broker.device.name, ports, tuple(describe_flow(broker, flow) for flow in broker.hub.flows)
        )

    def name_endpoints(self, broker: WorkingBroker) -> None:
        """Give the ports of a broker that takes over the endpoints of this one."""
        for port, offered in zip(broker.ports, self.ports, strict=True):
            port.asked_for, port.endpoints = offered.asked_for, offered.endpoints
            if any("://[" in address for address in offered.asked_for):
                port.wire_socket.setsockopt(zmq.IPV6, 1)

    def told(self) -> dict[str, object]:
        """As an object of JSON."""
        ports = [
            {"name": port.name, "type": port.type, "asked_for": port.asked_for, "endpoints": port.endpoints}
            for port in self.ports
        ]
        return {"name": self.name, "device": self.device, "ports": ports, "routes": self.routes}


def read_offered(told: object, where: str) -> OfferedBroker:
    """What `OfferedBroker.told` says."""
    fields = Fields(told, where)
    ports = tuple(fields.list("ports", _read_port))
    routes = tuple(fields.list("routes", read_text))
    return OfferedBroker(fields.get("name", str), fields.get("device", str), ports, routes)


def _read_port(told: object, where: str) -> OfferedPort:
    fields = Fields(told, where)
    return OfferedPort(
        fields.get("name", str),
        fields.get("type", str),
        tuple(fields.list("asked_for", read_text)),
        tuple(fields.list("endpoints", read_text)),
    )


_BY_HANDLER: Final = " by handler"


def describe_flow(broker: WorkingBroker, flow: Flow) -> str:
    """What a flow does, as far as its counters and queues depend on it."""
    sinks = ", ".join(broker.watched_ports[sink].name for sink in flow.sinks)
    how = _BY_HANDLER if isinstance(flow.pump, RoutingPump) else ""
    return f"{broker.watched_ports[flow.source].name} -> {sinks}{how}"


def difference_to(offered: OfferedBroker, device: Device, plan: Plan) -> str | None:
    """Why a broker of this device and plan cannot take over what is offered, behind its place; None if it can."""
    if device.behaviour is not None or any(route.awaits for route in device.routes):
        return (
            f": it is handed over, and the device {device.name} has a behaviour or a coroutine handler, which cannot be"
        )
    found = {port.name: port for port in plan.ports}
    for port in offered.ports:
        planned = found.pop(port.name, None)
        if planned is None:
            return f".{port.name}: it is handed over, and this broker has none"
        if planned.transport != "wire":
            return f".{port.name}: it is handed over, and here libzmq serves it; expected transport='wire'"
        if planned.socket_type.name != port.type:
            return (
                f".{port.name}: a {port.type} is handed over; expected that in the place of {planned.socket_type.name}"
            )
        asked_for = tuple(map(str, planned.endpoints))
        if asked_for != port.asked_for:
            given, asked = " ".join(port.asked_for), " ".join(asked_for)
            return f".{port.name}: {given} is handed over; expected that in the place of {asked}"
    if found:
        return f".{next(iter(found))}: it is not handed over with the others"
    captures = any(port.name == CAPTURE for port in plan.ports)
    routes = tuple(
        f"{route.source} -> {', '.join(route.sinks)}{'' if is_direct(route) and not captures else _BY_HANDLER}"
        for route in device.routes
    )
    if len(routes) != len(offered.routes) or not all(map(_goes_on, offered.routes, routes)):
        return (
            f": the broker that runs has the routes {'; '.join(offered.routes)}; the new one has {'; '.join(routes)}; "
            "expected the same; a handler may be added, and not be taken away"
        )
    return None


def _goes_on(offered: str, here: str) -> bool:
    """Return True if a route can go on as another one. It may be given a handler. The reverse is impossible, since a
    route with a handler may hold a message, and has counters of its own."""
    return here in (offered, offered + _BY_HANDLER)
