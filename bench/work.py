"""What is to be done, as plain data that travels to the child processes as JSON.

`Work` is one cell of a table. From it the parent makes what each child is told: a `Deployment` for the process that
runs the brokers and a `Load` for each that sends or receives. Nothing here imports zmq, so nothing weighs on a child.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

# libzmq's own default: what a user who sets nothing gets.
DEFAULT_HIGH_WATER_MARK = 1000
# A queue of 1,000 messages of 1 MiB, four times over on the way through a broker, would be 4 GB and measure the page
# faults of the machine. A queue holds at most so many bytes.
QUEUE_BYTES = 64 << 20


@dataclass(frozen=True)
class Side:
    """The load at one port of the broker."""

    role: str
    socket: str


@dataclass(frozen=True)
class Traffic:
    """Which device is driven by which load, and on which side messages are counted."""

    device: str
    frontend: Side
    backend: Side
    counter: str


TRAFFIC: Mapping[str, Traffic] = MappingProxyType(
    {
        "streamer": Traffic("streamer", Side("source", "PUSH"), Side("sink", "PULL"), "backend"),
        "forwarder": Traffic("forwarder", Side("source", "PUB"), Side("sink", "SUB"), "backend"),
        "queue": Traffic("queue", Side("requester", "DEALER"), Side("echo", "DEALER"), "frontend"),
        "requests": Traffic("queue", Side("poster", "DEALER"), Side("collector", "DEALER"), "backend"),
        "round trip": Traffic("queue", Side("lockstep", "REQ"), Side("echo", "REP"), "frontend"),
    }
)


@dataclass(frozen=True)
class Work:
    """One kind of traffic through one broker process.

    `size` is in bytes a frame; `frames` does not count the envelope that a queue adds. Load runs through the first
    `pairs` brokers; `idle_pairs` more stand beside them, bound, with no peer. `limit` ends a source after so many
    messages (0: never).
    """

    traffic: str
    transport: str = "tcp"
    size: int = 64
    frames: int = 1
    pairs: int = 1
    idle_pairs: int = 0
    peers: int = 1
    limit: int = 0

    @property
    def high_water_mark(self) -> int:
        """Messages that each queue of each socket may hold, the same for every peer and for the load."""
        return max(16, min(DEFAULT_HIGH_WATER_MARK, QUEUE_BYTES // (self.size * self.frames)))

    @property
    def together(self) -> bool:
        """Whether broker and load must share a process, and so its CPU time."""
        return self.transport == "inproc"

    def endpoints(self, side: str, count: int, directory: Path) -> tuple[str, ...]:
        """Where to bind: wildcard ports, paths under `directory`, or inproc names."""
        match self.transport:
            case "tcp":
                return ("tcp://127.0.0.1:*",) * count
            case "ipc":
                return tuple(f"ipc://{directory}/{side}{index}" for index in range(count))
            case "inproc":
                return tuple(f"inproc://{side}{index}" for index in range(count))
        raise ValueError(f"transport {self.transport!r}: expected tcp, ipc or inproc")

    def deployment(self, module: str, directory: Path) -> Deployment:
        """What the broker process is told; `module` is the peer's."""
        count = self.pairs + self.idle_pairs
        return Deployment(
            module=module,
            device=TRAFFIC[self.traffic].device,
            frontends=self.endpoints("frontend", count, directory),
            backends=self.endpoints("backend", count, directory),
            high_water_mark=self.high_water_mark,
        )

    def load(self, side: str, endpoints: tuple[str, ...], *, bind: bool = False) -> Load:
        """What the load at the port `side` is told; it connects unless `bind`."""
        role: Side = getattr(TRAFFIC[self.traffic], side)
        return Load(
            role=role.role,
            socket=role.socket,
            endpoints=endpoints if bind else endpoints * self.peers,
            bind=bind,
            size=self.size,
            frames=self.frames,
            limit=self.limit,
            # A ROUTER drops a reply that finds its pipe full, and libzmq hears only every half a high-water mark that
            # the pipe was read. With half of it on the way, no reply is ever dropped.
            window=self.high_water_mark // 2,
            high_water_mark=self.high_water_mark,
        )


@dataclass(frozen=True)
class Deployment:
    """What a broker process is told: the peer's module, the device, the endpoints of each pair."""

    module: str
    device: str
    frontends: tuple[str, ...]
    backends: tuple[str, ...]
    high_water_mark: int


@dataclass(frozen=True)
class Load:
    """What one load is told. `role` is a function of load.c; `window` counts requests on the way for each socket."""

    role: str
    socket: str
    endpoints: tuple[str, ...]
    bind: bool
    size: int
    frames: int
    limit: int
    window: int
    high_water_mark: int


@dataclass(frozen=True)
class Assignment:
    """What a child process runs: brokers, loads, or (inproc) both."""

    brokers: Deployment | None = None
    loads: tuple[Load, ...] = ()

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Assignment:
        """The assignment that `dataclasses.asdict` and `json` took apart."""
        brokers = told["brokers"]
        return cls(Deployment(**brokers) if brokers else None, tuple(Load(**load) for load in told["loads"]))


@dataclass(frozen=True)
class Started:
    """A child's first line: where it is bound."""

    frontends: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    loads: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class LoadSample:
    """What a load has done so far. The percentiles are of the round trips since the sample before."""

    messages: int
    malformed: int
    failure: int
    round_trips_us: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ProcessSample:
    """A child process at one moment of its own clock; CPU is user and system, libzmq's threads included."""

    time_s: float
    cpu_s: float
    resident_kib: int
    threads: int
    loads: tuple[LoadSample, ...] = ()
