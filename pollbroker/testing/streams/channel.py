"""One direction of a stream: bytes that were written, those of them that have arrived, and its end."""

from pollbroker.testing.streams.zmtp import Reader


class Channel:
    """Bytes on their way. Whoever writes and whoever reads do not wait; `deliver` is called by the network.

    Arguments:
        capacity: how many bytes may be on their way or unread.
    """

    def __init__(self, capacity: int) -> None:
        self.flying = bytearray()
        """What was written and has not arrived."""
        self.arrived = bytearray()
        """What has arrived and was not read."""
        self.written = 0
        """How many bytes were written so far."""
        self.delivered = 0
        """How many have arrived so far."""
        self.ending = False
        """Whether nothing more will be written."""
        self.ended = False
        """Whether the end has arrived, behind all bytes."""
        self.broken = False
        """Whether the stream was broken: what was flying is lost, and the reader finds an error behind the rest."""
        self.unwanted = False
        """Whether nobody reads any more. What is written vanishes, and can still be counted."""
        self._came = Reader()
        self._capacity = capacity

    @property
    def room(self) -> int:
        """How many bytes may be written now."""
        if self.unwanted:
            return 1 << 20
        return max(0, self._capacity - len(self.flying) - len(self.arrived))

    @property
    def is_moving(self) -> bool:
        """Return True if `deliver` has something to do."""
        return bool(self.flying) or (self.ending and not self.ended)

    @property
    def messages(self) -> int:
        """How many messages have arrived whole."""
        return self._came.messages

    def write(self, given: bytes) -> None:
        """Write bytes, at most as many as there is room for."""
        self.flying += given
        self.written += len(given)

    def deliver(self, count: int) -> None:
        """Let so many bytes arrive, and then the end, if there is one."""
        more = bytes(self.flying[:count])
        del self.flying[:count]
        self.arrived += more
        self.delivered += len(more)
        self._came.feed(more)
        self.ended = self.ending and not self.flying

    def read(self, count: int) -> bytes:
        """Read up to `count` of the bytes that have arrived."""
        taken = bytes(self.arrived[:count])
        del self.arrived[:count]
        return taken

    def break_off(self) -> bytes:
        """Break the stream. Return what was flying, and is lost."""
        lost = bytes(self.flying)
        self.flying.clear()
        self.broken = self.ending = self.ended = True
        return lost
