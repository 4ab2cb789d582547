"""The trace: what happened in a run, as plain data, for the invariants to judge.

Everything is written down at the ends, by those who sent and received, and by whoever steered the engine and read its
counters; nothing is asked of the engine that its users could not ask. Rules:

- A message is written as its *canonical* frames: as a broker's pump sees them. Behind a ROUTER that is the routing id
  first, which a client never sees; a REQ's empty delimiter is there too. So a message that passes unchanged has the
  same frames at both ends, whatever stands there.
- A *path* is one direction of a line of brokers (one broker, or a chain of them), from the peers at one end to those at
  the other. Where a device has a handler the path has two legs: to the handler, and from it.
- A *peer* is one life of a socket: who leaves and comes again is another peer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

from zmq import SocketType

from pollbroker.statistics import FlowStatistics

Frames: TypeAlias = tuple[bytes, ...]


class FlowKey(NamedTuple):
    """One direction of one broker."""

    broker: str
    source: str

    def __str__(self) -> str:
        return f"{self.broker}.{self.source}"


@dataclass(frozen=True)
class Path:
    """One direction of a line of brokers."""

    name: str
    line: str
    sink: str
    """The side at which it ends."""
    flows: tuple[FlowKey, ...]
    """The flows that it leads through, in order."""
    prefix: Frames = ()
    """The routing ids of the brokers in between: in front of a message at the far end of a chain of ROUTERs."""
    prefix_is_added: bool = True
    """Whether the chain puts the prefix there, or (on the way back) takes it off."""
    to_router: bool = False
    """Whether the last sink is a ROUTER: then the first frame says which peer a message is for."""
    to_many: bool = False
    """Whether the last sink gives each subscriber a copy."""
    may_lose: bool = False
    """Whether libzmq may drop messages on it in silence: at a publisher's high-water mark; and subscriptions, at that
    of a publisher who does not look."""
    from_publisher: bool = False
    """Whether it begins at publishers, who send to nobody what nobody subscribed to."""
    capacity: int = 0
    """How many messages lie at most between the last broker and a consumer, unread; 0: no limit."""
    handled: bool = False
    """Whether a handler stands in the way."""
    upstream: bool = False
    """Whether subscriptions travel on it, and not messages of peers."""


class Joined(NamedTuple):
    """A peer is there, at a line and a side of it, with the routing id that a ROUTER knows it by, if one does."""

    peer: str
    line: str
    side: str
    kind: SocketType
    routing_id: bytes | None = None


class Left(NamedTuple):
    """A peer is gone, whatever it had not read yet."""

    peer: str


class Sent(NamedTuple):
    """A peer's socket has accepted a message."""

    path: str
    peer: str
    mark: bytes
    """The frame of it that is in no other message."""
    frames: Frames
    expected_at: frozenset[str] | None = None
    """The subscribers who are to have it, where each has a copy."""
    answers: bytes | None = None
    """The mark of the request that it is the reply to."""


class Got(NamedTuple):
    """A peer has received a message."""

    path: str
    peer: str
    frames: Frames
    tail: bool = False
    """Whether these are only the frames behind the first empty one: a REP keeps the envelope to itself."""


class Handled(NamedTuple):
    """A handler was given a message."""

    path: str
    flow: FlowKey
    frames: Frames


class Returned(NamedTuple):
    """A handler gave a message to be sent."""

    path: str
    flow: FlowKey
    frames: Frames


class Iterated(NamedTuple):
    """A handler has given an iterator of messages; or that iterator was asked until there was nothing more."""

    path: str
    ended: bool


class Lost(NamedTuple):
    """So many messages that a flow had sent were lost with peers that left: only a simulation can tell."""

    flow: FlowKey
    messages: int


class Copied(NamedTuple):
    """The reader of a broker's capture socket has received a copy, behind the prefix of its direction if it has one."""

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
    """A broker was added, paused, resumed, removed; or its context was terminated: `ended`."""

    broker: str
    how: str


class Counted(NamedTuple):
    """The statistics of a flow at this moment."""

    flow: FlowKey
    state: str
    """Of its broker."""
    statistics: FlowStatistics
    error: str | None = None


class Turned(NamedTuple):
    """The engine has made a turn; what its flows have moved is in the `Counted` that follow."""

    movable: frozenset[FlowKey] = frozenset()
    """The flows that could have moved before it, as far as that is known."""


class Slept(NamedTuple):
    """The engine sleeps until something happens: nothing woke it, and no timer was due."""

    movable: frozenset[FlowKey] = frozenset()
    """The flows that can move all the same."""


Event: TypeAlias = (
    Joined
    | Left
    | Sent
    | Got
    | Handled
    | Returned
    | Iterated
    | Lost
    | Copied
    | Wanted
    | Heard
    | Steered
    | Counted
    | Turned
    | Slept
)

_Kind = TypeVar("_Kind", bound=tuple[object, ...])


@dataclass
class Trace:
    """What happened, in order."""

    paths: dict[str, Path] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    complete: set[str] = field(default_factory=set)
    """The paths at whose end everything was read, and nothing is on its way any more."""
    burst_messages: int = 0
    """The engine's limit for one flow in one turn; 0: not known."""
    burst_bytes: int = 0
    patience: int = 0
    """In how many turns a flow that can move all the while has moved; 0: not known."""
    captured: set[str] = field(default_factory=set)
    """The brokers that have a capture socket."""
    prefixes: dict[FlowKey, bytes] = field(default_factory=dict)
    """What precedes the copies of a flow."""
    memory: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What the invariants have worked out of it already."""

    def of(self, kind: type[_Kind]) -> Iterator[tuple[int, _Kind]]:
        """The events of a kind, each with its place in the trace."""
        return ((at, event) for at, event in enumerate(self.events) if isinstance(event, kind))

    def last_counted(self) -> dict[FlowKey, Counted]:
        """The last statistics of every flow."""
        return {event.flow: event for _, event in self.of(Counted)}
