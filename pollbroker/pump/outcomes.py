"""The outcomes of sending, of a burst and of a turn, and the states of a flow.

They are plain numbers, since they are compared for every message. The native version has the same numbers, and compares
them with these when it is loaded.
"""

from enum import IntEnum
from typing import Final

# What `Pump.move` and `Sender.send` return, and in the native version the functions that read and offer frames.
EMPTY: Final = 0
"""The source has no more messages."""
FULL: Final = 1
"""The sink has refused the message, which is to be offered again later."""
LIMIT: Final = 2
"""The budget of the burst is spent; there may be more messages."""
ERROR: Final = 3
"""An error occurred. Used in the native version only, which raises the exception later, when it has the GIL."""
SENT: Final = 4
"""The sink has accepted the message."""
DROPPED: Final = 5
"""The message was dropped, and counted."""
READ: Final = 6
"""A message was read. Used in the native version only."""
BUSY: Final = 7
"""The coroutine handler has as many messages as it may have, and is done with none of them. Used in Python only."""

# Flags of `Hub.work` and `Hub.wake`: what the hub's owner is to do.
RETRY: Final = 1
"""A flow needs a timer; see `Flow.needs_timer`."""
FLUSHED: Final = 2
"""The hub is flushing, and every flow has ended."""


class FlowState(IntEnum):
    """What a flow does, and what it waits for.

        READY     -- move --> WAITING (source empty), STALLED (sink full), BUSY (handler at its limit) or READY (budget
                              spent)
        WAITING   -- source has messages --> READY
        STALLED   -- sink has room --> READY; but RETRYING if the sink reports room and refuses all the same
        RETRYING  -- timer --> READY
        BUSY      -- the coroutine handler is done with a message --> READY
        PAUSED    -- resume --> READY
        ENDED     is final

    A flow that is not READY costs no time, and only the events that can wake it are watched.
    """

    READY = 0
    WAITING = 1
    STALLED = 2
    RETRYING = 3
    PAUSED = 4
    ENDED = 5
    BUSY = 6
