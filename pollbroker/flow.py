"""Flows: one direction of a broker at run time, a pump and its state.

    READY     -- move --> WAITING (source empty), STALLED (sink full) or READY (budget spent)
    WAITING   -- source has messages --> READY
    STALLED   -- sink has room --> READY; but RETRYING if the sink says so and refuses all the same
    RETRYING  -- timer --> READY
    PAUSED    -- resume --> READY
    ENDED     for good

A flow that is not READY costs nothing and watches nothing but what can wake it.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from pollbroker.port import Port
from pollbroker.pump import EMPTY, FULL, Pump
from pollbroker.statistics import FlowStatistics

RETRY_FIRST_S: Final = 0.0005
RETRY_MOST_S: Final = 0.02
"""A sink that refuses although it says POLLOUT (XPUB_NODROP, one slow peer of a mandatory ROUTER) gives no wake-up:
it is tried again after half a millisecond, then after twice that, up to 20 ms: 50 times a second."""


class FlowState(StrEnum):
    READY = "ready"
    WAITING = "waiting"
    STALLED = "stalled"
    RETRYING = "retrying"
    PAUSED = "paused"
    ENDED = "ended"


class Flow:
    """One direction of a broker."""

    def __init__(self, source: Port, sink: Port, pump: Pump, clock: Callable[[], float]) -> None:
        self.source = source
        self.sink = sink
        self.pump = pump
        self.state = FlowState.READY
        self.retry_s = RETRY_FIRST_S
        """The delay before the next timed retry."""
        self._clock = clock
        self._stalls = 0
        self._stalled_s = 0.0
        self._stalled_since: float | None = None
        self._sink_is_trusted = True

    def move(self, limit_messages: int, limit_bytes: int) -> bool:
        """Let the pump work once, take on the state that its outcome means, and say whether the sink was touched.

        Raises `zmq.ZMQError`.
        """
        pump = self.pump
        sent, held, received = pump.sent, pump.held, pump.received
        outcome = pump.move(limit_messages, limit_bytes)
        touched = bool(held) or pump.received != received
        if pump.sent != sent or not pump.held:
            self._end_stall()
            self._sink_is_trusted = True
            self.retry_s = RETRY_FIRST_S
        if outcome == EMPTY:
            self.state = FlowState.WAITING
        elif outcome == FULL:
            self.state = FlowState.STALLED
            if self._stalled_since is None:
                self._stalls += 1
                self._stalled_since = self._clock()
        return touched

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its source."""
        return self.state is FlowState.WAITING

    @property
    def is_retrying(self) -> bool:
        """Whether it waits for a timer, which its broker sees to."""
        return self.state is FlowState.RETRYING

    def sink_says(self, room: bool) -> None:
        """This stalled flow's sink says whether it has room. If it said so before and refused, only time can tell."""
        if not room:
            self._sink_is_trusted = True
        elif self._sink_is_trusted:
            self._sink_is_trusted = False
            self.state = FlowState.READY
        else:
            self.state = FlowState.RETRYING

    def next_retry_s(self) -> float:
        """The delay before this retry; the one after it will be twice as long."""
        delay_s = self.retry_s
        self.retry_s = min(2 * delay_s, RETRY_MOST_S)
        return delay_s

    def pause(self) -> None:
        """Move nothing until `resume`."""
        self._end_stall()
        self.state = FlowState.PAUSED

    def resume(self) -> None:
        """Move again; what became ready meanwhile shows at the first try."""
        self.state = FlowState.READY
        self._sink_is_trusted = True

    def end(self) -> None:
        """Move nothing ever again."""
        self._end_stall()
        self.state = FlowState.ENDED

    def _end_stall(self) -> None:
        if self._stalled_since is not None:
            self._stalled_s += self._clock() - self._stalled_since
            self._stalled_since = None

    def statistics(self) -> FlowStatistics:
        """A snapshot of this direction."""
        stalling_s = 0.0 if self._stalled_since is None else self._clock() - self._stalled_since
        return FlowStatistics(
            **vars(self.pump.counters()),
            source=self.source.name,
            sink=self.sink.name,
            state=self.state,
            stalls=self._stalls,
            stalled_s=self._stalled_s + stalling_s,
        )
