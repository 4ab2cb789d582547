"""Messages of a log that may come often: one is written at once, and then one in a second at most, which says how many
were left out. What peers and handlers do wrong cannot fill a disk, and nothing is left out unsaid."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

INTERVAL_S: Final = 1.0

OF_A_MESSAGE: Final[Mapping[str, bool]] = {"of_a_message": True}
"""The `extra` of a record that says what became of a message. The text of its exception may hold a part of the message,
so that a log in which no message may appear leaves the text out."""


class Seldom:
    """Decides which of many messages are written, by the time since the last one that was.

    Arguments:
        interval_s: how long nothing is written after a message that was.
        clock: seconds that never go back. By default `time.monotonic`.
    """

    __slots__ = ("_clock", "_interval_s", "_next_s", "left_out")

    def __init__(self, interval_s: float = INTERVAL_S, clock: Callable[[], float] | None = None) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._next_s = -math.inf
        self.left_out = 0
        """How many were left out since the last one that was written."""

    @property
    def is_due(self) -> bool:
        """True if a message would be written now."""
        return (time.monotonic if self._clock is None else self._clock)() >= self._next_s

    def admit(self) -> int | None:
        """Return how many were left out since the last message, if this one is to be written; otherwise None."""
        now_s = (time.monotonic if self._clock is None else self._clock)()
        if now_s < self._next_s:
            self.left_out += 1
            return None
        self._next_s = now_s + self._interval_s
        before, self.left_out = self.left_out, 0
        return before


class SeldomLog:
    """Writes a message by `log`, a method of a logger such as `logger.warning`, unless one was written a moment ago."""

    __slots__ = ("_log", "_seldom")

    def __init__(self, log: Callable[..., None], clock: Callable[[], float] | None = None) -> None:
        self._log = log
        self._seldom = Seldom(clock=clock)

    def __call__(self, message: str, *args: object, **keywords: Any) -> None:
        """Write the message, or leave it out. The arguments are those of the logger's method."""
        before = self._seldom.admit()
        if before is not None:
            self._log(message + said_of(before), *args, **keywords)


def said_of(left_out: int) -> str:
    """What a message says of those that were left out before it; empty if there are none."""
    return f" (and {left_out} more since the last such message)" if left_out else ""
