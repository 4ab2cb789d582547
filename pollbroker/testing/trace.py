"""The trace: what happened in a run, as plain data, for the invariants to judge.

Everything is recorded outside of the brokers: by the peers that send and receive, and by the runner, which steers the
engine and reads its counters as a user could. Rules:

- A message is recorded as its *canonical* frames: those that a broker's pump sees. Behind a ROUTER these begin with the
  routing id, which a client never sees; the empty delimiter of a REQ is among them too. So a message that passes
  unchanged has the same frames at both ends, whatever the types of the peers.
- A *path* is one direction of a line of brokers (one broker, or a chain of them), from the peers at one end to those at
  the other, or at several others: a route may have several sinks. Where a device has a handler the path has a leg to
  the handler, and one from it to each sink.
- A *peer* is one socket from its connection to its disconnection. A peer that leaves and comes again is another peer.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias, TypeVar

from zmq import SocketType

from pollbroker.pump import Handler
from pollbroker.statistics import FlowStatistics, PortStatistics

Frames: TypeAlias = tuple[bytes, ...]


class FlowKey(NamedTuple):
    """A flow: one direction of one broker."""

    broker: str
    source: str

    def __str__(self) -> str:
        return f"{self.broker}.{self.source}"


@dataclass(frozen=True)
class Sink:
    """One of the ends of a path."""

    port: str
    """The port of the last broker at which the path ends."""
    to_router: bool = False
    """Whether it is a ROUTER. Then the first frame names the peer that a message is for."""
    is_addressed: bool = False
    """Whether each message is for one certain peer, as at a ROUTER or a REP. If the peer has left, it is dropped."""
    to_many: bool = False
    """Whether it gives each subscriber a copy."""
    may_lose: bool = False
    """Whether libzmq may drop messages or subscriptions in silence: messages at a publisher's high-water mark, and
    subscriptions at the high-water mark of a publisher that does not process its commands."""


@dataclass(frozen=True)
class Path:
    """One direction of a line of brokers."""

    name: str
    line: str
    sinks: tuple[Sink, ...]
    """The ends of the path: several, if the route of its device has several sinks."""
    flows: tuple[FlowKey, ...]
    """The flows that the path leads through, in order."""
    prefix: Frames = ()
    """The routing ids of the brokers in between, with which a message begins at the far end of a chain of ROUTERs."""
    prefix_is_added: bool = True
    """Whether the chain adds the prefix; on the way back it removes the prefix."""
    from_router: bool = False
    """Whether the path begins at a ROUTER. Then the first frame of a message names the peer that sent it."""
    from_publisher: bool = False
    """Whether the path begins at publishers. They drop messages to which nobody has subscribed."""
    capacity: int = 0
    """How many messages at most can wait between the last broker and a consumer; 0 is no limit."""
    handled: bool = False
    """Whether a handler is on the path."""
    upstream: bool = False
    """Whether subscriptions travel on the path, and not messages of peers."""

    @property
    def only_sink(self) -> Sink:
        """The end of a path that has one."""
        (sink,) = self.sinks
        return sink

    @property
    def routers(self) -> tuple[str, ...]:
        """The ports at which the path ends at a ROUTER."""
        return tuple(sink.port for sink in self.sinks if sink.to_router)


class Joined(NamedTuple):
    """A peer has connected to a side of a line. At a ROUTER it has that routing id."""

    peer: str
    line: str
    side: str
    kind: SocketType
    routing_id: bytes | None = None


class Left(NamedTuple):
    """A peer has disconnected. What it had not read is lost."""

    peer: str
    lost: frozenset[bytes] = frozenset()
    """The marks of the messages of this peer that will never arrive, because its connection was broken."""


class Sent(NamedTuple):
    """A peer's socket has accepted a message."""

    path: str
    peer: str
    mark: bytes
    """The frame that is in no other message."""
    frames: Frames
    expected_at: frozenset[str] | None = None
    """The subscribers that are to receive it, where each receives a copy."""
    answers: bytes | None = None
    """If it is a reply, the mark of the request."""


class Got(NamedTuple):
    """A peer has received a message."""

    path: str
    """The path on which it came. If several paths end at that port: the one on which the message with this mark was
    sent, or, if none of these is, the first of them. A handler may have changed the mark."""
    peer: str
    frames: Frames
    tail: bool = False
    """Whether these are only the frames behind the first empty one, because a REP does not show the envelope."""
    port: str = ""
    """The port at which the peer is. It may be left out if the path has one sink."""


class Handled(NamedTuple):
    """A handler was given a message."""

    path: str
    flow: FlowKey
    frames: Frames


class Returned(NamedTuple):
    """A handler returned a message to be sent."""

    path: str
    flow: FlowKey
    frames: Frames
    port: str | None = None
    """The port that it is for, if it was returned in a `To`; None if it is for every sink of the route."""
    expected_at: frozenset[str] = frozenset()
    """The subscribers that are to receive it, where each receives a copy."""


class Failed(NamedTuple):
    """A handler raised, or gave what cannot be sent. The engine drops the message and counts it as `failed`."""

    path: str
    flow: FlowKey
    reason: str


class Iterated(NamedTuple):
    """A handler has returned an iterator of messages, or, if `ended`, that iterator has come to its end."""

    path: str
    ended: bool
    flow: FlowKey | None = None


class Lost(NamedTuple):
    """How many messages that a port of a broker had sent were lost with peers that left. Only a simulation can
    tell."""

    broker: str
    port: str
    messages: int


class Copied(NamedTuple):
    """The reader of a broker's capture socket has received a copy, with the prefix of its direction if it has one."""

    broker: str
    frames: Frames


class Wanted(NamedTuple):
    """A subscriber has subscribed to a topic, or unsubscribed from it."""

    peer: str
    topic: bytes
    wanted: bool


class Heard(NamedTuple):
    """A publisher was told of a subscription, or of its end."""

    peer: str
    topic: bytes
    wanted: bool


class Steered(NamedTuple):
    """A broker was "added", "paused", "resumed" or "removed"; or its context was terminated: "ended"."""

    broker: str
    how: str


class Counted(NamedTuple):
    """The statistics of a flow at this moment."""

    flow: FlowKey
    state: str
    """The state of the broker."""
    statistics: FlowStatistics
    error: str | None = None


class PortCounted(NamedTuple):
    """The statistics of a port at the end."""

    broker: str
    port: str
    statistics: PortStatistics


class Turned(NamedTuple):
    """The engine has made a turn. The `Counted` events that follow show what its flows have moved."""

    movable: frozenset[FlowKey] = frozenset()
    """The flows that could move before the turn, as far as that is known."""


class Slept(NamedTuple):
    """The engine sleeps: nothing wakes it, and no timer is due."""

    movable: frozenset[FlowKey] = frozenset()
    """The flows that can move although the engine sleeps. There must be none."""


Event: TypeAlias = (
    Joined
    | Left
    | Sent
    | Got
    | Handled
    | Returned
    | Failed
    | Iterated
    | Lost
    | Copied
    | Wanted
    | Heard
    | Steered
    | Counted
    | PortCounted
    | Turned
    | Slept
)

_Kind = TypeVar("_Kind", bound=tuple[object, ...])


@dataclass
class Trace:
    """What happened in a run, in order."""

    paths: dict[str, Path] = field(default_factory=dict)
    """The paths through the topology, by name."""
    events: list[Event] = field(default_factory=list)
    """What happened, in order."""
    complete: set[str] = field(default_factory=set)
    """The names of the paths on which every message was read at the end, so that none is on its way any more."""
    burst_messages: int = 0
    """The engine's limit of messages for one flow in one turn; 0 if it is not known."""
    burst_bytes: int = 0
    """The engine's limit of bytes for one flow in one turn; 0 if it is not known."""
    patience: int = 0
    """Within how many turns a flow that can move all the time must have moved; 0 if that is not known."""
    queues: bool = False
    """Whether the ports of the brokers have queues of their own, in which messages wait that count as held. They are
    written, and count as sent, when their peer reads, also while the broker is paused."""
    captured: set[str] = field(default_factory=set)
    """The brokers that have a capture socket."""
    prefixes: dict[FlowKey, bytes] = field(default_factory=dict)
    """The frame that precedes the copies of a flow."""
    handlers: dict[str, Handler] = field(default_factory=dict, repr=False, compare=False)
    """The handler of each path that has one: a copy that was made for this run."""
    copies: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)
    """What was copied for these handlers, by its identity."""
    memory: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """A cache for the invariants: what they have computed from the trace."""

    def of(self, kind: type[_Kind]) -> Iterator[tuple[int, _Kind]]:
        """The events of one kind, each with its place in the trace. Events that are recorded later are not among
        them."""
        known, by_kind = self.memory.get("kinds", (0, {}))
        if known != len(self.events):
            by_kind = defaultdict(list)
            for at, event in enumerate(self.events):
                by_kind[type(event)].append((at, event))
            self.memory["kinds"] = len(self.events), by_kind
        return iter(by_kind.get(kind, ()))

    def of_route(self, source: str) -> "Trace":
        """The trace of one route: without what happened on the paths of the other routes.

        Arguments:
            source: the port at which the route begins.
        """
        paths = {name: path for name, path in self.paths.items() if path.flows[0].source == source}
        events = [event for event in self.events if getattr(event, "path", None) in (None, *paths)]
        return replace(self, paths=paths, events=events, memory={})

    def last_counted(self) -> dict[FlowKey, Counted]:
        """The last statistics of every flow."""
        return {event.flow: event for _, event in self.of(Counted)}
