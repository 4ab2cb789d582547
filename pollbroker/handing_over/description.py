"""What two processes tell each other of brokers: which ones can be moved, and what another process needs to go on with
them. What is read is checked field by field, and refused whole with the place of the fault.
"""

import base64
import binascii
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pollbroker.errors import HandOverError
from pollbroker.frozen import FrozenDict
from pollbroker.handing_over.channel import parse
from pollbroker.opening import Plan
from pollbroker.pump import Flow, RoutingPump
from pollbroker.waits import NO_WAITS
from pollbroker.working import WorkingBroker

if TYPE_CHECKING:
    from pollbroker.wire.sockets import MovedSocket

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


def read_text(told: object, where: str) -> str:
    """A string."""
    if not isinstance(told, str):
        raise HandOverError(f"{where}: {told!r:.60}: expected a string")
    return told


def read_number(told: object, where: str) -> int:
    """A number of 64 bits."""
    return Fields({"number": told}, where).number("number")


def _read_bytes(told: object, where: str) -> bytes:
    try:
        return base64.b64decode(read_text(told, where), validate=True)
    except (ValueError, binascii.Error) as error:
        raise HandOverError(f"{where}: {error}") from error


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


def describe_flow(broker: WorkingBroker, flow: Flow) -> str:
    """What a flow does, as far as its counters and queues depend on it."""
    sinks = ", ".join(broker.watched_ports[sink].name for sink in flow.sinks)
    how = " by handler" if isinstance(flow.pump, RoutingPump) else ""
    return f"{broker.watched_ports[flow.source].name} -> {sinks}{how}"


def difference_to(offered: OfferedBroker, plan: Plan) -> str | None:
    """Why a broker with this plan cannot take over what is offered; None if it can."""
    found = {port.name: port for port in plan.ports}
    for port in offered.ports:
        planned = found.pop(port.name, None)
        if planned is None:
            return f"{port.name}: it is handed over, and this broker has none"
        if planned.transport != "wire":
            return f"{port.name}: it is handed over, and here libzmq serves it; expected transport='wire'"
        if planned.socket_type.name != port.type:
            return (
                f"{port.name}: a {port.type} is handed over; expected that in the place of {planned.socket_type.name}"
            )
        asked_for = tuple(map(str, planned.endpoints))
        if asked_for != port.asked_for:
            given, asked = " ".join(port.asked_for), " ".join(asked_for)
            return f"{port.name}: {given} is handed over; expected that in the place of {asked}"
    return f"{next(iter(found))}: it is not handed over with the others" if found else None


# -- the state of a broker ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MovedFlow:
    """What a flow has counted, and the message that it holds."""

    accounts: tuple[tuple[int, ...], ...]
    """Of each part of its pump (`parts_of`)."""
    stalls: int
    stalled_s: float
    waits: tuple[int, ...] = NO_WAITS
    waited_s: float = 0.0
    held: tuple[bytes, ...] | None = None
    destination: tuple[int, ...] = ()
    counters: tuple[int, ...] = (0, 0, 0)
    """What was added, filtered and failed."""


@dataclass(frozen=True)
class MovedFile:
    """The file of an `ipc://` path."""

    path: str
    device: int
    inode: int
    directory: str | None


@dataclass(frozen=True)
class MovedPort:
    """A port: its socket, its endpoints and its files. `descriptors` is how many of those that travel beside are its
    own."""

    socket: "MovedSocket"
    endpoints: tuple[str, ...]
    files: tuple[MovedFile, ...]
    descriptors: int


@dataclass(frozen=True)
class MovedBroker:
    """All that another process needs to go on with a broker, but for the descriptors."""

    name: str
    paused: bool
    ports: tuple[MovedPort, ...]
    flows: tuple[MovedFlow, ...]


_LENGTHS: Final = struct.Struct("<Q")


def write_state(brokers: list[MovedBroker]) -> bytes:
    """The body of STATE: its JSON behind the length of that, and then the records of the ports."""
    told = {"brokers": [_tell_broker(broker) for broker in brokers]}
    text = json.dumps(told).encode()
    records = [port.socket.record for broker in brokers for port in broker.ports]
    return b"".join((_LENGTHS.pack(len(text)), text, *records))


def _tell_broker(broker: MovedBroker) -> dict[str, object]:
    return {
        "name": broker.name,
        "paused": broker.paused,
        "ports": [
            {
                "record_bytes": len(port.socket.record),
                "streams": [vars(stream) for stream in port.socket.streams],
                "too_long": port.socket.too_long,
                "endpoints": port.endpoints,
                "files": [vars(file) for file in port.files],
                "descriptors": port.descriptors,
            }
            for port in broker.ports
        ],
        "flows": [
            vars(flow) | {"held": None if flow.held is None else [base64.b64encode(one).decode() for one in flow.held]}
            for flow in broker.flows
        ],
    }


def read_state(body: bytes) -> list[MovedBroker]:
    """What `write_state` has written. Raises `HandOverError`."""
    if len(body) < _LENGTHS.size:
        raise HandOverError("STATE is cut")
    (length,) = _LENGTHS.unpack_from(body)
    if length > len(body) - _LENGTHS.size:
        raise HandOverError("STATE is cut")
    records = _Records(body, _LENGTHS.size + length)
    told = parse(body[_LENGTHS.size : _LENGTHS.size + length], "STATE")
    brokers = Fields(told, "STATE").list("brokers", lambda one, where: _read_broker(one, where, records))
    if records.at != len(body):
        raise HandOverError(f"STATE has {len(body) - records.at} bytes behind its end")
    return brokers


class _Records:
    """The records of ports, one behind the other."""

    def __init__(self, body: bytes, at: int) -> None:
        self._body = body
        self.at = at

    def take(self, size: int, where: str) -> bytes:
        if size > len(self._body) - self.at:
            raise HandOverError(f"{where}: its record is cut")
        self.at += size
        return self._body[self.at - size : self.at]


def _read_broker(told: object, where: str, records: _Records) -> MovedBroker:
    fields = Fields(told, where)
    name = fields.get("name", str)
    where = f"STATE: brokers.{name}"
    fields = Fields(told, where)
    ports = fields.list("ports", lambda one, place: _read_moved_port(one, place, records))
    return MovedBroker(name, fields.get("paused", bool), tuple(ports), tuple(fields.list("flows", _read_flow)))


def _read_moved_port(told: object, where: str, records: _Records) -> MovedPort:
    sockets: Any = import_module("pollbroker.wire.sockets")  # it may not have been built
    fields = Fields(told, where)
    record = records.take(fields.number("record_bytes"), where)
    streams = tuple(fields.list("streams", _read_stream))
    socket = sockets.MovedSocket(record, streams, fields.number("too_long"))
    endpoints = tuple(fields.list("endpoints", read_text))
    return MovedPort(socket, endpoints, tuple(fields.list("files", _read_file)), fields.number("descriptors"))


def _read_stream(told: object, where: str) -> Any:
    streams: Any = import_module("pollbroker.wire.streams")
    fields = Fields(told, where)
    kind, place = fields.get("kind", str), fields.get("place", int)
    if kind not in (streams.LISTENING, streams.CONNECTED, streams.CONNECTING, streams.WAITING, streams.OVER):
        raise HandOverError(f"{where}.kind: {kind!r:.60}: there is no such stream")
    if not -1 <= place < 1 << 31 or (place >= 0) != (kind == streams.CONNECTED):
        raise HandOverError(f"{where}.place: {place}: it does not fit the stream, which is {kind}")
    return streams.MovedStream(
        kind, fields.get("address", str), fields.get("asked_for", str), place, fields.seconds("wait_s"),
        fields.seconds("interval_s"),
    )  # fmt: skip


def _read_file(told: object, where: str) -> MovedFile:
    fields = Fields(told, where)
    directory = told.get("directory") if isinstance(told, dict) else None
    if directory is not None:
        directory = read_text(directory, f"{where}.directory")
    return MovedFile(fields.get("path", str), fields.number("device"), fields.number("inode"), directory)


def _read_flow(told: object, where: str) -> MovedFlow:
    fields = Fields(told, where)
    held = None
    if not isinstance(told, dict) or told.get("held") is not None:
        held = tuple(fields.list("held", _read_bytes))
    return MovedFlow(
        tuple(fields.list("accounts", _read_numbers)),
        fields.number("stalls"),
        fields.seconds("stalled_s"),
        tuple(fields.list("waits", read_number)),
        fields.seconds("waited_s"),
        held,
        tuple(fields.list("destination", read_number)),
        tuple(fields.list("counters", read_number)),
    )


def _read_numbers(told: object, where: str) -> tuple[int, ...]:
    return tuple(Fields({"numbers": told}, where).list("numbers", read_number))
