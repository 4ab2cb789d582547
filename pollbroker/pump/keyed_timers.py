"""Timers that have keys: a timer of the same key is set anew, which costs the loop nothing."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Protocol


class Timer(Protocol):
    """As much of `pollbroker.timers.Handle` as is needed here."""

    when_s: float

    def cancel(self) -> None: ...


class KeyedTimers:
    """Timers by key. A timer whose time has come waits until it is taken.

    A timer that is set anew to a later time leaves the loop's timer as it is; when that comes, the rest of the time is
    waited for. So a heartbeat that is put off by each message adds nothing to the loop's timers.

    Arguments:
        call_later: sets a timer of the loop.
        clock: the time in seconds.
        on_due: called when a timer waits to be taken.
    """

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float],
        on_due: Callable[[], None],
    ) -> None:
        self._call_later = call_later
        self._clock = clock
        self._on_due = on_due
        self._due: deque[Hashable] = deque()
        self._due_at_s: dict[Hashable, float] = {}
        self._timers: dict[Hashable, Timer] = {}
        """The loop's timer for each key. It may come before the time in `_due_at_s`."""

    def set(self, key: Hashable, due_s: float) -> None:
        """Let the timer be due at this time."""
        self._take_back(key)
        self._due_at_s[key] = due_s
        timer = self._timers.get(key)
        if timer is None or timer.when_s > due_s:
            self._set_in_the_loop(key, due_s)

    def cancel(self, key: Hashable) -> None:
        """Cancel a timer, also one that waits to be taken. Does nothing if there is none."""
        self._take_back(key)
        self._due_at_s.pop(key, None)
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _take_back(self, key: Hashable) -> None:
        if key in self._due:
            self._due.remove(key)

    def cancel_all(self) -> None:
        """Cancel every timer, for good."""
        self._due.clear()
        self._due_at_s.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def __len__(self) -> int:
        """How many timers are set, with those that wait to be taken."""
        return len(self._due_at_s) + len(self._due)

    @property
    def any_due(self) -> bool:
        """True if a timer waits to be taken."""
        return bool(self._due)

    def take_due(self) -> Iterator[Hashable]:
        """The keys of the timers that are due now. One that is cancelled meanwhile is left out."""
        for _ in range(len(self._due)):
            if self._due:
                yield self._due.popleft()

    def _set_in_the_loop(self, key: Hashable, due_s: float) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        self._timers[key] = self._call_later(max(0.0, due_s - self._clock()), partial(self._comes, key))

    def _comes(self, key: Hashable) -> None:
        del self._timers[key]
        due_s = self._due_at_s[key]
        if due_s > self._clock():
            self._set_in_the_loop(key, due_s)
        else:
            del self._due_at_s[key]
            self._due.append(key)
            self._on_due()
