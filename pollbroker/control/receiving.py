"""Receives commands from a control socket without waiting, and not too much of a message at once.

`maxmsgsize` limits a frame, and nothing limits how many frames a client's message has. All brokers wait while a message
is read.
"""

from typing import Final

import zmq

from pollbroker.control.replies import Frames
from pollbroker.pump import Socket

FRAMES_MOST: Final = 1000
"""The most frames that a command may have, with its envelope. No command has nearly as many. As many are read at once,
which takes about a millisecond."""


class CommandReceiver:
    """Receives the commands of one socket, one at each call, or a part of one."""

    def __init__(self, socket: Socket) -> None:
        self._recv = socket.recv
        self._frames: Frames = []
        """Of a message of which there is more to read."""

    def __call__(self) -> Frames | None:
        """The next command; None if there is more to read of it. If it has more than `FRAMES_MOST` frames, the others
        are left out but for one. Raises `zmq.Again` if there is none."""
        for _ in range(FRAMES_MOST):
            try:
                frame = self._recv(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                self._frames.clear()  # its connection was closed, and the rest of it is gone
                raise
            if len(self._frames) <= FRAMES_MOST:
                self._frames.append(frame.bytes)
            if not frame.more:
                frames, self._frames = self._frames, []
                return frames
        return None
