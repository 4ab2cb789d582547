"""STATE: what another process needs to go on with brokers, besides the descriptors, which travel beside it.

What is read is checked field by field, and refused whole with the place of the fault.
"""

import base64
import binascii
import json
import struct
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from pollbroker.continuing import FLOW_COUNTERS, PORT_COUNTERS
from pollbroker.errors import HandOverError
from pollbroker.frozen import FrozenDict
from pollbroker.handing_over.channel import parse
from pollbroker.handing_over.description import Fields, read_number, read_text
from pollbroker.states import BrokerState
from pollbroker.statistics import BrokerStatistics, FlowStatistics, PortStatistics
from pollbroker.waits import NO_WAITS

if TYPE_CHECKING:
    from pollbroker.wire.sockets import MovedSocket


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
    earlier: BrokerStatistics | None = None
    """What an earlier broker has counted, whose counters this one goes on with."""


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
        "earlier": None if broker.earlier is None else _tell_earlier(broker.earlier),
        "ports": [
            {
                "record_bytes": len(port.socket.record),
                "streams": [vars(stream) for stream in port.socket.streams],
                "too_long": port.socket.too_long,
                "missed": port.socket.missed,
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


def _tell_earlier(earlier: BrokerStatistics) -> dict[str, object]:
    ports = {
        name: {counter: getattr(port, counter) for counter in PORT_COUNTERS}
        | {"connections_ended": dict(port.connections_ended)}
        for name, port in earlier.ports.items()
    }
    flows = {
        source: {counter: getattr(flow, counter) for counter in FLOW_COUNTERS}
        | {"stalled_s": flow.stalled_s, "waits": flow.waits, "waited_s": flow.waited_s}
        for source, flow in earlier.flows.items()
    }
    return {"ports": ports, "flows": flows}


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
    earlier = told.get("earlier") if isinstance(told, dict) else None
    return MovedBroker(
        name,
        fields.get("paused", bool),
        tuple(ports),
        tuple(fields.list("flows", _read_flow)),
        None if earlier is None else _read_earlier(earlier, name, f"{where}.earlier"),
    )


def _read_earlier(told: object, name: str, where: str) -> BrokerStatistics:
    fields = Fields(told, where)
    return BrokerStatistics(
        name=name,
        device="",
        state=BrokerState.REMOVED,
        error=None,
        flows=FrozenDict(fields.mapping("flows", _read_earlier_flow)),
        ports=FrozenDict(fields.mapping("ports", _read_earlier_port)),
    )


def _read_earlier_flow(told: object, where: str) -> FlowStatistics:
    fields = Fields(told, where)
    counters: dict[str, Any] = {counter: fields.number(counter) for counter in FLOW_COUNTERS}
    waits = tuple(fields.list("waits", read_number))
    if len(waits) != len(NO_WAITS):
        raise HandOverError(f"{where}.waits: a histogram of {len(waits)} counts; expected {len(NO_WAITS)}")
    return FlowStatistics(
        **counters, stalled_s=fields.seconds("stalled_s"), waits=waits, waited_s=fields.seconds("waited_s")
    )


def _read_earlier_port(told: object, where: str) -> PortStatistics:
    fields = Fields(told, where)
    counters: dict[str, Any] = {counter: fields.number(counter) for counter in PORT_COUNTERS}
    ended = FrozenDict(fields.mapping("connections_ended", read_number))
    return PortStatistics("", (), **counters, connections_ended=ended)


def _read_moved_port(told: object, where: str, records: _Records) -> MovedPort:
    sockets: Any = import_module("pollbroker.wire.sockets")  # it may not have been built
    fields = Fields(told, where)
    record = records.take(fields.number("record_bytes"), where)
    streams = tuple(fields.list("streams", _read_stream))
    socket = sockets.MovedSocket(record, streams, fields.number("too_long"), fields.number("missed"))
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


def _read_bytes(told: object, where: str) -> bytes:
    try:
        return base64.b64decode(read_text(told, where), validate=True)
    except (ValueError, binascii.Error) as error:
        raise HandOverError(f"{where}: {error}") from error


def _read_numbers(told: object, where: str) -> tuple[int, ...]:
    return tuple(Fields({"numbers": told}, where).list("numbers", read_number))
