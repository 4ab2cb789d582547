"""The contract that the native and the Python implementation keep: pumps, flows, hubs, and their parts.

An `Implementation` is one set of classes that fit together. The caller of any method makes sure that the sockets are
still open. `tests/pump/` tests both implementations against this contract. These are its rules:

1. A message is received without waiting, and its first frame is offered to the sink without waiting. No socket is asked
   for its events first, since EAGAIN says as much.
2. A message is read whole before it is offered. libzmq announces a message when all of its frames have arrived.
3. A message of more than `maxframes` frames is dropped. It is discarded a part at a time, so that no peer can occupy
   the loop with one message. It is counted when the first part is discarded.
4. A message whose rest cannot be read (its context is terminated, memory runs out) is counted as interrupted.
5. A message whose first frame the sink refuses is held whole, and offered again later.
6. Once a first frame is accepted, the rest of the message is sent before anything else.
7. A frame that was refused in the middle of a message is never sent again, since it would begin a new message.
8. A socket is settled before the loop may sleep; `hub.py` explains that.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import zmq

from pollbroker.pump.limits import MAXFRAMES
from pollbroker.pump.turns import Collector
from pollbroker.statistics import Counters

Socket: TypeAlias = zmq.Socket[Any]


class TapPoint(Protocol):
    """Looks at the messages that one sink of a flow has accepted, while somebody taps the broker."""

    keep_first: int
    """How many bytes of the first frame are shown."""
    keep: int
    """How many bytes of each other frame are shown."""

    def has_room(self) -> bool:
        """Return True if one more message can be noted. Otherwise it is to be counted by `lose`, and not looked at."""

    def note(self, frames: int, size: int, sizes: list[int], starts: list[bytes], /) -> None:
        """Note a message: how many frames it has and their bytes, and of each of its first `FRAMES_SHOWN` frames the
        size and the first bytes."""

    def lose(self, messages: int, /) -> None:
        """Count messages that were not noted."""


class Pump(Protocol):
    """Moves whole messages from a source to its sinks, until the source is empty, a sink is full, or the budget is
    spent.

    A message is read whole before its first frame is offered, and is held whole while a sink refuses it.
    """

    @property
    def received(self) -> int:
        """Messages taken from the source so far."""

    @property
    def sent(self) -> int:
        """Messages that the sinks have accepted so far, except those that are `queued`; one that went to two of them
        counts twice."""

    @property
    def held(self) -> int:
        """Messages that were taken from the source and that a sink has yet to accept, at most one for each sink, and
        those that are `queued`."""

    @property
    def queued(self) -> int:
        """Messages that a sink has accepted and that wait in its queues. It is 0 where the sinks are sockets of libzmq,
        which do not tell. No attempt of the pump's can change it: the port writes them when its peers take more."""

    @property
    def full_sinks(self) -> tuple[int, ...]:
        """The sinks for which a message is held, by their index among the pump's sinks."""

    @property
    def holds(self) -> int:
        """How many messages have begun to wait for a sink so far; while it does not change, the same message waits. It
        stays 0 where the pump itself notes how long messages wait."""

    def counters(self) -> Counters:
        """A snapshot of all counters."""

    def sink_counters(self) -> tuple[Counters, ...]:
        """For each sink the counters of the sending side; see `Sender`."""

    def set_taps(self, points: Sequence[TapPoint | None], /) -> None:
        """Have each message that a sink has accepted noted. `points` has one for each sink; None ends that."""

    def move(self, limit_messages: int, limit_bytes: int, /) -> int:
        """Move messages, a held one first, and return why it stopped: EMPTY, FULL or LIMIT.

        A dropped message counts against the limits like one that was sent. The message that exceeds `limit_bytes` is
        still moved whole.

        Raises `zmq.ZMQError` for any error but EAGAIN, EINTR and EHOSTUNREACH. A message whose first frame could not be
        sent because of it is still held.
        """

    def discard_rest(self) -> None:
        """Read and drop the rest of a message that has too many frames, if a part of it was discarded. Whoever reads
        the source next then begins with a whole message. Raises `zmq.ZMQError`."""

    def count_unread(self, limit_messages: int, /) -> int:
        """Return how many messages can be read from the source, up to the limit. They are read and lost, so this is for
        a source that is about to be closed. Raises `zmq.ZMQError`."""


class Sender(Protocol):
    """Sends to one sink of a flow with a handler or with several sinks, and copies to the capture socket."""

    tap: TapPoint | None
    """Notes each message that the sink has accepted; None while nobody taps the broker."""

    @property
    def sent(self) -> int:
        """Messages that the sink has accepted so far, except those that are `queued`."""

    @property
    def queued(self) -> int:
        """Messages that the sink has accepted and that wait in its queues. It is 0 for a socket of libzmq, which does
        not tell."""

    @property
    def finished(self) -> int:
        """Messages that this sender is done with: sent, queued or dropped."""

    def send(self, message: list[bytes], /) -> int:
        """Offer a whole message: SENT, FULL (offer it again later) or DROPPED (counted)."""

    def counters(self) -> Counters:
        """A snapshot of the counters of sending, and as `held` those that are queued; the other counters are 0."""


class Receiver(Protocol):
    """Receives from the source of a flow, and counts what it has received."""

    @property
    def received(self) -> int:
        """Messages taken from the source so far."""

    @property
    def received_bytes(self) -> int:
        """The bytes of the frames of these messages."""

    @property
    def dropped(self) -> int:
        """Messages that were dropped while they were read."""

    @property
    def burst_frames(self) -> int:
        """Frames that were read since this counter was last set to 0."""

    @burst_frames.setter
    def burst_frames(self, value: int, /) -> None: ...

    def __call__(self) -> list[bytes] | None:
        """Return the next message, or None if there is none; never wait. An empty list means that a message, or a part
        of one that has too many frames, was read and dropped (counted), and that there may be more.

        Raises `zmq.ZMQError` and `MemoryError`. A message of which frames were already read is counted as interrupted.
        """

    def discard_rest(self) -> None:
        """See `Pump`."""

    def count_unread(self, limit_messages: int, /) -> int:
        """See `Pump`."""

    def counters(self) -> Counters:
        """A snapshot of the counters of receiving; the other counters are 0."""


class Flow(Protocol):
    """One direction of a broker at run time: a pump and its state. Times are seconds of the loop's clock.

    Three classes keep this: those of `pump/hub.py`, `pump/hub.pxi` and `wire/hub.pxi`."""

    source: int
    """The port index of the source."""
    state: int
    """A `FlowState`."""
    stalls: int
    """How often a sink refused a message, so that the flow had to wait for it."""
    retries: int
    """How many timers were set for this flow since it last moved a message; see `needs_timer`."""
    probe_when_full: bool
    """Set by the broker. True if a full sink is to be tried now and then although it does not report POLLOUT. A
    mandatory ROUTER reports nothing when the peer leaves for which a message is held."""

    @property
    def sinks(self) -> tuple[int, ...]:
        """The port indices of the sinks."""

    @property
    def pump(self) -> Pump:
        """The pump that moves the messages of this flow."""

    @property
    def needs_timer(self) -> bool:
        """True while only a timer can tell the flow when to try again. Either its sink has reported room and refused
        the message all the same, or the flow is stalled and `probe_when_full` is set."""

    def pause(self, now_s: float, /) -> None:
        """Move nothing until `resume`."""

    def read_no_more(self, now_s: float, /) -> None:
        """Read nothing more until `resume`. The flow is PAUSED when it holds no message that its sink has yet to
        accept, and no handler is amid one."""

    def resume(self) -> None:
        """Move messages again. The flow becomes READY, and its first try shows what it has to wait for."""

    def end(self, now_s: float, /) -> None:
        """Move nothing any more."""

    def stalled_s(self, now_s: float, /) -> float:
        """Seconds that the flow has been stalled, up to now."""

    @property
    def waits(self) -> tuple[int, ...]:
        """By how long they waited for a sink (`pollbroker.waits`): the messages that a sink refused at first, and that
        it has taken since, or that were dropped since. A message that waits for two sinks counts twice."""

    @property
    def waited_s(self) -> float:
        """Seconds that these messages waited, together."""


class HubOwner(Protocol):
    """The broker that a hub belongs to. It is given what the hub's methods return or raise."""

    def carry_out(self, flags: int, /) -> None:
        """Do what the flags of the hub ask for: `RETRY`, `FLUSHED`."""

    def fail(self, error: Exception, /) -> None:
        """End the broker because of an error that a method of the hub has raised."""


class Hub(Protocol):
    """The flows of one broker, and the sockets between them. `hub.py` explains the rule that every hub keeps."""

    flushing: bool
    """True after the removal of the broker has begun: each flow sends the message that it holds, and then ends. It does
    not wait for those that are queued."""

    @property
    def only_moves(self) -> bool:
        """True if `work` calls nobody: no route has a handler, nobody taps the broker, and the hub is not one of the
        Python implementation."""

    @property
    def owner(self) -> HubOwner:
        """The broker that the hub belongs to."""

    @property
    def flows(self) -> tuple[Flow, ...]:
        """All flows of the hub."""

    @property
    def working(self) -> bool:
        """True while a handler of one of the broker's routes is being called."""

    def end(self, now_s: float, /) -> None:
        """End every flow, and do not touch the sockets any more."""

    def schedule(self) -> None:
        """Have `work` called in the next turn: put the hub on the loop's list, unless it is there already."""

    def work(self, limit_messages: int, limit_bytes: int, now_s: float, /) -> int:
        """Let each ready flow move messages within the limits, settle the sockets that were used, and return flags.

        Raises `zmq.ZMQError`: ENOTSOCK if a socket was closed under it, otherwise as `Pump.move`.
        """

    def wake(self, port_index: int, /) -> int:
        """Something has happened at a port: make the flow ready that reads it, or settle the socket if no flow is to
        read it. Return flags.

        Raises the same errors as `work`.
        """

    def on_ready(self, port_index: int, wake: Callable[[Any, int], None], /) -> Callable[[], None]:
        """Return the function to call when something happens at a port. It calls `wake(hub, port_index)`, with which
        the loop calls the hub's `wake` and carries out the flags. A native collector makes a flow ready without this
        call where there is nothing to carry out."""

    def interest(self, port_index: int, /) -> int:
        """The events for which a port has to be watched now: those that can wake one of the flows."""


class Implementation(Protocol):
    """One implementation of the whole contract. Native flows and hubs take native pumps only, and each native flow has
    one sink. Python flows and hubs take every pump."""

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

        Arguments:
            capture: a socket that is given a copy of each message that was sent.
            prefix: a frame that precedes each copy.
            drop_slow_peer: True if a message for a peer of a ROUTER that is full, while others are not, is dropped
                (counted); False if it is held.
            maxframes: a message of more frames is dropped (counted).
        """

    def make_receiver(self, source: Socket, maxframes: int = MAXFRAMES, /) -> Receiver:
        """Make the receiver of a flow."""

    def make_sender(
        self, sink: Socket, capture: Socket | None, prefix: bytes | None, drop_slow_peer: bool, /
    ) -> Sender:
        """Make a sender for one sink of a flow."""

    def make_event_reader(self, socket: Socket, /) -> Callable[[], int]:
        """Make a function that reads a socket's ZMQ_EVENTS, which also processes the socket's pending commands.

        The function raises `zmq.ZMQError` if the socket is closed or its context terminated.
        """

    def make_flow(self, pump: Pump, source: int, sinks: tuple[int, ...], /) -> Flow:
        """Make a flow with this pump, from the port with the index `source` to those with the indices `sinks`."""

    def make_hub(
        self,
        owner: HubOwner,
        ready: list[Any],
        sockets: tuple[Socket, ...],
        checked_sockets: tuple[Socket, ...],
        flows: Sequence[Flow],
        /,
    ) -> Hub:
        """Make a hub.

        Arguments:
            owner: the broker that the hub belongs to.
            ready: the loop's list of hubs that have work.
            sockets: the sockets by port index.
            checked_sockets: the socket objects that are checked to be open before each use: those that were registered
                or opened, and the capture socket.
            flows: the flows between the sockets.
        """

    def make_collector(self, epoll: int, wakes: dict[int, Callable[[], None]], /) -> Collector | None:
        """Make a collector of an epoll set. None if the implementation has none; the waiter then uses its own.

        Arguments:
            epoll: the descriptor of the set.
            wakes: the function to call for each descriptor in the set.
        """
