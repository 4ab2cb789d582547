"""What is to be done, as plain data that travels to the child processes as JSON.

`Work` is one cell of a table. From it the parent makes what each child is told: a `Deployment` for the process that
runs the brokers and a `Load` for each that sends or receives. Nothing here imports zmq, so nothing weighs on a child.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

# libzmq's own default: what a user who sets nothing gets.
DEFAULT_HIGH_WATER_MARK = 1000
# What is published without loss is bounded by what subscribers have seen, behind several queues: with more room in
# each, how long a message takes does not bound how many a second there are.
PUBLISHED_HIGH_WATER_MARK = 10_000
# A queue of 1,000 messages of 1 MiB, four times over on the way through a broker, would be 4 GB and measure the page
# faults of the machine. A queue holds at most so many bytes.
QUEUE_BYTES = 64 << 20
# The load at many pairs is one socket connected to all of them. Its requests on the way: enough for eight clients a
# pair, and with few pairs no fewer than one pair alone is given.
SHARED_WINDOW, SHARED_WINDOW_PER_PAIR = 500, 8
# The reply to STATISTICS, by libzmq's protocol: so many frames of so many bytes.
STATISTICS_FRAMES, STATISTICS_SIZE = 8, 8


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
        # A source and a sink that speak ZMTP themselves, and so cost next to nothing: tcp only.
        "wire": Traffic("streamer", Side("wire_source", "PUSH"), Side("wire_sink", "PULL"), "backend"),
        "forwarder": Traffic("forwarder", Side("publisher", "PUB"), Side("subscriber", "SUB"), "backend"),
        "queue": Traffic("queue", Side("requester", "DEALER"), Side("echo", "DEALER"), "frontend"),
        "requests": Traffic("queue", Side("poster", "DEALER"), Side("collector", "DEALER"), "backend"),
        # A REP sends each reply to the broker that the request came through, so one can serve any number of them.
        "replies": Traffic("queue", Side("requester", "DEALER"), Side("echo", "REP"), "frontend"),
        "round trip": Traffic("queue", Side("lockstep", "REQ"), Side("echo", "REP"), "frontend"),
    }
)

# What steers brokers while the traffic runs; a side of its own, which any traffic may have beside its two.
CONTROL = Side("commander", "REQ")


# What is given a copy of all that passes; also a side of its own. It binds, so that the brokers can be told where.
CAPTURE = Side("witness", "SUB")
# What precedes a copy: the first where the message came from the frontend, the second where from the backend.
CAPTURE_PREFIXES = ("in", "out")


@dataclass(frozen=True)
class Work:
    """One kind of traffic through one broker process.

    `size` is in bytes a frame; `frames` does not count the envelope that a queue adds. Load runs through the first
    `pairs` brokers; `idle_pairs` more stand beside them, bound, with no peer. `limit` ends a source after so many
    messages (0: never). `shared`: the load at each side is one socket connected to every pair, which costs it the same
    however many those are. `controlled`: the broker has a control socket. `captured`: a witness is given a copy of what
    passes through the first pair.

    Of a forwarder: each pair has one publisher, which takes its `topics` in turn, and `subscribers`, each subscribed to
    one of them. `paced`: the publisher keeps a bounded number of messages on the way that a subscriber has not seen.

    What a user may set of a broker, and the load does not follow: `mark`, the high-water mark of its sockets (None:
    that of the load), `io_threads` of its context, and `engine`, arguments of pollbroker's `Engine`, by name.
    """

    traffic: str
    transport: str = "tcp"
    size: int = 64
    frames: int = 1
    pairs: int = 1
    idle_pairs: int = 0
    peers: int = 1
    limit: int = 0
    shared: bool = False
    controlled: bool = False
    captured: bool = False
    subscribers: int = 1
    topics: int = 1
    paced: bool = True
    mark: int | None = None
    io_threads: int = 1
    engine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def high_water_mark(self) -> int:
        """Messages that each queue of each socket may hold: of the load, and without `mark` of every peer."""
        wanted = PUBLISHED_HIGH_WATER_MARK if self.traffic == "forwarder" and self.paced else DEFAULT_HIGH_WATER_MARK
        return max(16, min(wanted, QUEUE_BYTES // (self.size * self.frames)))

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

    def deployment(self, module: str, directory: Path, captures: tuple[str, ...] = ()) -> Deployment:
        """What the broker process is told; `module` is the peer's, `captures` are where its witnesses are."""
        count = self.pairs + self.idle_pairs
        return Deployment(
            module=module,
            device=TRAFFIC[self.traffic].device,
            frontends=self.endpoints("frontend", count, directory),
            backends=self.endpoints("backend", count, directory),
            high_water_mark=self.high_water_mark if self.mark is None else self.mark,
            control=f"ipc://{directory}/control" if self.controlled else "",
            captures=captures,
            io_threads=self.io_threads,
            engine=self.engine,
        )

    def described(self) -> dict[str, str | int | float]:
        """The work as the results keep it: flat, the high-water mark told, and `mark` only where it is set."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "engine"}
        named = {name: value for name, value in fields.items() if value is not None}
        return {**named, "high_water_mark": self.high_water_mark, **self.engine}

    def load(self, side: str, endpoints: tuple[str, ...], directory: Path, *, bind: bool = False) -> Load:
        """What the load at the port `side` is told; it connects unless `bind`."""
        role: Side = getattr(TRAFFIC[self.traffic], side)
        sockets = self.subscribers if role.role == "subscriber" else self.peers
        return Load(
            role=role.role,
            socket=role.socket,
            endpoints=endpoints if bind else endpoints * sockets,
            bind=bind,
            size=self.size,
            frames=self.frames,
            limit=self.limit,
            window=self._window,
            high_water_mark=self.high_water_mark,
            shared=self.shared,
            subscribers=self.subscribers,
            topics=self.topics,
            seen=str(directory / "seen") if role.role in ("publisher", "subscriber") else "",
        )

    @property
    def _window(self) -> int:
        if self.shared:
            return max(SHARED_WINDOW, SHARED_WINDOW_PER_PAIR * self.pairs)
        if self.traffic == "forwarder":
            # Half a mark would do here too, but for the millisecond that a busy XPUB does not look at what was read.
            return self.high_water_mark // 4 if self.paced else 0
        # A ROUTER drops a reply that finds its pipe full, and libzmq hears only every half a high-water mark that
        # the pipe was read. With half of it on the way, no reply is ever dropped.
        return self.high_water_mark // 2

    def witness(self, directory: Path) -> Load:
        """What is told to the load that receives the copies. It is started before the brokers."""
        return Load(
            role=CAPTURE.role,
            socket=CAPTURE.socket,
            endpoints=self.endpoints("capture", 1, directory),
            bind=True,
            size=self.size,
            frames=self.frames,
            limit=0,
            window=0,
            high_water_mark=self.high_water_mark,
        )

    def commander(self, control: str) -> Load:
        """What is told to the load that asks for statistics at the control socket, one command after the other."""
        return Load(
            role=CONTROL.role,
            socket=CONTROL.socket,
            endpoints=(control,),
            bind=False,
            size=STATISTICS_SIZE,
            frames=STATISTICS_FRAMES,
            limit=0,
            window=1,
            high_water_mark=self.high_water_mark,
        )


@dataclass(frozen=True)
class Deployment:
    """What a broker process is told: the peer's module, the device, the endpoints of each pair, and of the control.

    `captures`: to what the capture sockets of the first pairs connect. `io_threads` are of the process's context,
    `engine` arguments of pollbroker's engine, which no other peer has.
    """

    module: str
    device: str
    frontends: tuple[str, ...]
    backends: tuple[str, ...]
    high_water_mark: int
    control: str = ""
    captures: tuple[str, ...] = ()
    io_threads: int = 1
    engine: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """What one load is told. `role` is a C function, `load_ROLE`; `window` counts what is on the way for each socket.

    `shared`: one socket has all the endpoints, instead of one each. `module` is the library that the load speaks.
    `seen` is the file by which a publisher learns how far its subscribers are.
    """

    role: str
    socket: str
    endpoints: tuple[str, ...]
    bind: bool
    size: int
    frames: int
    limit: int
    window: int
    high_water_mark: int
    shared: bool = False
    module: str = "bench.load.role"
    subscribers: int = 1
    topics: int = 1
    seen: str = ""


@dataclass(frozen=True)
class Assignment:
    """What a child process runs: brokers, loads, or (inproc) both; `growth` more brokers are timed, one by one."""

    brokers: Deployment | None = None
    loads: tuple[Load, ...] = ()
    growth: int = 0

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Assignment:
        """The assignment that `dataclasses.asdict` and `json` took apart."""
        brokers = told["brokers"]
        loads = tuple(Load(**load) for load in told["loads"])
        return cls(Deployment(**brokers) if brokers else None, loads, told["growth"])


@dataclass(frozen=True)
class Started:
    """A child's first line: where it is bound, and how long each broker took that it added and removed (`growth`)."""

    frontends: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    loads: tuple[tuple[str, ...], ...] = ()
    added_ms: tuple[float, ...] = ()
    removed_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class LoadSample:
    """What a load has done so far. The percentiles are of the round trips since the sample before.

    `missed` are messages that were published to a subscriber and did not arrive.
    """

    messages: int
    malformed: int
    failure: int
    round_trips_us: Mapping[str, float] = field(default_factory=dict)
    missed: int = 0


@dataclass(frozen=True)
class ProcessSample:
    """A child process at one moment of its own clock; CPU is user and system, libzmq's threads included."""

    time_s: float
    cpu_s: float
    resident_kib: int
    threads: int
    loads: tuple[LoadSample, ...] = ()
