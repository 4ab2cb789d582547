"""The states of a broker."""

from enum import StrEnum
from typing import Final


class BrokerState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"
    HANDING_OVER = "handing_over"
    """The broker rests for a moment, while another process takes over its connections; see `Engine.hand_over`."""
    DRAINING = "draining"
    """The broker is about to be removed: it moves what its peers have sent, and waits for replies."""
    REMOVING = "removing"
    """The broker is being removed: it sends the messages that it holds, and receives nothing more."""
    REMOVED = "removed"
    ENDED = "ended"
    """The context of its sockets was terminated, which is an orderly end."""
    FAILED = "failed"
    """An error ended the broker; see `Broker.error`."""


FINAL_STATES: Final = frozenset({BrokerState.REMOVED, BrokerState.ENDED, BrokerState.FAILED})
"""The states in which a broker no longer uses any socket."""
