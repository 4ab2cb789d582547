"""What travels through a simulated pipe, and what a receiver is given of it.

An item in a pipe is a tuple `(body, kind)`: a tuple costs a tenth of an object, and millions of them are made.
"""

from typing import Final, TypeAlias

LAST: Final = 0
"""A message's last frame: the only kind that the water marks count."""
MORE: Final = 1
"""Another frame of this message follows."""
ROUTING_ID: Final = 2
"""Not a message: the name that a peer goes by, for a ROUTER or a REP."""
DELIMITER_KIND: Final = 3

Item: TypeAlias = tuple[bytes, int]

DELIMITER: Final[Item] = (b"", DELIMITER_KIND)
"""Not a message: behind it nothing comes any more."""


class SimFrame(bytes):
    """A received frame; as much of `zmq.Frame` as the pumps use. This class is a message's last one."""

    more: bool = False

    @property
    def bytes(self) -> bytes:
        """The body."""
        return bytes(self)


class LeadingFrame(SimFrame):
    """A received frame that others follow."""

    more: bool = True


class WouldAbort(AssertionError):
    """libzmq would abort the whole process here, or use memory that it has given back."""


def frame_of(item: Item) -> SimFrame:
    """What a receiver that wants no copy is given."""
    return LeadingFrame(item[0]) if item[1] == MORE else SimFrame(item[0])
