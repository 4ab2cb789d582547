"""What became of a message, of a burst and of a flow: numbers, since they are compared for every message and burst.

The native twins have the same numbers, and compare them with these when they are loaded.
"""

from enum import IntEnum
from typing import Final

# What `Pump.move` and `Sender.send` return, and in the native twin what reads and offers a frame.
EMPTY: Final = 0
"""The source has nothing more."""
FULL: Final = 1
"""The sink refuses the message, which is to be offered again later."""
LIMIT: Final = 2
"""The budget of a burst is spent; there may be more."""
ERROR: Final = 3
"""Something failed that raises an exception; in the native twin alone, where no exception can be raised."""
SENT: Final = 4
"""The sink has accepted the message."""
DROPPED: Final = 5
"""The message was dropped, and counted."""
READ: Final = 6
"""A message was read; in the native twin alone."""

# What `Hub.work` and `Hub.wake` leave for the hub's owner to do: flags.
RETRY: Final = 1
"""There is a flow for which a timer has to be set; see `Flow.needs_timer`."""
FLUSHED: Final = 2
"""It is flushing, and every flow has ended."""


class FlowState(IntEnum):
    """What a flow does, and what it waits for.

        READY     -- move --> WAITING (source empty), STALLED (sink full) or READY (budget spent)
        WAITING   -- source has messages --> READY
        STALLED   -- sink has room --> READY; but RETRYING if the sink says so and refuses all the same
        RETRYING  -- timer --> READY
        PAUSED    -- resume --> READY
        ENDED     for good

    A flow that is not READY costs nothing and watches nothing but what can wake it.
    """

    READY = 0
    WAITING = 1
    STALLED = 2
    RETRYING = 3
    PAUSED = 4
    ENDED = 5
