"""What every pump promises, native or Python; and what carries pumps: flows, and the hub of a broker's flows.

`Implementation` is the whole of it: one set of classes that fit together. Sockets that are handed in are open; whoever
calls makes sure that they are still open, before each call. `tests/pump/` holds both implementations to this page.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

import zmq

from pollbroker.statistics import Counters

Socket: TypeAlias = zmq.Socket[Any]

MAXFRAMES: Final = 4096
"""The most frames that a message may have, unless the device says otherwise. A message is read whole before it is sent,
so this bounds how long a single message of any peer can keep the loop: to about a millisecond (4 in Python)."""

BURST_FRAMES: Final = 4096
"""A pump that has moved, or discarded, so many frames comes back with LIMIT after the message that it is at."""

SUBSCRIPTION_MAX_BYTES: Final = 4096
"""The longest subscription that is sent to an XSUB. libzmq 4.3.5 removes one by a recursion for each of its bytes
(`trie_t::rm_helper` in trie.cpp), so that a long one from any peer would overflow the stack and end the process."""


class Pump(Protocol):
    """Moves whole messages from a source to its sinks: until the source is empty, a sink full, or the budget spent.

    A message is read whole before its first frame is offered, and is held whole while a sink refuses it.
    """

    @property
    def received(self) -> int:
        """Messages taken from the source so far."""

    @property
    def sent(self) -> int:
        """Messages that the sinks have accepted so far; one that went to two of them counts twice."""

    @property
    def held(self) -> int:
        """Messages (at most one for each sink) taken from the source that a sink has not accepted."""

    @property
    def full_sinks(self) -> tuple[int, ...]:
        """The sinks for which a message is held, by their index among the pump's sinks."""

    def counters(self) -> Counters:
        """A snapshot of all counters."""

    def sink_counters(self) -> tuple[Counters, ...]:
        """For each sink the counters of the sending side; see `Sender`."""

    def move(self, limit_messages: int, limit_bytes: int, /) -> int:
        """Move messages, beginning with what is held, and say why it ended: EMPTY, FULL or LIMIT.

        A dropped message counts against the limits like one that was sent. The message that exceeds `limit_bytes` is
        still moved whole.

        Raises `zmq.ZMQError` for what neither EAGAIN, EINTR nor EHOSTUNREACH explains; a message whose first frame
        could not be offered for that reason is still held.
        """

    def discard_rest(self) -> None:
        """Read and drop what is left of a message that has too many frames, and of which a part was discarded, so
        that whoever reads the source next begins with a message. Raises `zmq.ZMQError`."""

    def count_unread(self, limit_messages: int, /) -> int:
        """Return how many messages the source has to give, up to the limit. They are read and lost: for a source that
        is about to be closed. Raises `zmq.ZMQError`."""


class Sender(Protocol):
    """One sink of a flow with a handler or with several sinks, and the capture socket."""

    @property
    def sent(self) -> int:
        """Messages that the sink has accepted so far."""

    @property
    def finished(self) -> int:
        """Messages that are accounted for: sent, or dropped here."""

    def send(self, message: list[bytes], /) -> int:
        """Offer a whole message: SENT, FULL (offer it again later) or DROPPED (counted)."""

    def counters(self) -> Counters:
        """A snapshot of the counters of the sending side; the others are 0."""


class Receiver(Protocol):
    """The source of a flow, and the counters of what came from it."""

    @property
    def received(self) -> int:
        """Messages taken from the source so far."""

    @property
    def received_bytes(self) -> int:
        """The bytes of their frames."""

    @property
    def dropped(self) -> int:
        """Messages that were dropped while they were read."""

    @property
    def burst_frames(self) -> int:
        """Frames read since this was last set to 0."""

    @burst_frames.setter
    def burst_frames(self, value: int, /) -> None: ...

    def __call__(self) -> list[bytes] | None:
        """The next message, without waiting; None if there is none. An empty list: a message, or a part of one that
        has too many frames, was read and dropped (counted); there may be more.

        Raises `zmq.ZMQError` (a message that was begun is counted as interrupted) and `MemoryError` (likewise).
        """

    def discard_rest(self) -> None:
        """See `Pump`."""

    def count_unread(self, limit_messages: int, /) -> int:
        """See `Pump`."""

    def counters(self) -> Counters:
        """A snapshot of the counters of the receiving side; the others are 0."""


class Flow(Protocol):
    """One direction of a broker at run time: a pump and its state. Times are seconds of the loop's clock."""

    source: int
    """The port that it takes from, by its index in the hub."""
    state: int
    """A `FlowState`."""
    stalls: int
    """How often a sink refused a message that could have moved."""
    retries: int
    """How many timers in a row were set for it; see `needs_timer`. 0 again when a message has moved."""
    probe_when_full: bool
    """Set by its broker: a sink of it is to be tried now and then even while it says that it is full. A mandatory
    ROUTER says so of all its peers, and the one for whom a message is held may have left."""

    @property
    def sinks(self) -> tuple[int, ...]:
        """The ports that it gives to, by their index in the hub."""

    @property
    def pump(self) -> Pump:
        """What moves its messages."""

    @property
    def needs_timer(self) -> bool:
        """True while nothing but a timer may tell it when to try again: its sink has said that it had room, and has
        refused all the same; or it is stalled and `probe_when_full` is set."""

    def pause(self, now_s: float, /) -> None:
        """Move nothing until `resume`."""

    def resume(self) -> None:
        """Move again; what became ready meanwhile shows at the first try."""

    def end(self, now_s: float, /) -> None:
        """Move nothing ever again."""

    def stalled_s(self, now_s: float, /) -> float:
        """Seconds spent stalled until now."""


class HubOwner(Protocol):
    """Whose a hub is: a broker at work. What the hub's methods return or raise is for its owner."""

    def carry_out(self, flags: int, /) -> None:
        """Do what the hub has left to do: `RETRY`, `FLUSHED`."""

    def fail(self, error: Exception, /) -> None:
        """End for an error that a method of the hub has raised."""


class Hub(Protocol):
    """The flows of one broker, and the sockets between which they run. `hub.py` tells the rule that it keeps."""

    flushing: bool
    """Set: each flow sends what it holds, and no more."""

    @property
    def owner(self) -> HubOwner:
        """Whose it is."""

    @property
    def flows(self) -> tuple[Flow, ...]:
        """All of them."""

    @property
    def working(self) -> bool:
        """True while a handler of one of its routes is being called."""

    def end(self, now_s: float, /) -> None:
        """End every flow, and touch the sockets never again."""

    def schedule(self) -> None:
        """Have `work` called in the next turn: put it on the loop's list, unless it is there."""

    def work(self, limit_messages: int, limit_bytes: int, now_s: float, /) -> int:
        """Let each ready flow move at most that much, settle what was touched, and return flags.

        Raises `zmq.ZMQError`: ENOTSOCK if a socket was closed under it, otherwise as `Pump.move`.
        """

    def wake(self, port_index: int, /) -> int:
        """Something has happened at a port: have it read, or settle it if that is not for a flow to do; flags.

        Raises as `work`.
        """

    def on_ready(self, port_index: int, wake: Callable[[Any, int], None], /) -> Callable[[], None]:
        """What to call when something happens at a port: it calls `wake(hub, port_index)`, the loop's way to call the
        hub's `wake` and to see to what comes of that. A native collector can do without as long as nothing does."""

    def interest(self, port_index: int, /) -> int:
        """The events for which a port has to be watched: a flow that could not move for them is not woken by them."""


class Collector(Protocol):
    """Tells what has happened in an epoll set, without sleeping."""

    def __call__(self) -> list[Callable[[], None]]:
        """What is to be called, as far as it has not seen to that itself."""

    def has_events(self, spin_s: float, /) -> bool:
        """Ask again and again, for so many seconds at most, whether something has happened."""


class Implementation(Protocol):
    """One implementation of all of this. A flow and a hub of the native one take its own pumps only, and each flow of
    it has one sink; those of the Python one take every pump."""

    @property
    def name(self) -> str:
        """`native` or `python`."""

    def make_pump(
        self,
        source: Socket,
        sink: Socket,
        /,
        *,
        capture: Socket | None = None,
        prefix: bytes | None = None,
        drop_slow_peer: bool = True,
        maxframes: int = MAXFRAMES,
    ) -> Pump:
        """Make a pump for a route without a handler and with one sink.

        Arguments: a `capture` socket for copies of what was sent, which a `prefix` frame precedes if there is one;
        `drop_slow_peer`: whether a message for a ROUTER's one full peer is dropped (counted), or held; `maxframes`: a
        message of more frames is dropped (counted).
        """

    def make_receiver(self, source: Socket, maxframes: int = MAXFRAMES, /) -> Receiver:
        """Make the receiving side of a flow."""

    def make_sender(
        self, sink: Socket, capture: Socket | None, prefix: bytes | None, drop_slow_peer: bool, /
    ) -> Sender:
        """Make a sending side of a flow."""

    def make_event_reader(self, socket: Socket, /) -> Callable[[], int]:
        """Make a function that reads a socket's ZMQ_EVENTS, and so processes its pending commands.

        The function raises `zmq.ZMQError` if the socket is closed or its context terminated.
        """

    def make_flow(self, pump: Pump, source: int, sinks: tuple[int, ...], /) -> Flow:
        """Make a flow of a pump, between the ports of these indices in its hub."""

    def make_hub(
        self,
        owner: HubOwner,
        ready: list[Any],
        sockets: tuple[Socket, ...],
        checked_sockets: tuple[Socket, ...],
        flows: Sequence[Flow],
        /,
    ) -> Hub:
        """Make a hub of flows between sockets.

        Arguments: its owner; the loop's list of hubs that have work; the sockets by port index; the objects
        that must not be found closed (those that were handed in, and the capture's); the flows.
        """

    def make_collector(self, epoll: int, wakes: dict[int, Callable[[], None]], /) -> Collector | None:
        """Make a collector of an epoll set; None if it has none of its own.

        Arguments: the set's descriptor; what to call for a descriptor in it.
        """
