"""The hub: the flows of one broker, and the one subtle rule of the loop. `hub.pxi` is the native version.

**Settling.** A socket is settled when ZMQ_EVENTS has been read after the last operation on it. libzmq's descriptor
(ZMQ_FD) is readable while commands are pending for the socket. A send or a receive may process these commands. Then the
descriptor is no longer readable, and nothing wakes the loop, although a message or room for one has come. So `work`
settles the sockets that it has used, before the loop may sleep. There are two exceptions. A receive that found nothing
settles the socket for reading, since libzmq processes the commands before it reports EAGAIN; but not if something is
sent on the socket afterwards. And a socket for which no flow waits need not be settled.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import zmq

from pollbroker.pump.contract import HubOwner, Pump, Socket
from pollbroker.pump.coroutines import CoroutinePump
from pollbroker.pump.outcomes import BUSY, EMPTY, FLUSHED, FULL, RETRY, FlowState
from pollbroker.pump.routing import RoutingPump
from pollbroker.waits import Waits

_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)
_POLLERR: Final = int(zmq.POLLERR)

_READY: Final = FlowState.READY.value
_WAITING: Final = FlowState.WAITING.value
_STALLED: Final = FlowState.STALLED.value
_RETRYING: Final = FlowState.RETRYING.value
_PAUSED: Final = FlowState.PAUSED.value
_ENDED: Final = FlowState.ENDED.value
_BUSY: Final = FlowState.BUSY.value


class Flow:
    """One direction of a broker; see `pollbroker.pump.contract`."""

    def __init__(self, pump: Pump, source: int, sinks: tuple[int, ...]) -> None:
        self.pump = pump
        self.source = source
        self.sinks = sinks
        self.state: int = _READY
        self.stalls = 0
        self.retries = 0
        self.probe_when_full = False
        self._stalled_s = 0.0
        self._stalled_since: float | None = None
        self._waits = Waits()
        self._sinks_waited_for = 0
        """For how many sinks a message waits."""
        self._holds = 0
        self._waiting_since = 0.0
        self.full_sinks = sinks
        """The sinks that refused a message when the flow was last stalled, by port index."""
        self.reads_no_more = False
        """True if the flow is paused as soon as it is between two messages."""
        self._distrusted: set[int] = set()
        """The full sinks that have reported room, after which the flow tries again. If such a sink refuses again, its
        report cannot be trusted."""

    def move(self, limit_messages: int, limit_bytes: int, now_s: float) -> bool:
        """Let the pump move messages, and set the state that follows from its outcome. Return True if a message was
        offered to a sink."""
        pump = self.pump
        accepted, held, received = pump.sent + pump.queued, pump.held, pump.received
        outcome = pump.move(limit_messages, limit_bytes)
        touched = bool(held) or pump.received != received
        if pump.sent + pump.queued != accepted or outcome != FULL:
            self._end_stall(now_s)
            self._distrusted.clear()
            self.retries = 0
        if self._sinks_waited_for or outcome == FULL:
            self._note_waits(len(pump.full_sinks) if outcome == FULL else 0, now_s)
        if outcome == EMPTY:
            self.state = _WAITING
        elif outcome == FULL:
            self.state = _STALLED
            self.full_sinks = tuple(self.sinks[index] for index in pump.full_sinks)
            if self._stalled_since is None:
                self.stalls += 1
                self._stalled_since = now_s
        elif outcome == BUSY:
            self.state = _BUSY
        return touched

    def _note_waits(self, full_sinks: int, now_s: float) -> None:
        """Count how long a message waited for those sinks that it waits for no longer. `full_sinks` is how many have
        refused a message just now."""
        holds, waited_for = self.pump.holds, self._sinks_waited_for
        if holds == self._holds:
            full_sinks = min(full_sinks, waited_for)  # the same message still waits, if any does
            left = waited_for - full_sinks
        else:
            left = waited_for
        if left:
            self._waits.add(now_s - self._waiting_since, left)
        if holds != self._holds:
            self._holds, self._waiting_since = holds, now_s
        self._sinks_waited_for = full_sinks

    def sink_says(self, port_index: int, room: bool) -> None:
        """Note whether a sink that the flow is stalled on reports room. If the sink has reported room before and
        refused all the same, a timer decides when to try again."""
        if not room:
            self._distrusted.discard(port_index)
        elif port_index not in self._distrusted:
            self._distrusted.add(port_index)
            self.state = _READY
        else:
            self.state = _RETRYING

    @property
    def needs_timer(self) -> bool:
        return self.state == _RETRYING or (self.probe_when_full and self.state == _STALLED)

    def pause(self, now_s: float, /) -> None:
        self._end_stall(now_s)
        self.state = _PAUSED

    def read_no_more(self, now_s: float, /) -> None:
        self._set_reads_no_more(True)
        self.pause_between_messages(now_s)

    def pause_between_messages(self, now_s: float) -> None:
        """Pause the flow, unless a message waits for a sink, or a handler has yet to say what else is made of one."""
        is_amid = isinstance(self.pump, RoutingPump) and self.pump.is_amid_a_message
        if self.pump.held == self.pump.queued and not is_amid:
            self.pause(now_s)

    def _set_reads_no_more(self, value: bool) -> None:
        self.reads_no_more = value
        if isinstance(self.pump, CoroutinePump):
            self.pump.reads_no_more = value

    def resume(self) -> None:
        if self.reads_no_more:
            self._set_reads_no_more(False)
        self.state = _READY
        self._distrusted.clear()

    def end(self, now_s: float, /) -> None:
        self._end_stall(now_s)
        self.state = _ENDED

    def carry_on(self, stalls: int, stalled_s: float, waits: Sequence[int], waited_s: float, /) -> None:
        """Go on counting from here. Raises `ValueError` for a histogram with other bounds."""
        self._waits.carry_on(waits, waited_s)
        self.stalls = stalls
        self._stalled_s = stalled_s

    @property
    def waits(self) -> tuple[int, ...]:
        return self._waits.counts

    @property
    def waited_s(self) -> float:
        return self._waits.total_s

    def stalled_s(self, now_s: float, /) -> float:
        return self._stalled_s + (0.0 if self._stalled_since is None else now_s - self._stalled_since)

    def _end_stall(self, now_s: float) -> None:
        self._stalled_s = self.stalled_s(now_s)
        self._stalled_since = None


class Hub:
    """The flows of one broker; see `pollbroker.pump.contract`."""

    only_moves = False

    def __init__(
        self,
        owner: HubOwner,
        ready: list[Any],
        sockets: tuple[Socket, ...],
        checked_sockets: tuple[Socket, ...],
        flows: tuple[Flow, ...],
    ) -> None:
        self.owner = owner
        self.flows = flows
        self.flushing = False
        self.working = False
        self._ready = ready
        self._sockets = sockets
        self._checked_sockets = checked_sockets
        self._scheduled = False
        self._ended = False
        ports = range(len(sockets))
        self._readers = [next((flow for flow in flows if flow.source == port), None) for port in ports]
        """For each port the flow that reads it, or None. A port is the source of one flow at most."""
        self._writers = [[flow for flow in flows if port in flow.sinks] for port in ports]
        """For each port the flows that send to it."""

    def schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._ready.append(self)

    def end(self, now_s: float, /) -> None:
        self._ended = True
        for flow in self.flows:
            flow.end(now_s)

    def work(self, limit_messages: int, limit_bytes: int, now_s: float, /) -> int:
        self._scheduled = False
        if self._ended:
            return 0
        self._check_open()
        read_dry: set[int] = set()  # the ports at which a receive found nothing, and nothing was sent after it
        self.working = True
        try:
            for flow in self.flows:
                if flow.state == _READY:
                    if self.flushing or flow.reads_no_more:
                        touched = flow.move(1, 1, now_s)  # the held message, and no more
                    else:
                        touched = flow.move(limit_messages, limit_bytes, now_s)
                    if touched:
                        read_dry.difference_update(flow.sinks)
                    if flow.state == _WAITING:
                        read_dry.add(flow.source)
                    if self.flushing and flow.pump.held == flow.pump.queued:
                        flow.end(now_s)
                    elif flow.reads_no_more:
                        flow.pause_between_messages(now_s)
        finally:
            self.working = False
        for port_index in range(len(self._sockets)):
            interest = self.interest(port_index)
            if interest & _POLLOUT or (interest & _POLLIN and port_index not in read_dry):
                self._settle(port_index)
        return self._outcome()

    def wake(self, port_index: int, /) -> int:
        if self._ended:
            return 0
        self._check_open()
        reader = self._readers[port_index]
        if reader is not None and reader.state in (_WAITING, _READY):
            reader.state = _READY  # a receive costs no more than reading ZMQ_EVENTS
            self.schedule()
            return 0
        self._settle(port_index)
        return self._outcome()

    def on_ready(self, port_index: int, wake: Callable[[Any, int], None], /) -> Callable[[], None]:
        return partial(wake, self, port_index)

    def interest(self, port_index: int, /) -> int:
        events = 0
        reader = self._readers[port_index]
        if reader is not None:
            if reader.state == _WAITING:
                events |= _POLLIN
            elif reader.state in (_PAUSED, _BUSY):
                events |= _POLLERR  # never happens, but tells when the context ends
        for flow in self._writers[port_index]:
            if flow.state == _STALLED and port_index in flow.full_sinks:
                events |= _POLLOUT
        return events

    def _settle(self, port_index: int) -> None:
        events = self._sockets[port_index].getsockopt(_EVENTS)
        assert isinstance(events, int)
        reader = self._readers[port_index]
        if reader is not None and reader.state == _WAITING and events & _POLLIN:
            reader.state = _READY
        for flow in self._writers[port_index]:
            if flow.state == _STALLED and port_index in flow.full_sinks:
                flow.sink_says(port_index, bool(events & _POLLOUT))

    def _outcome(self) -> int:
        """Schedule the hub if a flow is ready. Return the flags that tell its owner what to do."""
        flags = 0
        ended = self.flushing
        for flow in self.flows:
            if flow.state == _READY:
                self.schedule()
            elif flow.state != _WAITING and flow.needs_timer:
                flags |= RETRY
            ended = ended and flow.state == _ENDED
        return flags | FLUSHED if ended else flags

    def _check_open(self) -> None:
        for socket in self._checked_sockets:
            if socket.closed:
                raise zmq.ZMQError(zmq.ENOTSOCK)
