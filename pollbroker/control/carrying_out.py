"""What each command does.

A command is carried out whole, or it raises `PollbrokerError` and has changed nothing.
"""

import json
import logging
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import product
from typing import Final, cast

from pollbroker.broker import Broker
from pollbroker.control.replies import DONE, OK, Frames, Later, MakeDocument
from pollbroker.control.steered import Steered
from pollbroker.control.waiting import DRAIN_S, drain, pause_and_flush
from pollbroker.device import CAPTURE
from pollbroker.errors import EngineError
from pollbroker.states import BrokerState
from pollbroker.statistics import BrokerStatistics, PeerStatistics

_logger = logging.getLogger("pollbroker")


def _steer(engine: Steered, steer: Callable[[str], None], name: str | None) -> Frames:
    if name is not None:
        steer(name)
        return DONE
    for each, broker in engine.brokers.items():
        try:
            steer(each)
        except EngineError:
            if broker.state in (BrokerState.RUNNING, BrokerState.PAUSED):
                raise  # a broker that has ended or is about to must not keep the others from being steered
    return DONE


def _call_for_one(call: Callable[[Steered, str], object], engine: Steered, name: str | None) -> Frames:
    assert name is not None, "the command must name a broker"
    call(engine, name)
    return DONE


def _terminate(engine: Steered, name: str | None) -> Frames:
    if name is None:
        engine.stop()
    else:
        engine.remove(name, timeout_s=0.0)
        _logger.info("control: brokers.%s: terminated", name)
    return DONE


def _statistics(engine: Steered, name: str | None) -> Frames:
    brokers = engine.statistics().brokers.values() if name is None else (engine.broker_statistics(name),)
    return _reply_of_counts(map(_counts, brokers))


def _statistics_in_portions(engine: Steered, _: MakeDocument) -> Later:
    told = engine.begin_for_each(lambda broker: _counts(engine.broker_statistics(broker.name)))
    return Later(told, lambda: _reply_of_counts(told.result().values()), in_order=True)


def _counts(broker: BrokerStatistics) -> list[int]:
    """The numbers of STATISTICS. The first port of a device counts as libzmq's frontend, all others as its backend;
    captured copies nowhere."""
    counts = dict.fromkeys(product(("frontend", "backend"), ("received", "sent"), ("frames", "bytes")), 0)
    ports = [port for name, port in broker.ports.items() if name != CAPTURE]
    for index, port in enumerate(ports):
        side = "backend" if index else "frontend"
        # libzmq counts what its proxy with one socket sends as the backend's.
        for of, way in ((side, "received"), ("backend" if len(ports) == 1 else side, "sent")):
            for unit in ("frames", "bytes"):
                counts[of, way, unit] += getattr(port, f"{way}_{unit}")
    return list(counts.values())


def _reply_of_counts(counts: Iterable[list[int]]) -> Frames:
    return [struct.pack("=Q", sum(column) % (1 << 64)) for column in zip([0] * 8, *counts, strict=True)]


def _call(call: Callable[[], object], engine: Steered, name: str | None) -> Frames:  # noqa: ARG001 - as the others
    call()
    return DONE


def _list(engine: Steered, _: str | None) -> Frames:
    return [OK, *(name.encode() for name in engine.brokers)]


def _stats(engine: Steered, name: str | None) -> Frames:
    return [OK, _json(engine.statistics() if name is None else engine.broker_statistics(name))]


def _stats_in_portions(engine: Steered, make_document: MakeDocument) -> Later:
    about = {name: value for name, value in vars(engine.statistics(())).items() if name != "brokers"}
    before = _json(about)[:-1] + b', "brokers": {'
    return _document_in_portions(
        engine, make_document, lambda broker: engine.broker_statistics(broker.name), before, b"}}"
    )


def _peers(engine: Steered, name: str | None) -> Frames:
    brokers = engine.brokers
    if name is not None:
        return [OK, _json(_peers_of(brokers[name]))]
    return [OK, _json({each: _peers_of(broker) for each, broker in brokers.items()})]


def _peers_in_portions(engine: Steered, make_document: MakeDocument) -> Later:
    return _document_in_portions(engine, make_document, _peers_of, b"{", b"}")


def _document_in_portions(
    engine: Steered, make_document: MakeDocument, ask: Callable[[Broker], object], before: bytes, after: bytes
) -> Later:
    """A JSON document with a member for each broker, which grows while they are asked: to join all members at the end
    would take milliseconds."""
    document = make_document()
    document.extend(before)

    def add(broker: Broker) -> None:
        separator = b"" if len(document) == len(before) else b", "
        document.extend(separator + _json(broker.name) + b": " + _json(ask(broker)))

    asked = engine.begin_for_each(add)

    def reply() -> Frames:
        asked.result()
        document.extend(after)
        return [OK, cast(bytes, document)]

    return Later(asked, reply, in_order=True)


def _peers_of(broker: Broker) -> list[dict[str, object]]:
    return list(map(_as_json, broker.peers()))


def _json(what: object) -> bytes:
    return json.dumps(what, default=vars).encode()


def _as_json(peer: PeerStatistics) -> dict[str, object]:
    """The fields of a peer. A routing id that is not printable text is told in hexadecimal digits."""
    try:
        routing_id = peer.routing_id.decode()
    except UnicodeDecodeError:
        routing_id = ""
    if not routing_id.isprintable() or not routing_id:
        routing_id = f"0x{peer.routing_id.hex()}" if peer.routing_id else ""
    return vars(peer) | {"routing_id": routing_id}


class Naming(Enum):
    """Whether a command names a broker."""

    NEVER = "the command alone"
    MAY = "the command and a broker's name"
    MUST = "the command and the name of a broker"


@dataclass(frozen=True)
class Command:
    """How one command is carried out."""

    call: Callable[[Steered, str | None], Frames] | None
    """Carries it out, and returns the reply. None if the command always takes time."""
    naming: Naming = Naming.MAY
    wait: Callable[[Steered, str | None, float], Later] | None = None
    """Carries it out if it may take time, so many seconds. None if it never takes time."""
    wait_s: float | None = None
    """How long it may take if the command does not say. None if it takes no time then."""
    in_portions: Callable[[Steered, MakeDocument], Later] | None = None
    """Carries it out for all brokers, a few in each turn; None for a command that takes little time. It is given what
    makes the document of its reply, if that is one."""

    @classmethod
    def for_one_broker(cls, call: Callable[[Steered, str], object]) -> "Command":
        """A command that has to name a broker, and calls a function with it. It is answered as PAUSE is."""
        return cls(partial(_call_for_one, call), Naming.MUST)

    @property
    def most_frames(self) -> int:
        """The most frames that the command may have."""
        return 1 + (self.naming is not Naming.NEVER) + (self.wait is not None)

    @property
    def expected(self) -> str:
        """Its frames, for error messages."""
        return self.naming.value if self.wait is None else "the command, a broker's name and seconds"


def further_command(call: Callable[[], object]) -> Command:
    """A command that takes no argument and calls a function. It is answered as PAUSE is."""
    return Command(partial(_call, call), Naming.NEVER)


COMMANDS: Final[Mapping[bytes, Command]] = {
    b"PAUSE": Command(lambda engine, name: _steer(engine, engine.pause, name), wait=pause_and_flush),
    b"RESUME": Command(lambda engine, name: _steer(engine, engine.resume, name)),
    b"TERMINATE": Command(_terminate),
    b"STATISTICS": Command(_statistics, in_portions=_statistics_in_portions),
    b"LIST": Command(_list, Naming.NEVER),
    b"STATS": Command(_stats, in_portions=_stats_in_portions),
    b"PEERS": Command(_peers, in_portions=_peers_in_portions),
    b"DRAIN": Command(None, wait=drain, wait_s=DRAIN_S),
    b"DISABLE": Command.for_one_broker(lambda engine, name: engine.disable(name)),
    b"ENABLE": Command.for_one_broker(lambda engine, name: engine.enable(name)),
    b"RECONNECT": Command.for_one_broker(lambda engine, name: engine.reconnect(name)),
}
"""The commands that every engine knows."""
