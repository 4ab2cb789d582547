"""Pipes: the two directions between a pair of sockets, with their water marks, and how they end.

Rules, which are libzmq's (pipe.cpp, ypipe.hpp):

- A message is seen by its reader when its last frame is written. What was written of an unfinished one is taken back
  when the writer lets go.
- The writer counts what it wrote against what the reader *said* that it has read. The reader says so when its count is
  a multiple of its low-water mark, (high + 1) / 2, after *any* frame that it reads: also after the first one, while the
  count is 0, and again for each frame of the message that follows a multiple.
- The reader is woken only if it has found the pipe empty since it was woken last.
- Who lets go first (`terminate`) writes a delimiter behind what is written, and reads no more. The other end reads up
  to the delimiter, unless it never reads (PUSH, PUB: no delay), and then acknowledges; the first end acknowledges that,
  and with each acknowledgement the end that gets it is gone. Until then the pipe is in its socket's lists, but refuses.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from pollbroker.testing.simulation.frame import DELIMITER, LAST, MORE, ROUTING_ID, Item

if TYPE_CHECKING:
    from pollbroker.testing.simulation.core import SocketCore

ACTIVE: Final = 0
AT_DELIMITER: Final = 1
"""The delimiter has been read; the peer's request to end has yet to be processed."""
UP_TO_DELIMITER: Final = 2
"""The peer has let go; what it wrote may still be read."""
ACKNOWLEDGED: Final = 3
LET_GO: Final = 4
LET_GO_BOTH: Final = 5
GONE: Final = 6

_READING: Final = (ACTIVE, UP_TO_DELIMITER)


class Channel:
    """One direction of a pipe."""

    __slots__ = ("asleep", "items", "unfinished")

    def __init__(self) -> None:
        self.items: deque[Item] = deque()
        self.unfinished: list[Item] = []
        self.asleep = False
        """Whether the reader has found nothing, and waits to be woken."""


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
        """Whose mailbox gets this end's commands."""
        self.inbound = inbound
        self.outbound = outbound
        self.state = ACTIVE
        self.readable = True
        self.writable = True
        self.routing_id = b""
        """By which a ROUTER knows this peer."""
        self.high = high_out
        self._low = (high_in + 1) // 2
        self._extra_in = self._extra_out = -1
        self._read = self._written = self._peer_has_read = 0
        self._delays = True

    # Water marks

    def set_extra(self, extra_in: int, extra_out: int) -> None:
        """What the other end allows: over inproc the two ends' marks are added up."""
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
        """Whether the high-water mark allows another message, be the pipe being ended or not."""
        return not self.high or self._written - self._peer_has_read < self.high

    def would_have_room(self, peer_has_read: int | None, water_marks: int | None) -> bool:
        """The same, if word came that the peer has read so many, and of other water marks (None: no word)."""
        has_read = self._peer_has_read if peer_has_read is None else peer_has_read
        high = self.high if water_marks is None else self._high_with(water_marks & 0xFFFFFFFF)
        return not high or self._written - has_read < high

    # Reading

    def can_read(self) -> bool:
        """Whether a frame is there. To find none puts this end to sleep; to find the delimiter moves the end along."""
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
        """The next frame, or None."""
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
        """Whether a frame would be taken. To find the pipe full has this end wait for word from the reader."""
        if not self.writable:
            return False
        if self.high and self._written - self._peer_has_read >= self.high:
            self.writable = False
            return False
        return True

    def write(self, body: bytes, kind: int) -> bool:
        """Write one frame; a last one is handed over, with all that was written before it. Whether it was taken."""
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
        """Take back what was written of an unfinished message."""
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
        """This end never reads, so it would never come to the delimiter."""
        self._delays = False

    def terminate(self, delays: bool) -> None:
        """Let go. `delays`: if the peer has let go already, what it wrote is still to be read."""
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
    """Both ends of a pipe; the marks are those of the near end, for what it writes and for what it reads."""
    there, back = Channel(), Channel()
    near_end = Pipe(near, back, there, high_in, high_out)
    far_end = Pipe(far, there, back, high_out, high_in)
    near_end.peer, far_end.peer = far_end, near_end
    return near_end, far_end
