"""Pipes: the two directions between a pair of sockets, with their water marks, and how they end.

Rules, which are libzmq's (pipe.cpp, ypipe.hpp):

- The reader sees a message when its last frame is written. The frames of an unfinished message are taken back when the
  writer ends the pipe.
- The writer compares how many messages it wrote with how many the reader has *reported* as read. After *any* frame the
  reader reports its count if that is a multiple of its low-water mark, (high + 1) / 2: also after the first frames,
  while the count is 0, and again for each frame of the message that follows a multiple.
- The reader is woken only if it has found the pipe empty since it was last woken.
- The end that closes first (`terminate`) writes a delimiter behind what it has written, and reads no more. The other
  end reads up to the delimiter and then acknowledges; an end that never reads (PUSH, PUB) acknowledges at once, without
  delay. The first end acknowledges that in turn. An end is gone when it gets an acknowledgement. Until then the pipe
  stays in its socket's lists, but takes and gives nothing.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from pollbroker.testing.simulation.frame import DELIMITER, LAST, MORE, ROUTING_ID, Item

if TYPE_CHECKING:
    from pollbroker.testing.simulation.core import SocketCore

ACTIVE: Final = 0
AT_DELIMITER: Final = 1
"""The delimiter has been read; the command by which the peer ends the pipe has yet to be processed."""
UP_TO_DELIMITER: Final = 2
"""The peer has ended the pipe; what the peer wrote may still be read."""
ACKNOWLEDGED: Final = 3
"""This end has acknowledged the end of the pipe and waits for the acknowledgement of the peer."""
LET_GO: Final = 4
"""This end has ended the pipe."""
LET_GO_BOTH: Final = 5
"""Both ends have ended the pipe."""
GONE: Final = 6
"""This end is no longer in its socket's lists."""

_READING: Final = (ACTIVE, UP_TO_DELIMITER)


class Channel:
    """One direction of a pipe."""

    __slots__ = ("asleep", "items", "unfinished")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.unfinished: list[Item] = []
        self.asleep = False
        """Whether the reader has found the channel empty, and waits to be woken."""


class Pipe:
    """One end of a pipe: its socket reads `inbound` and writes `outbound`."""

    __slots__ = (
        "_delays",
        "_extra_in",
        "_extra_out",
        "_low",
        "_peer_has_read",
        "_read",
        "_written",
        "high",
        "inbound",
        "outbound",
        "owner",
        "peer",
        "readable",
        "routing_id",
        "state",
        "writable",
    )

    peer: "Pipe"

    def __init__(self, owner: "SocketCore", inbound: Channel, outbound: Channel, high_in: int, high_out: int) -> None:
        self.owner = owner
        """The socket whose mailbox gets the commands for this end."""
        self.inbound = inbound
        self.outbound = outbound
        self.state = ACTIVE
        self.readable = True
        self.writable = True
        self.routing_id = b""
        """The routing id by which a ROUTER knows the peer."""
        self.high = high_out
        self._low = (high_in + 1) // 2
        self._extra_in = self._extra_out = -1
        self._read = self._written = self._peer_has_read = 0
        self._delays = True

    # Water marks

    def set_extra(self, extra_in: int, extra_out: int) -> None:
        """Set the high-water marks of the other end, which over inproc are added to those of this end."""
        self._extra_in, self._extra_out = extra_in, extra_out

    def set_water_marks(self, high_in: int, high_out: int) -> None:
        unlimited_in = high_in <= 0 or self._extra_in == 0
        self._low = 0 if unlimited_in else (high_in + max(self._extra_in, 0) + 1) // 2
        self.high = self._high_with(high_out)

    def _high_with(self, high_out: int) -> int:
        return 0 if high_out <= 0 or self._extra_out == 0 else high_out + max(self._extra_out, 0)

    def on_water_marks(self, packed: int) -> None:
        self.set_water_marks(packed >> 32, packed & 0xFFFFFFFF)

    def has_room(self) -> bool:
        """Return True if the high-water mark allows another message, even if the pipe is being ended."""
        return not self.high or self._written - self._peer_has_read < self.high

    def would_have_room(self, peer_has_read: int | None, water_marks: int | None) -> bool:
        """Return what `has_room` would return after commands with these numbers (None: without such a command)."""
        has_read = self._peer_has_read if peer_has_read is None else peer_has_read
        high = self.high if water_marks is None else self._high_with(water_marks & 0xFFFFFFFF)
        return not high or self._written - has_read < high

    # Reading

    def can_read(self) -> bool:
        """Return True if there is a frame to read.

        If there is none, this end waits to be woken. If the next item is the delimiter, this end reads it and acts on
        it.
        """
        if not self.readable:
            return False
        items = self.inbound.items
        if not items:
            self.readable = False
            self.inbound.asleep = True
            return False
        if items[0] is DELIMITER:
            items.popleft()
            self._at_delimiter()
            return False
        return True

    def read(self) -> Item | None:
        """Read the next frame. Return None if there is none."""
        if not self.readable:
            return None
        items = self.inbound.items
        if not items:
            self.readable = False
            self.inbound.asleep = True
            return None
        item = items.popleft()
        if item is DELIMITER:
            self._at_delimiter()
            return None
        if item[1] == LAST:
            self._read += 1
        if self._low and not self._read % self._low:
            self.peer.owner.mailbox.post(Pipe.on_room, self.peer, self._read)
        return item

    def on_readable(self, _: int) -> None:
        if not self.readable and self.state in _READING:
            self.readable = True
            self.owner.on_readable(self)

    # Writing

    def can_write(self) -> bool:
        """Return True if a frame would be accepted. If the pipe is full, this end waits for a report of the reader."""
        if not self.writable:
            return False
        if self.high and self._written - self._peer_has_read >= self.high:
            self.writable = False
            return False
        return True

    def write(self, body: bytes, kind: int) -> bool:
        """Write one frame. Return True if it was accepted. The last frame of a message makes the whole message
        readable."""
        if not self.writable:
            return False
        if self.high and self._written - self._peer_has_read >= self.high:
            self.writable = False
            return False
        channel = self.outbound
        if kind == MORE:
            channel.unfinished.append((body, MORE))
            return True
        if channel.unfinished:
            channel.items.extend(channel.unfinished)
            channel.unfinished.clear()
        channel.items.append((body, kind))
        if kind != ROUTING_ID:
            self._written += 1
        self._wake_reader()
        return True

    def rollback(self) -> None:
        """Take back the frames of an unfinished message."""
        self.outbound.unfinished.clear()

    def on_room(self, peer_has_read: int) -> None:
        self._peer_has_read = peer_has_read
        if not self.writable and self.state == ACTIVE:
            self.writable = True
            self.owner.on_writable(self)

    def _wake_reader(self) -> None:
        channel = self.outbound
        if channel.asleep:
            channel.asleep = False
            self.peer.owner.mailbox.post(Pipe.on_readable, self.peer)

    # The end

    def set_nodelay(self) -> None:
        """Let this end acknowledge the end of the pipe at once, because it never reads and would not find the
        delimiter."""
        self._delays = False

    def terminate(self, delays: bool) -> None:
        """End the pipe.

        Arguments:
            delays: True if, when the peer has ended the pipe already, what it wrote is still to be read.
        """
        self._delays = delays
        state = self.state
        if state in (ACKNOWLEDGED, LET_GO, LET_GO_BOTH, GONE):
            return
        self.writable = False
        if state == UP_TO_DELIMITER and not delays:
            self._acknowledge(ACKNOWLEDGED)
            return
        if state != UP_TO_DELIMITER:
            self.state = LET_GO
            self.readable = False
            self.peer.owner.mailbox.post(Pipe.on_terminate, self.peer)
        self.rollback()
        self.outbound.items.append(DELIMITER)
        self._wake_reader()

    def on_terminate(self, _: int) -> None:
        self.writable = False
        if self.state == ACTIVE and self._delays:
            self.state = UP_TO_DELIMITER
        elif self.state in (ACTIVE, AT_DELIMITER):
            self._acknowledge(ACKNOWLEDGED)
        elif self.state == LET_GO:
            self._acknowledge(LET_GO_BOTH)
        else:
            raise AssertionError(f"a pipe in state {self.state} was asked to end")

    def on_acknowledged(self, _: int) -> None:
        self.owner.on_terminated(self)
        unread = sum(kind == LAST for _, kind in self.inbound.items)
        self.peer.owner.lost_with_peers += unread
        self.inbound.items.clear()
        if self.state == LET_GO:
            self._acknowledge(GONE)
        self.state = GONE

    def _at_delimiter(self) -> None:
        self.readable = False
        if self.state == ACTIVE:
            self.state = AT_DELIMITER
            self.writable = False
        else:
            self._acknowledge(ACKNOWLEDGED)

    def _acknowledge(self, state: int) -> None:
        self.state = state
        self.readable = self.writable = False
        self.peer.owner.mailbox.post(Pipe.on_acknowledged, self.peer)


def make_pipe(near: "SocketCore", far: "SocketCore", high_out: int, high_in: int) -> tuple[Pipe, Pipe]:
    """Return both ends of a new pipe. The high-water marks are those of the near end, for writing and for reading."""
    there, back = Channel(), Channel()
    near_end = Pipe(near, back, there, high_in, high_out)
    far_end = Pipe(far, there, back, high_out, high_in)
    near_end.peer, far_end.peer = far_end, near_end
    return near_end, far_end
