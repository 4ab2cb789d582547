"""A port's end of a simulated stream."""

import errno
from typing import TYPE_CHECKING

from pollbroker.testing.streams.channel import Channel
from pollbroker.wire.native import Event, Stream

if TYPE_CHECKING:
    from pollbroker.testing.streams.network import StreamNetwork


class PortStream(Stream):
    """What a port reads, writes and closes. It waits to be told after a read or a write of less than it has asked for.

    Arguments:
        refuses_after_end: a write fails (EPIPE) once the other side has ended its stream; otherwise what is written
            then vanishes, as it does before the kernel has found out that nobody reads it.
    """

    def __init__(self, network: "StreamNetwork", input: Channel, output: Channel, *, refuses_after_end: bool) -> None:
        self.input = input
        self.output = output
        self._network = network
        self._refuses_after_end = refuses_after_end
        self._is_full = False
        self._was_told_of_end = False

    @property
    def is_idle(self) -> bool:
        """Return True if the port can write, and does not wait until it is told that it can."""
        return not self._is_full and self.output.room > 0

    @property
    def has_news(self) -> bool:
        """Return True if the port will be told that it can write."""
        return self.is_open and self._is_full and self.output.room > 0

    def read(self, count: int) -> bytes | int:
        """See `Stream`."""
        self._network.before_operation()
        if self.input.arrived:
            return self.input.read(count)
        if self.input.broken:
            return -errno.ECONNRESET
        return b"" if self.input.ended else -errno.EAGAIN

    def write(self, given: bytes) -> int:
        """See `Stream`."""
        self._network.before_operation()
        if self.input.broken:
            return -errno.ECONNRESET
        if self.input.ending and self._refuses_after_end:
            return -errno.EPIPE
        count = self._network.part_of_write(min(len(given), self.output.room))
        self._is_full = count < len(given)
        self.output.write(given[:count])
        return count or -errno.EAGAIN

    def close(self) -> None:
        """The port has closed the connection: the other side finds the end, and what it writes vanishes."""
        self.output.ending = True
        self.input.unwanted = True

    def tell_news(self, arrived: int) -> None:
        """Tell the port what has happened since the last time: so many bytes have arrived, or there is room."""
        events = 0
        if arrived:
            events |= Event.INPUT
        if self.input.ended and not self._was_told_of_end:
            self._was_told_of_end = True
            events |= Event.INPUT | Event.END
        if self.has_news:
            self._is_full = False
            events |= Event.OUTPUT
        if events:
            self.tell(events)
