"""The states of a broker, from its start to its end."""

from enum import StrEnum
from typing import Final


class BrokerState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    REMOVING = "removing"
    """Only what it holds is still sent."""
    REMOVED = "removed"
    ENDED = "ended"
    """Its context was terminated: an orderly end."""
    FAILED = "failed"
    """See `Broker.error`."""


FINAL_STATES: Final = frozenset({BrokerState.REMOVED, BrokerState.ENDED, BrokerState.FAILED})
"""Those in which a broker uses no socket any more."""
