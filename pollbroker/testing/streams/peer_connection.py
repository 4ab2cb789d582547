"""The connection of a peer of the kit: what it reads from a stream, and what it writes to it."""

from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from zmq import SocketType

from pollbroker.testing.streams.channel import Channel
from pollbroker.testing.streams.zmtp import (
    Command,
    Message,
    Reader,
    answer_to,
    encode_message,
    encode_ready,
    encode_subscription,
    greeting,
)

Outgoing: TypeAlias = Message | tuple[bytes, bool]
"""A message, or a topic and True if it is subscribed to."""


class PeerConnection:
    """One connection, from the greeting to the end of the stream.

    Arguments:
        kind: the socket type of the peer.
        identity: its routing id.
        minor: it speaks ZMTP 3 with this minor version: 0 or 1.
        on_ready: called when hands were shaken.
        on_message, on_command: called with what has come after that, until `leave`.
        wants_more: returns True if the peer has room for another message.
    """

    def __init__(
        self,
        kind: SocketType,
        identity: bytes,
        minor: int,
        *,
        on_ready: Callable[[], None],
        on_message: Callable[[Message], None],
        on_command: Callable[[Command], None],
        wants_more: Callable[[], bool],
    ) -> None:
        self.unsent: deque[Outgoing] = deque()
        """What was sent and was not yet written."""
        self.handed_on = 0
        """How many messages that have come the peer's user has got, or the peer has dropped by the rules of its
        type."""
        self.left = False
        """Whether the peer has left."""
        self._kind = kind
        self._identity = identity
        self._minor = minor
        self._on_ready = on_ready
        self._on_message = on_message
        self._on_command = on_command
        self._wants_more = wants_more
        self._reader = Reader()
        self._input: Channel | None = None
        self._output: Channel | None = None
        self._pending = bytearray()
        self._answers = bytearray()
        """Commands that are written behind what is pending, between two messages."""
        self._sent: deque[tuple[int, Message]] = deque()
        """The messages that were written, at least their first bytes, and where each ends in the stream."""
        self._said_ready = False
        self.is_ready = False
        """Whether hands were shaken."""

    def begin(self, input: Channel, output: Channel) -> None:
        """The stream is there."""
        self._input, self._output = input, output
        self._pending += greeting(self._minor)

    def speaks_commands(self) -> bool:
        """Return True if both sides have commands for subscriptions."""
        return bool(self._minor and self._reader.minor)

    @property
    def has_work(self) -> bool:
        """Return True if `work` can read or write something."""
        if self._input is None or self._output is None:
            return False
        reads = bool(self._input.arrived) and self._reads()
        writes = self._output.room > 0 and not self._output.ending and self._writes()
        return reads or writes or self._must_end()

    def work(self) -> None:
        """Read what has come, as far as there is room for it, and write what was sent."""
        if self._input is None or self._output is None:
            return
        if self._input.arrived and self._reads():
            for found in self._reader.feed(self._input.read(1 << 20)):
                self._take(found)
        if self._reader.minor is not None and not self._said_ready:
            self._pending += encode_ready(self._kind, self._identity)
            self._said_ready = True
        self._write()
        if self._must_end():
            self._output.ending = True

    def leave(self, *, in_order: bool) -> list[Message]:
        """Leave. What was sent is written to its end, if it leaves in order; otherwise the stream breaks. Return the
        messages that are lost because of that."""
        self.left = True
        if in_order and self._output is not None and not self._output.broken:
            return []
        lost = [message for message in self.unsent if isinstance(message, list)]
        self.unsent.clear()
        if self._input is None or self._output is None:
            return lost
        self._input.unwanted = True
        self._output.break_off()
        return [message for end, message in self._sent if end > self._output.delivered] + lost

    def lost(self) -> int:
        """How many messages have come, or were written to this stream, and will never be read by the peer's user."""
        if self._input is None or not self.left:
            return 0
        self._reader.feed(self._input.read(1 << 30))
        self._input.deliver(1 << 30)
        self._reader.feed(self._input.read(1 << 30))
        return self._reader.messages - self.handed_on

    def _reads(self) -> bool:
        return self.left or not self.is_ready or self._wants_more()

    def _writes(self) -> bool:
        return bool(self._pending or self._answers or self._can_send())

    def _can_send(self) -> bool:
        return self.is_ready and bool(self.unsent)

    def _must_end(self) -> bool:
        """Return True if the peer has left in order, and everything was written."""
        assert self._output is not None
        return self.left and not (self._pending or self._answers or self.unsent or self._output.ending)

    def _take(self, found: Message | Command) -> None:
        if isinstance(found, list):
            if not self.left:
                self._on_message(found)
        elif found.startswith(b"\x05READY"):
            self.is_ready = True
            if not self.left:
                self._on_ready()
        elif answer := answer_to(found):
            self._answers += answer
        elif not self.left:
            self._on_command(found)

    def _write(self) -> None:
        assert self._output is not None
        while not self._output.ending:
            if not self._pending:
                if self._answers:
                    self._pending, self._answers = self._answers, bytearray()
                elif self._can_send():
                    self._encode(self.unsent.popleft())
                else:
                    return
            count = self._output.room
            if not count:
                return
            self._output.write(bytes(self._pending[:count]))
            del self._pending[:count]

    def _encode(self, one: Outgoing) -> None:
        assert self._output is not None
        if isinstance(one, tuple):
            self._pending += encode_subscription(*one, minor=int(self.speaks_commands()))
            return
        self._pending += encode_message(one)
        while self._sent and self._sent[0][0] <= self._output.delivered:
            self._sent.popleft()
        self._sent.append((self._output.written + len(self._pending), one))
