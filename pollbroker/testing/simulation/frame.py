"""The items that travel through a simulated pipe, and the frames that a receiver is given.

An item in a pipe is a tuple `(body, kind)`: a tuple costs a tenth of an object, and millions of them are made.
"""

from typing import Final, TypeAlias

LAST: Final = 0
"""The last frame of a message. High-water marks count only these."""
MORE: Final = 1
"""Another frame of this message follows."""
ROUTING_ID: Final = 2
"""Not a frame of a message: the routing id of a peer, for a ROUTER or a REP."""
DELIMITER_KIND: Final = 3

Item: TypeAlias = tuple[bytes, int]

DELIMITER: Final[Item] = (b"", DELIMITER_KIND)
"""Not a frame of a message: the end of what is in the pipe."""


class SimFrame(bytes):
    """A received frame, with those attributes of `zmq.Frame` that the pumps use. This class is for the last frame of a
    message, `LeadingFrame` for the others."""

    more: bool = False

    @property
    def bytes(self) -> bytes:
        """The body."""
        return bytes(self)


class LeadingFrame(SimFrame):
    """A received frame that is not the last of its message."""

    more: bool = True


class WouldAbort(AssertionError):
    """libzmq would abort the whole process here, or use memory that it has freed."""


def frame_of(item: Item) -> SimFrame:
    """Return the frame that `recv` with `copy=False` gives for an item."""
    return LeadingFrame(item[0]) if item[1] == MORE else SimFrame(item[0])
