"""What a measurement does, as plain data that is sent to the child processes as JSON.

`Work` describes one kind of measurement. From it the parent makes the instructions of each child: a `Deployment` for
the process that runs the brokers, and a `Load` for each process that sends or receives. This module does not import
zmq, so that a child imports only what it needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

# libzmq's default, which a user has who sets nothing.
DEFAULT_HIGH_WATER_MARK = 1000
# A paced publisher waits until subscribers have seen its messages, which are behind several queues. The queues are
# larger here, so that the time that a message takes does not limit the rate.
PUBLISHED_HIGH_WATER_MARK = 10_000
# The greatest number of bytes in a queue. The way through a broker has four queues; with 1,000 messages of 1 MiB each
# they would take 4 GB, and the bench would measure page faults.
QUEUE_BYTES = 64 << 20
# How many requests are on the way from a socket that is connected to many pairs: eight for each pair, as from eight
# clients, but not fewer than for a single pair.
SHARED_WINDOW, SHARED_WINDOW_PER_PAIR = 500, 8
# How often workers and brokers send heartbeats: what the ZeroMQ guide uses, and pollbroker's defaults.
MDP_HEARTBEAT_S, PPP_HEARTBEAT_S = 2.5, 1.0
# The number of frames, and the size of each, in the reply to STATISTICS.
STATISTICS_FRAMES, STATISTICS_SIZE = 8, 8


@dataclass(frozen=True)
class Side:
    """The load at one port of the broker."""

    role: str
    socket: str


@dataclass(frozen=True)
class Traffic:
    """A device, the load at each of its ports, and the side (`counter`) at which messages are counted.

    `heartbeat_s` is the time between two heartbeats of a worker that sends any.
    """

    device: str
    frontend: Side
    backend: Side
    counter: str
    heartbeat_s: float = 0.0


TRAFFIC: Mapping[str, Traffic] = MappingProxyType(
    {
        "streamer": Traffic("streamer", Side("source", "PUSH"), Side("sink", "PULL"), "backend"),
        # The source and the sink speak ZMTP without libzmq, so they take very little CPU time. Only tcp is possible.
        "wire": Traffic("streamer", Side("wire_source", "PUSH"), Side("wire_sink", "PULL"), "backend"),
        "forwarder": Traffic("forwarder", Side("publisher", "PUB"), Side("subscriber", "SUB"), "backend"),
        "queue": Traffic("queue", Side("requester", "DEALER"), Side("echo", "DEALER"), "frontend"),
        "requests": Traffic("queue", Side("poster", "DEALER"), Side("collector", "DEALER"), "backend"),
        # A REP sends each reply to the broker that the request came through, so one REP can serve any number of
        # brokers.
        "replies": Traffic("queue", Side("requester", "DEALER"), Side("echo", "REP"), "frontend"),
        # Workers that say that they are ready: those of the load balancing broker of the ZeroMQ guide, and of MDP.
        "balanced": Traffic("balancer", Side("requester", "DEALER"), Side("ready_worker", "DEALER"), "frontend"),
        "majordomo": Traffic("majordomo", Side("mdp_requester", "DEALER"), Side("mdp_worker", "DEALER"), "frontend"),
        # A worker is timed from its reply, with which it is ready again, to its next request.
        "balanced turns": Traffic("balancer", Side("requester", "DEALER"), Side("timed_worker", "DEALER"), "backend"),
        "majordomo turns": Traffic(
            "majordomo", Side("mdp_requester", "DEALER"), Side("timed_mdp_worker", "DEALER"), "backend"
        ),
        # Workers that have nothing to do. The heartbeats that they are sent are counted.
        "majordomo heartbeats": Traffic(
            "majordomo", Side("mdp_requester", "DEALER"), Side("mdp_beater", "DEALER"), "backend", MDP_HEARTBEAT_S
        ),
        "pirate heartbeats": Traffic(
            "paranoid_pirate", Side("requester", "DEALER"), Side("ppp_beater", "DEALER"), "backend", PPP_HEARTBEAT_S
        ),
        "round trip": Traffic("queue", Side("lockstep", "REQ"), Side("echo", "REP"), "frontend"),
        # Its worker answers other clients, too.
        "neighbour": Traffic("queue", Side("lockstep", "REQ"), Side("echo", "DEALER"), "frontend"),
    }
)

# The roles of which each pair has `Work.workers`.
WORKERS = ("ready_worker", "mdp_worker", "timed_worker", "timed_mdp_worker", "mdp_beater", "ppp_beater")

# The load that sends commands to the control socket. Any traffic may have it, in addition to its two sides.
CONTROL = Side("commander", "REQ")


# The load that receives the copies of a capture. It binds, so that the brokers can be told its address.
CAPTURE = Side("witness", "SUB")
# The prefixes of copies: of messages from the frontend, and of messages from the backend.
CAPTURE_PREFIXES = ("in", "out")


@dataclass(frozen=True)
class Work:
    """One kind of traffic through one broker process.

    - `size` is the size of a frame in bytes. `frames` does not include the envelope that a queue adds.
    - The load runs through the first `pairs` brokers. `idle_pairs` more are bound, and have no peer.
    - `limit` ends a source or a requester after that number of messages; with 0 it does not end.
    - `shared`: the load at each side is one socket connected to every pair. Its cost does not grow with the pairs.
    - `controlled`: the broker has a control socket.
    - `captured`: the load "witness" receives a copy of each message that passes through the first pair.
    - `ticking`: a task of the loop that runs the broker sleeps for a millisecond again and again (`bench/ticks.py`).

    For a broker that decides, each pair has `workers`. With `window`, each of its `peers` has so many requests on the
    way.

    For a forwarder, each pair has one publisher, which uses its `topics` in turn, and `subscribers`, each subscribed to
    one of them. `paced`: the publisher limits the number of its messages that a subscriber has not seen yet.

    Three settings are for the broker only, and not for the load: `mark`, the high-water mark of its sockets (None: the
    same as the load's), `io_threads` of its context, and `engine`, the arguments of pollbroker's `Engine` by name.
    """

    traffic: str
    transport: str = "tcp"
    size: int = 64
    frames: int = 1
    pairs: int = 1
    idle_pairs: int = 0
    peers: int = 1
    workers: int = 1
    window: int | None = None
    limit: int = 0
    shared: bool = False
    controlled: bool = False
    captured: bool = False
    ticking: bool = False
    subscribers: int = 1
    topics: int = 1
    paced: bool = True
    mark: int | None = None
    io_threads: int = 1
    engine: Mapping[str, Any] = field(default_factory=dict)

    @property
    def high_water_mark(self) -> int:
        """How many messages each queue of a socket may hold: of the load's sockets and, without `mark`, of the
        broker's."""
        wanted = PUBLISHED_HIGH_WATER_MARK if self.traffic == "forwarder" and self.paced else DEFAULT_HIGH_WATER_MARK
        return max(16, min(wanted, QUEUE_BYTES // (self.size * self.frames)))

    @property
    def together(self) -> bool:
        """Return True if broker and load must share a process. The CPU time is then that of both."""
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
        """The instructions for the broker process. `captures` are the addresses to which its capture sockets
        connect."""
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
            ticking=self.ticking,
        )

    def described(self) -> dict[str, str | int | float]:
        """The work as it is kept in the results: as one flat mapping, with the high-water mark, and without unset
        fields."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "engine"}
        named = {name: value for name, value in fields.items() if value is not None}
        return {**named, "high_water_mark": self.high_water_mark, **self.engine}

    def load(self, side: str, endpoints: tuple[str, ...], directory: Path, *, bind: bool = False) -> Load:
        """The instructions for the load at the port `side`. It connects, unless `bind` is True."""
        role: Side = getattr(TRAFFIC[self.traffic], side)
        sockets = self._sockets(role.role)
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
            heartbeat_s=TRAFFIC[self.traffic].heartbeat_s,
            seen=str(directory / "seen") if role.role in ("publisher", "subscriber") else "",
        )

    def _sockets(self, role: str) -> int:
        """How many sockets of a role each pair has."""
        if role == "subscriber":
            return self.subscribers
        return self.workers if role in WORKERS else self.peers

    @property
    def _window(self) -> int:
        if self.window is not None:
            return self.window
        if self.shared:
            return max(SHARED_WINDOW, SHARED_WINDOW_PER_PAIR * self.pairs)
        if self.traffic == "forwarder":
            # Half a high-water mark is too much here: for up to a millisecond a busy XPUB does not notice what was
            # read.
            return self.high_water_mark // 4 if self.paced else 0
        # A ROUTER drops a reply whose pipe is full, and libzmq reports only after every half a high-water mark that the
        # pipe was read. With at most half a mark of requests on the way, no reply is dropped.
        return self.high_water_mark // 2

    def witness(self, directory: Path) -> Load:
        """The instructions for the load that receives the copies. It is started before the brokers."""
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
        """The instructions for the load that sends STATISTICS to the control socket, one command after the other."""
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
    """The instructions for a broker process: the peer's module, the device, and the endpoints of its pairs and control.

    `captures` are the addresses to which the capture sockets of the first pairs connect. `io_threads` is for the
    context of the process. `engine` are arguments of pollbroker's `Engine`; other peers ignore them. `ticking` is for
    the peers that run in the loop of a program.
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
    ticking: bool = False


@dataclass(frozen=True)
class Load:
    """The instructions for one load.

    - `role` names a C function, `load_ROLE`.
    - `window` is how many messages of each socket may be on the way.
    - `shared`: one socket has all the endpoints, instead of a socket for each.
    - `module` is the Python module that runs the load.
    - `seen` is a file from which a publisher learns how many messages its subscribers have seen.
    - `heartbeat_s` is the time between two heartbeats of a worker.
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
    heartbeat_s: float = 0.0


@dataclass(frozen=True)
class Assignment:
    """What a child process runs: brokers, loads, or (for inproc) both. `growth` more brokers are added and timed."""

    brokers: Deployment | None = None
    loads: tuple[Load, ...] = ()
    growth: int = 0

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Assignment:
        """Return the assignment from which `dataclasses.asdict` and `json` have made these fields."""
        brokers = fields["brokers"]
        loads = tuple(Load(**load) for load in fields["loads"])
        return cls(Deployment(**brokers) if brokers else None, loads, fields["growth"])


@dataclass(frozen=True)
class Started:
    """The first line that a child prints: its addresses, and how long it took to add and remove each of `growth`
    brokers."""

    frontends: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    loads: tuple[tuple[str, ...], ...] = ()
    added_ms: tuple[float, ...] = ()
    removed_ms: tuple[float, ...] = ()


@dataclass(frozen=True)
class LoadSample:
    """What a load has done so far. The percentiles are of the round trips since the previous sample.

    `missed` counts messages that were published for a subscriber and did not arrive.
    """

    messages: int
    malformed: int
    failure: int
    round_trips_us: Mapping[str, float] = field(default_factory=dict)
    missed: int = 0


@dataclass(frozen=True)
class ProcessSample:
    """The state of a child process at one moment. CPU time is user and system time of all threads, including
    libzmq's. `late_ms` is how late the ticks of the broker's loop were since the previous sample, by percentile."""

    time_s: float
    cpu_s: float
    resident_kib: int
    threads: int
    loads: tuple[LoadSample, ...] = ()
    late_ms: Mapping[str, float] = field(default_factory=dict)
