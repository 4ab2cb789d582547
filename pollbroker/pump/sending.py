"""Sends messages without waiting: the first frame is offered to the sink, and when it is accepted the others follow.

The rules are at the top of `contract.py`. `python.py` and `routing.py` use this module; `sending.pxi` is the native
version.
"""

from collections.abc import Sequence
from errno import EHOSTUNREACH
from typing import Final, TypeAlias

import zmq

from pollbroker.pump.contract import Socket, TapPoint
from pollbroker.pump.limits import FRAMES_SHOWN, SUBSCRIPTION_MAX_BYTES
from pollbroker.pump.outcomes import DROPPED, FULL, SENT
from pollbroker.statistics import Counters

DONTWAIT: Final = int(zmq.DONTWAIT)
MORE_TO_COME: Final = int(zmq.DONTWAIT | zmq.SNDMORE)
EVENTS: Final = int(zmq.EVENTS)

Part: TypeAlias = zmq.Frame | bytes


def send_rechecked(socket: Socket, frame: Part, flags: int) -> None:
    """Send a frame. If it is refused, process the socket's pending commands and try once more.

    While it is sending, libzmq processes commands about once in a millisecond only; a peer may have made room since.

    Raises `zmq.Again` if the frame is refused again.
    """
    try:
        socket.send(frame, flags, False)
    except zmq.Again:
        socket.getsockopt(EVENTS)
        socket.send(frame, flags, False)


def has_long_subscription(message: Sequence[Part]) -> bool:
    """Return True if an XSUB would take a frame of this message for a subscription or an unsubscription that is too
    long for libzmq to remove safely. An XSUB looks at every frame, not only at the first (xsub.cpp)."""
    return any(len(frame) > SUBSCRIPTION_MAX_BYTES and _body(frame)[0] <= 1 for frame in message)


def _body(frame: Part) -> bytes:
    return frame if isinstance(frame, bytes) else frame.bytes


def send_copies(capture: Socket, copies: Sequence[Part]) -> bool:
    """Send the copied frames of one message to the capture socket. Return True if it accepted all of them."""
    last = len(copies) - 1
    try:
        send_rechecked(capture, copies[0], MORE_TO_COME if last else DONTWAIT)
    except zmq.Again:
        return False
    taken = True
    for i in range(1, last + 1):
        try:
            capture.send(copies[i], MORE_TO_COME if i < last else DONTWAIT, False)
        except zmq.Again:
            taken = False
            if capture.type == zmq.PAIR:
                break
    return taken


def show(point: TapPoint, frames: int, size: int, shown: Sequence[Part]) -> None:
    """Have a message noted of which the first frames are `shown`, if there is room for it."""
    if not shown or not point.has_room():
        point.lose(1)
        return
    keep = [point.keep_first, *[point.keep] * (len(shown) - 1)]
    starts = [_start(frame, most) for frame, most in zip(shown, keep, strict=True)]
    point.note(frames, size, list(map(len, shown)), starts)


def _start(frame: Part, most: int) -> bytes:
    return bytes(frame[:most] if isinstance(frame, bytes) else frame.buffer[:most])


class Sender:
    """Sends to one sink of a flow, and copies to the capture socket; see `pollbroker.pump.contract`."""

    queued = 0

    def __init__(
        self,
        sink: Socket,
        capture: Socket | None,
        prefix: bytes | None,
        drop_slow_peer: bool,
    ) -> None:
        self._sink = sink
        self._send = sink.send
        self._is_router = sink.type == zmq.ROUTER
        self._is_pair = sink.type == zmq.PAIR
        self._is_rep = sink.type == zmq.REP
        self._is_xsub = sink.type == zmq.XSUB
        self._drop_slow_peer = drop_slow_peer and self._is_router
        self._capture = capture
        self._prefix = [] if prefix is None else [prefix]
        self._copies: list[Part] | None = None
        self.tap: TapPoint | None = None
        self._tapped: list[Part] = []
        """The frames of the present message, if they are to be noted."""
        self._broken = False
        self._frames = 0
        self._bytes = 0
        self.sent = 0
        self.sent_frames = 0
        self.sent_bytes = 0
        self.unroutable = 0
        self.slow_peer = 0
        self.interrupted = 0
        self.long_subscription = 0
        self.captured = 0
        self.captured_frames = 0
        self.captured_bytes = 0
        self.capture_dropped = 0

    def send(self, message: Sequence[Part]) -> int:
        """Offer a whole message: SENT, FULL (offer it again later) or DROPPED (counted)."""
        if self._is_xsub and has_long_subscription(message):
            self.long_subscription += 1
            return DROPPED
        last = len(message) - 1
        outcome = self.offer(message[0], last > 0)
        if outcome == SENT:
            for i in range(1, last + 1):
                self.send_next(message[i], i < last)
        return outcome

    def offer(self, frame: Part, more: bool) -> int:
        """Offer a message's first frame: SENT, FULL (offer it again later) or DROPPED (counted)."""
        if self._is_router and not more:
            self.unroutable += 1  # libzmq would silently drop a message with nothing behind the routing id
            return DROPPED
        flags = MORE_TO_COME if more else DONTWAIT
        try:
            if self._drop_slow_peer:
                send_rechecked(self._sink, frame, flags)
            else:
                self._send(frame, flags, False)
        except zmq.Again:
            if not self._drop_slow_peer:
                return FULL
            self.slow_peer += 1
            return DROPPED
        except zmq.ZMQError as error:
            if error.errno == zmq.EFSM and not self._is_rep:
                return FULL  # a REQ has to receive its reply before it can ask again
            if error.errno not in (EHOSTUNREACH, zmq.EFSM):
                raise
            self.unroutable += 1  # the peer is gone, or, at a REP, nobody has asked
            return DROPPED
        self._broken = False
        self._frames = 1
        self._bytes = len(frame)
        if self._capture is not None:
            self._copies = [*self._prefix, frame]
        if self.tap is not None:
            self._tapped = [frame]
        if not more:
            self._complete()
        return SENT

    def send_next(self, frame: Part, more: bool) -> None:
        """Send the next frame of a message whose first frame was accepted."""
        self._frames += 1
        self._bytes += len(frame)
        if self.tap is not None and len(self._tapped) < FRAMES_SHOWN:
            self._tapped.append(frame)
        # After a frame was refused, the next peer of a PAIR would take the rest of the message for a new message.
        if not (self._broken and self._is_pair):
            if self._copies is not None:
                self._copies.append(frame)
            try:
                self._send(frame, MORE_TO_COME if more else DONTWAIT, False)
            except zmq.Again:
                # The peer has left. libzmq (lb.cpp) drops this frame and the rest of the message. To send this frame
                # again would begin a new message.
                self._broken = True
            except zmq.ZMQError:
                self.interrupted += 1
                raise
        if not more:
            self._complete()

    def _complete(self) -> None:
        copies, self._copies = self._copies, None
        if self._broken:
            self.interrupted += 1
            return
        self.sent += 1
        self.sent_frames += self._frames
        self.sent_bytes += self._bytes
        if self.tap is not None:
            show(self.tap, self._frames, self._bytes, self._tapped)
        if self._capture is not None and copies is not None:
            taken = False
            try:
                taken = send_copies(self._capture, copies)
            finally:
                self.captured += taken
                self.captured_frames += len(copies) if taken else 0
                self.captured_bytes += sum(map(len, copies)) if taken else 0
                self.capture_dropped += not taken

    @property
    def finished(self) -> int:
        """Messages that this sender is done with: sent or dropped."""
        return self.sent + self.unroutable + self.slow_peer + self.interrupted + self.long_subscription

    def counters(self) -> Counters:
        return Counters(
            sent=self.sent,
            sent_frames=self.sent_frames,
            sent_bytes=self.sent_bytes,
            unroutable=self.unroutable,
            slow_peer=self.slow_peer,
            interrupted=self.interrupted,
            long_subscription=self.long_subscription,
            captured=self.captured,
            captured_frames=self.captured_frames,
            captured_bytes=self.captured_bytes,
            capture_dropped=self.capture_dropped,
        )
