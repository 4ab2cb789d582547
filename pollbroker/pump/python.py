"""The Python pump. It keeps the same contract as the native one, and serves where that was not built.

Frames are passed on as `zmq.Frame`, so that their contents are not copied.
"""

from collections.abc import Sequence
from typing import Final

import zmq

from pollbroker.pump.contract import Socket, TapPoint
from pollbroker.pump.limits import BURST_FRAMES, MAXFRAMES
from pollbroker.pump.outcomes import EMPTY, FULL, LIMIT
from pollbroker.pump.receiving import Receiver
from pollbroker.pump.sending import Sender
from pollbroker.statistics import Counters

_EVENTS: Final = int(zmq.EVENTS)


class EventReader:
    """Reads a socket's ZMQ_EVENTS: `reader() -> int`. Raises `zmq.ZMQError`."""

    def __init__(self, socket: Socket) -> None:
        self._read = socket.getsockopt

    def __call__(self) -> int:
        events = self._read(_EVENTS)
        assert isinstance(events, int)
        return events


class Pump:
    """Moves whole messages from `source` to `sink`; see `pollbroker.pump.contract`."""

    queued = 0
    holds = 0

    def __init__(
        self,
        source: Socket,
        sink: Socket,
        *,
        capture: Socket | None = None,
        prefix: bytes | None = None,
        drop_slow_peer: bool = True,
        maxframes: int = MAXFRAMES,
    ) -> None:
        self._receiver = Receiver(source, maxframes)
        self._sender = Sender(sink, capture, prefix, drop_slow_peer)
        self._held: list[zmq.Frame] | None = None
        self.discard_rest = self._receiver.discard_rest
        self.count_unread = self._receiver.count_unread

    @property
    def received(self) -> int:
        return self._receiver.received

    @property
    def sent(self) -> int:
        return self._sender.sent

    @property
    def held(self) -> int:
        return 0 if self._held is None else 1

    @property
    def full_sinks(self) -> tuple[int, ...]:
        return () if self._held is None else (0,)

    def counters(self) -> Counters:
        done = self._receiver.counters() + self._sender.counters()
        return done if self._held is None else done + Counters(held=1)

    def sink_counters(self) -> tuple[Counters, ...]:
        return (self._sender.counters(),)

    def set_taps(self, points: Sequence[TapPoint | None], /) -> None:
        (self._sender.tap,) = points

    def move(self, limit_messages: int, limit_bytes: int) -> int:
        receiver, sender = self._receiver, self._sender
        read, send = receiver.read, sender.send
        messages = moved_bytes = 0
        held_before = self._held
        receiver.burst_frames = 0
        while messages < limit_messages and moved_bytes < limit_bytes and receiver.burst_frames < BURST_FRAMES:
            message = self._held
            if message is None:
                message = read()
                if message is None:
                    return EMPTY
                self._held = message or None
            if message:
                try:
                    outcome = send(message)
                except BaseException:
                    if sender.finished + receiver.dropped == receiver.received:
                        self._held = None  # it was a later frame that failed, or the copy for the capture socket
                    raise
                if outcome == FULL:
                    self.holds += message is not held_before
                    return FULL
                self._held = None
            messages += 1
            moved_bytes += receiver.message_bytes
        return LIMIT
