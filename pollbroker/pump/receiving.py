"""Receives messages without waiting, by the rules at the top of `contract.py`.

`python.py` and `routing.py` use it; `receiving.pxi` is the native version.
"""

from typing import Final

import zmq

from pollbroker.pump.contract import Socket
from pollbroker.pump.limits import BURST_FRAMES, MAXFRAMES
from pollbroker.statistics import Counters

DONTWAIT: Final = int(zmq.DONTWAIT)


class Receiver:
    """Receives from the source of a flow; see `pollbroker.pump.contract`."""

    def __init__(self, source: Socket, maxframes: int = MAXFRAMES) -> None:
        self._recv = source.recv
        self._maxframes = maxframes
        self._discarding = False
        self.received = 0
        self.received_frames = 0
        self.received_bytes = 0
        self.too_many_frames = 0
        self.interrupted = 0
        self.burst_frames = 0
        self.message_bytes = 0
        """Bytes of the message, or of the part of a message, that was read last."""

    def __call__(self) -> list[bytes] | None:
        frames = self.read()
        if not frames:
            return None if frames is None else []
        try:
            return [frame.bytes for frame in frames]
        except MemoryError:
            self.interrupted += 1
            raise

    def read(self) -> list[zmq.Frame] | None:
        """Do the same as a call, but return `zmq.Frame` objects, so that their contents are not copied."""
        self.message_bytes = 0
        if self._discarding:
            self._discard(BURST_FRAMES)
            return []
        try:
            frame = self._recv(DONTWAIT, False)
        except zmq.Again:
            return None
        except zmq.ZMQError as error:
            if error.errno == zmq.EFSM:
                return None  # a REP has to reply, or a REQ to ask, before it can receive
            raise
        self.received += 1
        self._count(frame)
        message = [frame]
        while frame.more:
            if len(message) >= self._maxframes:
                self.too_many_frames += 1
                self._discarding = True
                return []
            try:
                frame = self._recv(DONTWAIT, False)
            except zmq.Again:
                self.interrupted += 1  # the connection was closed, and the rest of the message with it
                return []
            except BaseException as error:
                self.interrupted += 1
                self._discarding = not isinstance(
                    error, zmq.ZMQError
                )  # after a KeyboardInterrupt, say, the rest can be read
                raise
            self._count(frame)
            message.append(frame)
        return message

    def discard_rest(self) -> None:
        while self._discarding:
            self._discard(BURST_FRAMES)

    def count_unread(self, limit_messages: int, /) -> int:
        self.discard_rest()
        messages = 0
        while messages < limit_messages:
            try:
                messages += not self._recv(DONTWAIT, False).more
            except zmq.Again:
                break
        return messages

    def _discard(self, most_frames: int) -> None:
        """Read and drop at most `most_frames` of the frames that are left of a message."""
        for _ in range(most_frames):
            try:
                frame = self._recv(DONTWAIT, False)
            except zmq.Again:
                self._discarding = False
                return
            self._count(frame)
            if not frame.more:
                self._discarding = False
                return

    def _count(self, frame: zmq.Frame) -> None:
        size = len(frame)
        self.received_frames += 1
        self.received_bytes += size
        self.message_bytes += size
        self.burst_frames += 1

    @property
    def dropped(self) -> int:
        """Messages that were dropped while they were read."""
        return self.too_many_frames + self.interrupted

    def counters(self) -> Counters:
        return Counters(
            received=self.received,
            received_frames=self.received_frames,
            received_bytes=self.received_bytes,
            too_many_frames=self.too_many_frames,
            interrupted=self.interrupted,
        )
