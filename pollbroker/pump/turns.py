"""The contract of what the loop may do without the interpreter: collect what has happened, and make turns in which
messages are moved and nothing else happens.

Only the native implementation has it (`collector.pxi`, `turns.pxi`). With the Python one, the waiter collects and the
loop makes every turn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Bursts:
    """What the ready hubs of a loop do in each turn: one burst for each direction."""

    ready: list[Any]
    """The hubs that have work."""
    messages: int
    """The limit of a burst."""
    size: int
    """The limit of a burst, in bytes."""
    longest_s: float
    """How long the bursts of one turn may take. After that no hub begins one."""
    clock: Callable[[], float]
    """The clock of the loop, in seconds."""
    finish: Callable[[Callable[[Any], object], Any], object]
    """Called, outside a turn of the loop, with a method of a hub's owner and its argument: the flags of the hub, or an
    error."""


class Net(Protocol):
    """The streams of the wire, which have one descriptor. Most of what happens at them concerns nobody else."""

    def fileno(self) -> int:
        """The descriptor, which is readable when there is something to do."""

    def serve_alone(self) -> bool:
        """Do what can be done at once. Return False if somebody is to be called: then `serve` of its context is to be
        called in this turn."""

    def flush(self) -> None:
        """Write what was sent in a turn. If somebody is to be called because of that, the descriptor is readable."""


class MessageTurns(Protocol):
    """Makes turns of the loop for as long as nothing is to be done in them but to move messages, and no function is to
    be called that is not the implementation's."""

    made: int
    """How many turns it has made, except those that the loop has ended."""

    def watch_net(self, net: Net, /) -> None:
        """Let the net serve itself as far as it can. Its descriptor must be in the collector's set."""

    def make(self, timeout_ms: int | None, only_one: bool, /) -> list[Callable[[], None]] | None:
        """Wait until something happens, for `timeout_ms` at most (0: do not wait; None: without limit), and let each
        ready hub work, one burst for each direction. Again and again, unless there is to be only one turn.

        Return, before the hubs of a turn have worked, when the loop has something else to do in it: the functions that
        are to be called, if any. Return None after they have, or when the time is over: the loop ends this turn, and
        also looks what is to be done next.
        """


class Collector(Protocol):
    """Reads what has happened in an epoll set, without sleeping."""

    def collect(self, spin_s: float, /) -> list[Callable[[], None]] | None:
        """Read the set, again and again for `spin_s` at most, until something has happened. Return the functions that
        are to be called, or None if nothing has happened. A native collector leaves out what it has done itself."""

    def make_message_turns(self, bursts: Bursts, *, spin_s: float, look_every: int) -> MessageTurns | None:
        """Make turns that wait by reading this set, and by libzmq's poll while nothing happens. None if the
        implementation makes none.

        Arguments:
            bursts: what the hubs do in a turn.
            spin_s: for how long the set is read again and again before a sleep.
            look_every: if nothing was ready before so many sleeps in a row, the set is read only before each sleep
                whose number this divides, until something is ready again.
        """
