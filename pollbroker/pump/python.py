"""The Python pump: the same contract as the native one, for machines where that was not built.

Frames are passed on as `zmq.Frame`, so the bodies are not copied.
"""

from typing import Final

import zmq

from pollbroker.pump.contract import EMPTY, FULL, LIMIT, Socket
from pollbroker.pump.sending import DONTWAIT, REFUSED, SENT, Sending
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
    """Moves whole messages from `source` to `sink`; see `pollbroker.pump` for the contract."""

    def __init__(
        self,
        source: Socket,
        sink: Socket,
        *,
        capture: Socket | None = None,
        prefix: bytes | None = None,
        drop_slow_peer: bool = True,
    ) -> None:
        self._source = source
        self._sending = Sending(sink, capture, prefix, drop_slow_peer)
        self._held: zmq.Frame | None = None
        self._received = 0
        self._received_frames = 0
        self._received_bytes = 0

    @property
    def received(self) -> int:
        return self._received

    @property
    def sent(self) -> int:
        return self._sending.sent

    @property
    def held(self) -> int:
        return 0 if self._held is None else 1

    def counters(self) -> Counters:
        return self._sending.add_to(
            Counters(
                received=self._received,
                received_frames=self._received_frames,
                received_bytes=self._received_bytes,
                held=self.held,
            )
        )

    def move(self, limit_messages: int, limit_bytes: int) -> int:
        receive = self._source.recv
        offer = self._sending.offer
        messages = moved_bytes = 0
        while messages < limit_messages and moved_bytes < limit_bytes:
            frame = self._held
            if frame is None:
                try:
                    frame = receive(DONTWAIT, False)
                except zmq.Again:
                    return EMPTY
                self._held = frame
                self._received += 1
                self._count_received(frame)
            try:
                outcome = offer(frame, frame.more)
            except zmq.ZMQError:
                if self._sending.placed == self._received:
                    self._held = None  # it was the copy for the capture socket that failed
                raise
            if outcome == REFUSED:
                return FULL
            self._held = None
            messages += 1
            moved_bytes += len(frame)
            if frame.more:
                moved_bytes += self._finish() if outcome == SENT else self._discard()
        return LIMIT

    def _count_received(self, frame: zmq.Frame) -> None:
        self._received_frames += 1
        self._received_bytes += len(frame)

    def _finish(self) -> int:
        """Send what follows an accepted first frame; the bytes moved."""
        moved_bytes = 0
        more = True
        while more:
            try:
                frame = self._source.recv(DONTWAIT, False)
            except zmq.ZMQError:
                self._sending.interrupted += 1
                raise
            self._count_received(frame)
            more = frame.more
            self._sending.follow(frame, more)
            moved_bytes += len(frame)
        return moved_bytes

    def _discard(self) -> int:
        """Read the rest of a message that is dropped, and no further; the bytes read."""
        read_bytes = 0
        more = True
        while more:
            frame = self._source.recv(DONTWAIT, False)
            self._count_received(frame)
            more = frame.more
            read_bytes += len(frame)
        return read_bytes
