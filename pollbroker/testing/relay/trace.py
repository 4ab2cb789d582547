"""The trace of a relay: what its ends saw, and what can be seen of it from outside.

There is nothing to ask a relay: it has no counters and no states. So its paths have no flows, and beside the peers'
events a trace has only what was waited for in vain, and how the relay's thread fared.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from pollbroker.testing.trace import Trace


class Unserved(NamedTuple):
    """Who waited in vain for something that was possible, while another stood still."""

    peer: str
    waited_for: str
    meanwhile: str


@dataclass
class RelayTrace(Trace):
    """What happened, in order, and what became of the relay."""

    deadline_s: float = 0.0
    """For how long nothing has to have moved before something counts as not coming any more."""
    dropped: int = 0
    """How many messages the relay itself says it has dropped; most relays cannot say."""
    alive: set[str] = field(default_factory=set)
    """The paths on which something sent later still came through while something else was missing."""
    unsent: dict[str, int] = field(default_factory=dict)
    """How many messages of a peer its socket did not take by the deadline, because the relay did not."""
    unserved: list[Unserved] = field(default_factory=list)
    early_end: str | None = None
    """How the relay ended although its context had not."""
    late: bool = False
    """Whether it ran on by the deadline after its context had ended."""
    last_error: str | None = None
    """What it raised when its context ended, if not that."""
    activity: float | None = None
    """Which share of its own time, which is what it did not wait for a core, its busiest thread ran while messages
    waited and nobody took any; None: not measured."""
