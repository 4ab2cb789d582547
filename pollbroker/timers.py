"""Timers and pending calls: what the loop owes to whom, and when."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any


class Handle:
    """A call that is to come; `cancel()` makes it not come (as `asyncio.Handle`)."""

    __slots__ = ("_call", "when_s")

    def __init__(self, when_s: float, call: Callable[[], Any]) -> None:
        self.when_s = when_s
        self._call: Callable[[], Any] | None = call

    def cancel(self) -> None:
        """Do not call it. Does nothing if it was called already."""
        self._call = None

    def cancelled(self) -> bool:
        """Whether it was cancelled, or called already."""
        return self._call is None

    def run(self) -> None:
        """Call it, once, unless it was cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call()


class Timers:
    """Handles in the order of their times, by a clock that is handed in (seconds, monotonic)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Handle]] = []
        self._order = itertools.count()

    def add(self, delay_s: float, call: Callable[[], Any]) -> Handle:
        """Have it called after that many seconds; of two for one time, the first added comes first."""
        handle = Handle(self._clock() + delay_s, call)
        heapq.heappush(self._heap, (handle.when_s, next(self._order), handle))
        return handle

    def first(self) -> Handle | None:
        """The next that is due, or None."""
        while self._heap and self._heap[0][2].cancelled():
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def next_s(self) -> float | None:
        """Seconds until the next is due (0 if it is overdue), or None."""
        first = self.first()
        return None if first is None else max(0.0, first.when_s - self._clock())

    def take_due(self) -> list[Handle]:
        """Those that are due now, first things first."""
        due = []
        now_s = self._clock() if self._heap else 0.0
        while self._heap and self._heap[0][0] <= now_s:
            due.append(heapq.heappop(self._heap)[2])
        return due
