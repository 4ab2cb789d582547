"""The hub: the flows of one broker, and the one subtle rule of the loop. `hub.pxi` is its native twin.

**Settling.** A socket is settled when ZMQ_EVENTS has been read after the last operation on it. libzmq's descriptor
(ZMQ_FD) is readable while commands are pending, and a send or a receive may process them: then nothing is left to wake
anybody, though a message or room has come. So whoever works with a broker's sockets settles them before the loop may
sleep; `work` does. One operation settles as well, for reading: a receive that found nothing, since libzmq processes the
commands before it says EAGAIN, as long as nothing was sent on the socket after it. And a socket that nobody waits for
need not be settled.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import zmq

from pollbroker.pump.contract import EMPTY, FLUSHED, FULL, RETRY, FlowState, Pump, Socket

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


class Flow:
    """One direction of a broker; see `pollbroker.pump.contract`."""

    def __init__(self, pump: Pump, source: int, sink: int) -> None:
        self.pump = pump
        self.source = source
        self.sink = sink
        self.state: int = _READY
        self.stalls = 0
        self.retries = 0
        self.armed = False
        self.probe_when_full = False
        self._stalled_s = 0.0
        self._stalled_since: float | None = None
        self._sink_is_trusted = True

    def move(self, limit_messages: int, limit_bytes: int, now_s: float) -> bool:
        """Let the pump work once, take on the state that its outcome means, and say whether the sink was touched."""
        pump = self.pump
        sent, held, received = pump.sent, pump.held, pump.received
        outcome = pump.move(limit_messages, limit_bytes)
        touched = bool(held) or pump.received != received
        if pump.sent != sent or not pump.held:
            self._end_stall(now_s)
            self._sink_is_trusted = True
            self.retries = 0
        if outcome == EMPTY:
            self.state = _WAITING
        elif outcome == FULL:
            self.state = _STALLED
            if self._stalled_since is None:
                self.stalls += 1
                self._stalled_since = now_s
        return touched

    def sink_says(self, room: bool) -> None:
        """This stalled flow's sink says whether it has room. If it said so before and refused, only time can tell."""
        if not room:
            self._sink_is_trusted = True
        elif self._sink_is_trusted:
            self._sink_is_trusted = False
            self.state = _READY
        else:
            self.state = _RETRYING

    def pause(self, now_s: float, /) -> None:
        self._end_stall(now_s)
        self.state = _PAUSED

    def resume(self) -> None:
        self.state = _READY
        self._sink_is_trusted = True

    def end(self, now_s: float, /) -> None:
        self._end_stall(now_s)
        self.state = _ENDED

    def stalled_s(self, now_s: float, /) -> float:
        return self._stalled_s + (0.0 if self._stalled_since is None else now_s - self._stalled_since)

    def _end_stall(self, now_s: float) -> None:
        self._stalled_s = self.stalled_s(now_s)
        self._stalled_since = None


class Hub:
    """The flows of one broker; see `pollbroker.pump.contract`."""

    def __init__(
        self,
        owner: Any,
        ready: list[Any],
        sockets: tuple[Socket, ...],
        guarded: tuple[Socket, ...],
        flows: tuple[Flow, ...],
    ) -> None:
        self.owner = owner
        self.flows = flows
        self.flushing = False
        self.working = False
        self._ready = ready
        self._sockets = sockets
        self._guarded = guarded
        self._scheduled = False
        self._ended = False

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
        if self.flushing:
            limit_messages, limit_bytes = 1, 1  # what it holds, and no more
        read_dry: set[int] = set()
        self.working = True
        try:
            for flow in self.flows:
                if flow.state == _READY:
                    if flow.move(limit_messages, limit_bytes, now_s):
                        read_dry.discard(flow.sink)
                    if flow.state == _WAITING:
                        read_dry.add(flow.source)
                    if self.flushing and not flow.pump.held:
                        flow.end(now_s)
        finally:
            self.working = False
        for port in range(len(self._sockets)):
            interest = self.interest(port)
            if interest & _POLLOUT or (interest & _POLLIN and port not in read_dry):
                self._settle(port)
        return self._outcome()

    def wake(self, port: int, /) -> int:
        if self._ended:
            return 0
        self._check_open()
        for flow in self.flows:
            if flow.source == port and flow.state in (_WAITING, _READY):
                flow.state = _READY  # to try costs no more than to ask
                self.schedule()
                return 0
        self._settle(port)
        return self._outcome()

    def on_ready(self, port: int, wake: Callable[[Any, int], None], /) -> Callable[[], None]:
        return partial(wake, self, port)

    def interest(self, port: int, /) -> int:
        events = 0
        for flow in self.flows:
            if flow.source == port and flow.state == _WAITING:
                events |= _POLLIN
            if flow.sink == port and flow.state == _STALLED:
                events |= _POLLOUT
            if flow.source == port and flow.state == _PAUSED:
                events |= _POLLERR  # never happens; but who watches a socket for anything is told of its context's end
        return events

    def _settle(self, port: int) -> None:
        events = self._sockets[port].getsockopt(_EVENTS)
        assert isinstance(events, int)
        for flow in self.flows:
            if flow.source == port and flow.state == _WAITING and events & _POLLIN:
                flow.state = _READY
            elif flow.sink == port and flow.state == _STALLED:
                flow.sink_says(bool(events & _POLLOUT))

    def _outcome(self) -> int:
        """Rouse it if a flow is ready; what else its owner has to do."""
        flags = 0
        ended = self.flushing
        for flow in self.flows:
            if flow.state == _READY:
                self.schedule()
            if flow.state == _RETRYING or (flow.probe_when_full and flow.state == _STALLED):
                flags |= RETRY
            ended = ended and flow.state == _ENDED
        return flags | FLUSHED if ended else flags

    def _check_open(self) -> None:
        for socket in self._guarded:
            if socket.closed:
                raise zmq.ZMQError(zmq.ENOTSOCK)
