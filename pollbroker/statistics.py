"""Frozen snapshots of what an engine has done.

The account of a flow always balances:

    received + added == sent + held + dropped

where `dropped` is the sum of the named drops. Messages are whole messages; frames are their parts; bytes are the bytes
of the frames, without framing. All are counted from the start of the broker, or of an earlier one whose counters it
goes on with, and fit an unsigned 64-bit integer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from operator import add, attrgetter
from typing import Final

from pollbroker.frozen import FrozenDict
from pollbroker.waits import NO_WAITS

DROPS: Final = (
    "unroutable",
    "slow_peer",
    "interrupted",
    "too_many_frames",
    "long_subscription",
    "filtered",
    "failed",
    "removed",
)
"""The rules by which a flow may drop a message. `Counters` has a counter of each name, which says when it applies."""


@dataclass(frozen=True)
class Counters:
    """What one pump has done with the messages of one direction."""

    received: int = 0
    """Messages taken from the source."""
    received_frames: int = 0
    received_bytes: int = 0
    sent: int = 0
    """Messages that the sinks accepted, whole; one that went to two sinks counts twice. A port of the wire has accepted
    a message when the kernel has taken it, and a PUB, XPUB or XSUB when it is queued."""
    sent_frames: int = 0
    sent_bytes: int = 0
    held: int = 0
    """Messages (at most one for each sink) that a sink has yet to accept, those that a coroutine handler has, and those
    in the queues of a port of the wire. With a behaviour also those that it keeps, and all that wait for room. What is
    in the queues of a socket of libzmq, or of a PUB, XPUB or XSUB, counts as sent."""
    added: int = 0
    """Messages beyond the first that were made of one message, by a handler or because the route has several sinks."""
    unroutable: int = 0
    """Dropped: a ROUTER sink knows no peer of that routing id, or the message had no frame behind the routing id; or
    the peer of a ROUTER or REP port of the wire left before the message was written."""
    slow_peer: int = 0
    """Dropped: the message was for a peer of a ROUTER sink that was full, and the device has `slow_peer="drop"`."""
    interrupted: int = 0
    """Dropped: the sink's peer left, the context was terminated, or memory ran out, between the frames of the message;
    or a peer of a port of the wire left when a part of it was written."""
    too_many_frames: int = 0
    """Dropped: the message had more frames than the device's `maxframes`."""
    long_subscription: int = 0
    """Dropped: the sink is an XSUB, and the message had a subscription that is too long for libzmq, here or at the
    publishers, to remove safely."""
    filtered: int = 0
    """Dropped: the handler returned None, or yielded nothing. With a behaviour: what it has taken and neither sent nor
    kept, which as a rule is no loss."""
    failed: int = 0
    """Dropped: the handler raised, or returned something that is not a message, or a `To` for a port that is not a sink
    of the route."""
    removed: int = 0
    """Dropped: an earlier broker, whose counters this one goes on with, still held the message when it was removed."""
    captured: int = 0
    """Copies that the capture socket accepted. There is one for each sink that accepted a message."""
    captured_frames: int = 0
    captured_bytes: int = 0
    capture_dropped: int = 0
    """Copies that the capture socket did not accept. The traffic itself is not affected."""

    @property
    def dropped(self) -> int:
        """Messages dropped by any rule. Copies for a capture socket are not counted here."""
        return sum(_drops_of(self))

    def __add__(self, other: "Counters") -> "Counters":
        """The sum of each counter."""
        made = object.__new__(Counters)  # as in `FlowStatistics.with_counters`
        vars(made).update(zip(_NAMES, map(add, _values_of(self), _values_of(other)), strict=True))
        return made


_NAMES: Final = tuple(one.name for one in fields(Counters))
_values_of = attrgetter(*_NAMES)
_drops_of = attrgetter(*DROPS)


@dataclass(frozen=True)
class FlowStatistics(Counters):
    """One direction of a broker."""

    source: str = ""
    sinks: tuple[str, ...] = ()
    state: str = ""
    """`ready`, `waiting` (for the source), `stalled` (on the sink), `retrying` (stalled on a sink that gives no
    wake-up), `busy` (its coroutine handler has as many messages as it may have), `paused` or `ended`."""
    stalls: int = 0
    """How often a sink was full, so that a message had to wait."""
    stalled_s: float = 0.0
    """Seconds that the flow has waited for a full sink."""
    waits: tuple[int, ...] = NO_WAITS
    """A histogram of how long messages waited in the broker: those that sinks took, or that were dropped. The first
    count has those that waited for up to `WAIT_BOUNDS_S[0]` seconds, the next for up to `WAIT_BOUNDS_S[1]`, and the
    last for longer than any bound. A message that no sink refused did not wait, and is in the first."""
    waited_s: float = 0.0
    """Seconds that these messages waited, together."""
    unread: int = 0
    """In the statistics of a removed broker: messages that had arrived at the source, were not read, and are lost,
    since the engine closed the socket. They are counted up to 10,000, and are not part of `received`."""

    @classmethod
    def with_counters(
        cls,
        counters: Counters,
        *,
        source: str,
        sinks: tuple[str, ...],
        state: str,
        stalls: int,
        stalled_s: float,
        waits: tuple[int, ...],
        waited_s: float,
        unread: int,
    ) -> "FlowStatistics":
        """What the class itself returns for the fields of `counters` and these, in a fifth of the time.

        The constructor of a frozen dataclass makes a call for each field, and there are thousands in the statistics of
        an engine with many brokers.
        """
        made = object.__new__(cls)
        vars(made).update(
            vars(counters),
            source=source,
            sinks=sinks,
            state=state,
            stalls=stalls,
            stalled_s=stalled_s,
            waits=waits,
            waited_s=waited_s,
            unread=unread,
        )
        return made


@dataclass(frozen=True)
class PortStatistics:
    """One port of a broker."""

    type: str
    """The type of its socket, such as `ROUTER`."""
    endpoints: tuple[str, ...]
    """The real addresses. Empty for a registered socket, whose addresses the engine does not know."""
    transport: str = "libzmq"
    """What serves the port: `libzmq` or `wire`."""
    received: int = 0
    """Messages taken from the port."""
    received_frames: int = 0
    received_bytes: int = 0
    sent: int = 0
    """Messages that the port accepted, as in `FlowStatistics`. At the capture port, copies of messages."""
    sent_frames: int = 0
    sent_bytes: int = 0
    dropped: int = 0
    """Messages that were to be sent to the port and were dropped; the counters of the flow say by which rule. At the
    capture port, copies that it did not accept."""
    missed: int = 0
    """Of a PUB, XPUB, SUB or XSUB of the wire: messages that the port has accepted and that a peer missed, since it had
    no room for them, or left while they were in its queue. One that two peers missed counts twice. Always 0 where
    libzmq serves, which does not tell."""
    peers: int | None = None
    """Of a port of the wire: how many peers are connected. None where libzmq serves, which does not tell."""
    connections_ended: Mapping[str, int] = field(default_factory=FrozenDict, hash=False)
    """Of a port of the wire: how many connections have ended or were refused, by the reason, such as `left` or
    `bad_frame`."""


@dataclass(frozen=True)
class PeerStatistics:
    """One connection of a port of the wire."""

    port: str
    """The name of the port."""
    address: str
    """Of the other end, such as `tcp://192.0.2.7:41234`; of an `ipc://` peer, its process: `ipc, process 4711`."""
    routing_id: bytes
    """At a ROUTER; otherwise empty."""
    connected_s: float
    """Seconds since it was connected."""
    silent_s: float
    """Seconds since something was read from it, a heartbeat for example. A peer is not read while no sink has room."""
    received: int
    """Messages taken from it."""
    sent: int
    """Messages that the kernel has accepted for it, whole."""
    queued: int
    """Messages that wait to be written to it."""
    queued_bytes: int
    dropped: int
    """At a PUB or XPUB: messages that it had no room for."""
    subscriptions: int
    """At a PUB or XPUB: how many subscriptions it has."""
    user_id: str = ""
    """Who it is, by the authenticator that was asked about it (ZAP); otherwise empty."""


@dataclass(frozen=True)
class BrokerStatistics:
    """One broker: its state, each of its directions by the name of the port that it takes from, and each of its ports
    by name, the capture port among them."""

    name: str
    device: str
    state: str
    """`running`, `paused`, `handing_over`, `draining`, `removing`, `removed`, `ended` (the context of its sockets was
    terminated) or `failed`; see `BrokerState`."""
    error: str | None
    """Why the broker failed; None if it has not."""
    flows: Mapping[str, FlowStatistics]
    """With a behaviour there is one flow, named `behaviour`, which has the account for all ports."""
    ports: Mapping[str, PortStatistics] = field(default_factory=FrozenDict)
    counters: Mapping[str, int] = field(default_factory=FrozenDict)
    """The counters of the broker's behaviour, by the names that it has given them; empty without a behaviour."""
    disabled: bool = False
    """True while nobody can connect to the broker, since its ports do not listen; see `Engine.disable`."""


@dataclass(frozen=True)
class EngineStatistics:
    """An engine and all of its brokers."""

    pump: str
    """`native` or `python`: what moves messages at ports of libzmq."""
    waiter: str
    """`nested` or `flat`."""
    turns: int
    """Turns of the loop so far: an idle engine makes none."""
    brokers: Mapping[str, BrokerStatistics]
