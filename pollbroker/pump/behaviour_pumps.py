"""The pumps of a broker with a behaviour.

There is a flow for each source, with a `SourcePump`, and one flow without a source, with the `OutgoingPump`. The latter
sends the messages that wait for room, and calls the behaviour when a timer is due. So the sockets are only ever used in
`Hub.work`, which settles them.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from pollbroker.pump.behaviours import BehaviourRun
from pollbroker.pump.contract import Hub, Receiver, Sender, TapPoint
from pollbroker.pump.limits import BURST_FRAMES
from pollbroker.pump.outcomes import BUSY, EMPTY, FULL, LIMIT, FlowState
from pollbroker.statistics import Counters

NO_SOURCE = -1
"""The port index of the source of a flow that has none."""

_ASKED_BYTES: Final = 4 << 20
_ASKED_FRAMES: Final = 100_000
"""Copying so much, and making so many objects, takes some milliseconds. Heartbeats are small, and have few frames."""


class SourcePump:
    """Gives the messages of one source to a behaviour; a `Pump` without sinks of its own."""

    full_sinks: tuple[int, ...] = ()
    sent = 0
    held = 0
    queued = 0
    holds = 0

    def __init__(self, run: BehaviourRun, port: str, receiver: Receiver, sinks: int) -> None:
        self._sinks = sinks
        self._run = run
        self._port = port
        self._receiver = receiver
        self.counters = receiver.counters
        self.discard_rest = receiver.discard_rest

    @property
    def received(self) -> int:
        """Messages taken from the source so far."""
        return self._receiver.received

    def sink_counters(self) -> tuple[Counters, ...]:
        """Nothing is counted here: `OutgoingPump` has the counters of all ports."""
        return (Counters(),) * self._sinks

    def set_taps(self, points: Sequence[TapPoint | None], /) -> None:
        """Nothing is sent here: `OutgoingPump` has the senders of all ports."""

    def move(self, limit_messages: int, limit_bytes: int, /) -> int:
        """See `pollbroker.pump.contract`. Returns BUSY if the source is not to be read now."""
        run, receiver, port = self._run, self._receiver, self._port
        closed = run.closed
        messages, begun = 0, receiver.received_bytes
        receiver.burst_frames = 0
        while (
            messages < limit_messages
            and receiver.received_bytes - begun < limit_bytes
            and receiver.burst_frames < BURST_FRAMES
        ):
            if (port in closed or run.waiting) and not run.may_read(port):
                return BUSY
            frames = receiver()
            if frames is None:
                return EMPTY
            if frames:
                run.message(port, frames)
            messages += 1
        return LIMIT

    def count_unread(self, limit_messages: int, /) -> int:
        """See `pollbroker.pump.contract`. Messages with which nothing is lost, as the behaviour says, are left out. It
        is asked about as many as `_ASKED_BYTES` and `_ASKED_FRAMES` allow, since all brokers wait meanwhile; all others
        are counted."""
        receiver, lost = self._receiver, 0
        counted, dropped, begun = self.counters(), receiver.dropped, receiver.received_bytes
        self.counters = lambda: counted  # what is read from here on does not count as received
        receiver.burst_frames = 0
        for number in range(limit_messages):
            if receiver.received_bytes - begun >= _ASKED_BYTES or receiver.burst_frames >= _ASKED_FRAMES:
                lost += receiver.count_unread(limit_messages - number)
                break
            frames = receiver()
            if frames is None:
                break
            lost += bool(frames) and self._run.is_lost(self._port, frames)
        return lost + receiver.dropped - dropped


class OutgoingPump:
    """Sends what waits for room, and runs the timers that are due; a `Pump` without a source.

    Arguments:
        senders: the senders by port, in the order of the flow's sinks.
    """

    received = 0
    holds = 0  # the run itself notes how long messages wait

    def __init__(self, run: BehaviourRun, senders: Mapping[str, Sender]) -> None:
        self.run = run
        self._senders = senders

    @property
    def sent(self) -> int:
        """Messages that the ports have accepted so far, except those that are queued."""
        return sum(sender.sent for sender in self._senders.values())

    @property
    def held(self) -> int:
        """Messages that wait for room, and those that are queued. What the behaviour keeps is not among them: no
        attempt to send can change it."""
        return self.run.number_waiting + self.queued

    @property
    def queued(self) -> int:
        """See `pollbroker.pump.contract`."""
        return sum(sender.queued for sender in self._senders.values())

    @property
    def full_sinks(self) -> tuple[int, ...]:
        """The ports that messages wait for, and those of whose room the behaviour is to be told, by their index among
        the senders."""
        full = self.run.waiting.keys() | self.run.refusing
        return tuple(index for index, port in enumerate(self._senders) if port in full)

    def counters(self) -> Counters:
        """What the behaviour has done with all messages, beside what the sources count."""
        account = self.run.account
        own = Counters(held=self.run.held, added=account.added, filtered=account.filtered, failed=account.failed)
        return sum(self.sink_counters(), own)

    def sink_counters(self) -> tuple[Counters, ...]:
        """For each port the counters of sending."""
        return tuple(sender.counters() for sender in self._senders.values())

    def set_taps(self, points: Sequence[TapPoint | None], /) -> None:
        """See `pollbroker.pump.contract`."""
        for sender, point in zip(self._senders.values(), points, strict=True):
            sender.tap = point

    def move(self, limit_messages: int, limit_bytes: int, /) -> int:  # noqa: ARG002 - see `WAITING_MOST`
        """See `pollbroker.pump.contract`."""
        self.run.run_due_timers()
        self.run.flush()
        self.run.tell_of_room()
        return FULL if self.run.waiting or self.run.refusing else EMPTY

    def discard_rest(self) -> None:
        """Nothing is read here."""

    def count_unread(self, limit_messages: int, /) -> int:  # noqa: ARG002
        """Nothing is read here."""
        return 0


def let_flows_go_on(run: BehaviourRun, hub: Hub) -> None:
    """Let the flows of a hub go on when a source may be read again, when a message waits for room, and when a timer is
    due."""
    run.on_change = partial(_go_on, run, hub)


def _go_on(run: BehaviourRun, hub: Hub) -> None:
    for flow in hub.flows:
        if isinstance(flow.pump, OutgoingPump):
            if run.has_work and flow.state in (FlowState.WAITING, FlowState.STALLED):
                flow.state = FlowState.READY
        elif flow.state == FlowState.BUSY:
            flow.state = FlowState.READY  # it looks for itself whether it may read
    hub.schedule()
