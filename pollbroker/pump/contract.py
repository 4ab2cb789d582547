"""What every pump promises, whichever it is; and what carries pumps: flows, and the hub of a broker's flows.

A pump is given two open sockets and moves whole messages from one to the other, never waiting. That they are open still
is the caller's to see to before each call. `tests/test_pump.py` holds every pump to this page.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any, Final, Protocol, TypeAlias

import zmq

from pollbroker.statistics import Counters

Socket: TypeAlias = zmq.Socket[Any]

Message: TypeAlias = Sequence[bytes]
"""What a handler may return or yield: one or more frames. It is given a `list[bytes]`."""

Handler: TypeAlias = Callable[[list[bytes]], Message | Iterator[Message] | None]

# Why `move` came back: plain integers, since they are compared once for every burst.
EMPTY: Final = 0
"""The source has nothing more."""
FULL: Final = 1
"""The sink refused a first frame, which the pump holds."""
LIMIT: Final = 2
"""The budget is spent; there may be more."""

MAXFRAMES: Final = 4096
"""The most frames that a message may have, unless the device says otherwise. A message is read whole before it is sent,
so this bounds how long a single message of any peer can keep the loop: to about a millisecond (4 in Python)."""

BURST_FRAMES: Final = 4096
"""A pump that has moved, or discarded, so many frames comes back with LIMIT after the message that it is at."""

SUBSCRIPTION_MAX_BYTES: Final = 4096
"""The longest subscription that is sent to an XSUB. libzmq 4.3.5 removes one by a recursion for each of its bytes
(`trie_t::rm_helper` in trie.cpp), so that a long one from any peer would overflow the stack and end the process."""


class Pump(Protocol):
    """Moves whole messages from a source to a sink: until the source is empty, the sink full, or the budget spent.

    A message is read whole before its first frame is offered, and is held whole while the sink refuses it.
    """

    @property
    def received(self) -> int:
        """Messages taken from the source so far."""

    @property
    def sent(self) -> int:
        """Messages that the sink has accepted so far."""

    @property
    def held(self) -> int:
        """Messages (0 or 1) taken from the source that the sink has not accepted."""

    def counters(self) -> Counters:
        """A snapshot of all counters."""

    def move(self, limit_messages: int, limit_bytes: int, /) -> int:
        """Move messages, beginning with the one that is held, and say why it ended: EMPTY, FULL or LIMIT.

        A dropped message counts against the limits like one that was sent. The message that exceeds `limit_bytes` is
        still moved whole.

        Raises `zmq.ZMQError` for what neither EAGAIN, EINTR nor EHOSTUNREACH explains; a message whose first frame
        could not be offered for that reason is still held.
        """

    def discard_rest(self) -> None:
        """Read and drop what is left of a message that has too many frames, and of which a part was discarded, so
        that whoever reads the source next begins with a message. Raises `zmq.ZMQError`."""

    def count_unread(self, limit_messages: int, /) -> int:
        """How many messages the source has to give, up to the limit. They are read and lost: for a source that is
        about to be closed. Raises `zmq.ZMQError`."""


class PumpFactory(Protocol):
    """Makes a pump from `source` to `sink`."""

    def __call__(
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
        """Arguments: a `capture` socket for copies of what was sent, which a `prefix` frame precedes if there is one;
        `drop_slow_peer`: whether a message for a ROUTER's one full peer is dropped (counted), or held; `maxframes`: a
        message of more frames is dropped (counted)."""


class Sender(Protocol):
    """The sink of a flow with a handler, and its capture socket."""

    @property
    def sent(self) -> int:
        """Messages that the sink has accepted so far."""

    @property
    def placed(self) -> int:
        """Messages that are accounted for: sent, or dropped here."""

    def send(self, message: list[bytes], /) -> int:
        """Offer a whole message: SENT, REFUSED (offer it again later) or DROPPED (counted)."""

    def add_to(self, counters: Counters, /) -> Counters:
        """`counters` with the sending side added."""


class SendingFactory(Protocol):
    """Makes the sending side of a flow; for the arguments see `PumpFactory`."""

    def __call__(
        self, sink: Socket, capture: Socket | None, prefix: bytes | None, drop_slow_peer: bool, /
    ) -> Sender: ...


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

    def add_to(self, counters: Counters, /) -> Counters:
        """`counters` with the receiving side added."""


class ReceiverFactory(Protocol):
    """Makes the receiving side of a flow."""

    def __call__(self, source: Socket, maxframes: int = MAXFRAMES, /) -> Receiver: ...


class EventReaderFactory(Protocol):
    """Makes a function that reads a socket's ZMQ_EVENTS, and so processes its pending commands."""

    def __call__(self, socket: Socket, /) -> Callable[[], int]:
        """The function raises `zmq.ZMQError` if the socket is closed or its context terminated."""


class FlowState(IntEnum):
    """What a flow does, and what it waits for.

        READY     -- move --> WAITING (source empty), STALLED (sink full) or READY (budget spent)
        WAITING   -- source has messages --> READY
        STALLED   -- sink has room --> READY; but RETRYING if the sink says so and refuses all the same
        RETRYING  -- timer --> READY
        PAUSED    -- resume --> READY
        ENDED     for good

    A flow that is not READY costs nothing and watches nothing but what can wake it.
    """

    READY = 0
    WAITING = 1
    STALLED = 2
    RETRYING = 3
    PAUSED = 4
    ENDED = 5


class Flow(Protocol):
    """One direction of a broker at run time: a pump and its state. Times are seconds of the loop's clock."""

    source: int
    """The port that it takes from, by its index in the hub."""
    sink: int
    state: int
    """A `FlowState`."""
    stalls: int
    """How often the sink refused a message that could have moved."""
    retries: int
    """How many timers in a row were set to retry it, as its broker counts; 0 again when a message has moved."""
    armed: bool
    """Whether such a timer is set, as its broker notes."""
    probe_when_full: bool
    """Whether its sink is to be tried now and then even while it says that it is full, as its broker knows: a mandatory
    ROUTER says so of all its peers, and the one for whom a message is held may have left."""

    @property
    def pump(self) -> Pump:
        """What moves its messages."""

    def pause(self, now_s: float, /) -> None:
        """Move nothing until `resume`."""

    def resume(self) -> None:
        """Move again; what became ready meanwhile shows at the first try."""

    def end(self, now_s: float, /) -> None:
        """Move nothing ever again."""

    def stalled_s(self, now_s: float, /) -> float:
        """Seconds spent stalled until now."""


class FlowFactory(Protocol):
    """Makes a flow of a pump, between the ports of these indices in its hub."""

    def __call__(self, pump: Any, source: int, sink: int, /) -> Flow: ...


# What `Hub.work` and `Hub.wake` leave for its owner to do: flags.
RETRY: Final = 1
"""A flow is RETRYING, or STALLED and `probe_when_full`; its `armed` may tell that no timer is set for it yet."""
FLUSHED: Final = 2
"""It is flushing, and every flow has ended."""


class Hub(Protocol):
    """The flows of one broker, and the sockets between which they run. `hub.py` tells the rule that it keeps."""

    flushing: bool
    """Set: each flow sends what it holds, and no more."""

    @property
    def owner(self) -> Any:
        """Whose it is: what `work` returns, or raises, is for it."""

    @property
    def flows(self) -> tuple[Flow, ...]:
        """All of them."""

    @property
    def working(self) -> bool:
        """Whether a handler of one of its routes is being called."""

    def end(self, now_s: float, /) -> None:
        """End every flow, and touch the sockets never again."""

    def schedule(self) -> None:
        """Have `work` called in the next turn: put it on the loop's list, unless it is there."""

    def work(self, limit_messages: int, limit_bytes: int, now_s: float, /) -> int:
        """Let each ready flow move at most that much, settle what was touched, and return flags.

        Raises `zmq.ZMQError`: ENOTSOCK if a socket was closed under it, otherwise as `Pump.move`.
        """

    def wake(self, port: int, /) -> int:
        """Something has happened at a port: have it read, or settle it if that is not for a flow to do; flags.

        Raises as `work`.
        """

    def on_ready(self, port: int, wake: Callable[[Any, int], None], /) -> Callable[[], None]:
        """What to call when something happens at a port: it calls `wake(hub, port)`, the loop's way to call the hub's
        `wake` and to see to what comes of that. A native collector can do without as long as nothing does."""

    def interest(self, port: int, /) -> int:
        """The events for which a port has to be watched: a flow that could not move for them is not woken by them."""


class HubFactory(Protocol):
    """Makes a hub of flows between sockets."""

    def __call__(
        self,
        owner: Any,
        ready: list[Any],
        sockets: tuple[Socket, ...],
        guarded: tuple[Socket, ...],
        flows: tuple[Any, ...],
        /,
    ) -> Hub:
        """Arguments: its owner; the loop's list of hubs that have work; the sockets by port index; the objects
        that must not be found closed (those that were handed in, and the capture's); the flows."""


class Collector(Protocol):
    """Tells what has happened in an epoll set, without sleeping."""

    def __call__(self) -> list[Callable[[], None]]:
        """What is to be called, as far as it has not seen to that itself."""

    def has_events(self, spin_s: float, /) -> bool:
        """Ask again and again, for so many seconds at most, whether something has happened."""


class CollectorFactory(Protocol):
    """Makes a collector of an epoll set."""

    def __call__(self, epoll: int, wakes: dict[int, Callable[[], None]], /) -> Collector:
        """Arguments: the set's descriptor; what to call for a descriptor in it."""
