"""What each command does.

A command is carried out whole, or it raises `PollbrokerError` and has changed nothing.
"""

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from itertools import product
from typing import Final

from pollbroker.control.replies import DONE, OK, Frames, Later
from pollbroker.control.steered import Steered
from pollbroker.control.waiting import DRAIN_S, drain, pause_and_flush
from pollbroker.device import CAPTURE
from pollbroker.errors import EngineError
from pollbroker.states import BrokerState
from pollbroker.statistics import PeerStatistics


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
    return DONE


def _statistics(engine: Steered, name: str | None) -> Frames:
    """The first port of a device counts as libzmq's frontend, all others as its backend; captured copies nowhere."""
    counts = dict.fromkeys(product(("frontend", "backend"), ("received", "sent"), ("frames", "bytes")), 0)
    for broker in engine.statistics().brokers.values() if name is None else (engine.broker_statistics(name),):
        ports = [port for name, port in broker.ports.items() if name != CAPTURE]
        for index, port in enumerate(ports):
            side = "backend" if index else "frontend"
            # libzmq counts what its proxy with one socket sends as the backend's.
            for of, way in ((side, "received"), ("backend" if len(ports) == 1 else side, "sent")):
                for unit in ("frames", "bytes"):
                    counts[of, way, unit] += getattr(port, f"{way}_{unit}")
    return [struct.pack("=Q", count % (1 << 64)) for count in counts.values()]


def _call(call: Callable[[], object], engine: Steered, name: str | None) -> Frames:  # noqa: ARG001 - as the others
    call()
    return DONE


def _list(engine: Steered, _: str | None) -> Frames:
    return [OK, *(name.encode() for name in engine.brokers)]


def _stats(engine: Steered, name: str | None) -> Frames:
    statistics = engine.statistics() if name is None else engine.broker_statistics(name)
    return [OK, json.dumps(statistics, default=vars).encode()]


def _peers(engine: Steered, name: str | None) -> Frames:
    brokers = engine.brokers
    told = {each: list(map(_as_json, brokers[each].peers())) for each in (brokers if name is None else (name,))}
    return [OK, json.dumps(told if name is None else told[name]).encode()]


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
    b"STATISTICS": Command(_statistics),
    b"LIST": Command(_list, Naming.NEVER),
    b"STATS": Command(_stats),
    b"PEERS": Command(_peers),
    b"DRAIN": Command(None, wait=drain, wait_s=DRAIN_S),
    b"DISABLE": Command.for_one_broker(lambda engine, name: engine.disable(name)),
    b"ENABLE": Command.for_one_broker(lambda engine, name: engine.enable(name)),
    b"RECONNECT": Command.for_one_broker(lambda engine, name: engine.reconnect(name)),
}
"""The commands that every engine knows."""
