"""Timers: calls that are to be made at a time, and the handles by which they can be cancelled."""

import heapq
import itertools
import math
from collections.abc import Callable
from typing import Any, Final

from pollbroker.errors import ConfigError

_FEW: Final = 100
"""So few handles may all be cancelled ones."""


class Handle:
    """A call that is to be made. `cancel()` prevents it, as with `asyncio.Handle`."""

    __slots__ = ("_call", "when_s")

    def __init__(self, when_s: float, call: Callable[[], Any]) -> None:
        self.when_s = when_s
        self._call: Callable[[], Any] | None = call

    def cancel(self) -> None:
        """Cancel the call. Does nothing if it was made already. The loop is not woken: if this was the last that is
        left to do, it finds that out at the time of the call."""
        self._call = None

    def cancelled(self) -> bool:
        """Return True if the call was cancelled, or was made already."""
        return self._call is None

    def run(self) -> None:
        """Make the call, unless it was made already or was cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call()


def check_delay(delay_s: float) -> None:
    """Raise `ConfigError` if `delay_s` is not a number of seconds."""
    if not isinstance(delay_s, (int, float)) or math.isnan(delay_s):
        raise ConfigError(f"{delay_s!r}: expected a number of seconds")


class Timers:
    """Handles in the order of their times. `clock` returns seconds, and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Handle]] = []
        self._order = itertools.count()
        self._most = _FEW
        """When there are more handles than this, those that were cancelled are removed."""

    def __len__(self) -> int:
        """How many handles there are, with those that were cancelled and not removed yet. Any thread may ask."""
        return len(self._heap)

    def add(self, delay_s: float, call: Callable[[], Any]) -> Handle:
        """Have `call` called after `delay_s` seconds. Of two calls for one time, the first added is made first."""
        check_delay(delay_s)
        handle = Handle(self._clock() + delay_s, call)
        heapq.heappush(self._heap, (handle.when_s, next(self._order), handle))
        if len(self._heap) > self._most:
            self._remove_cancelled()
        return handle

    def _remove_cancelled(self) -> None:
        """Remove the handles that were cancelled: they may be due in hours, and more come meanwhile."""
        self._heap[:] = [entry for entry in self._heap if not entry[2].cancelled()]
        heapq.heapify(self._heap)
        self._most = max(_FEW, 2 * len(self._heap))  # so that it costs little for each handle

    def first(self) -> Handle | None:
        """The handle that is due next, or None."""
        while self._heap and self._heap[0][2].cancelled():
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def has_any(self) -> bool:
        """Return True if a handle is due some time. Any thread may ask."""
        return any(not handle.cancelled() for _, _, handle in self._heap.copy())

    def next_s(self) -> float | None:
        """Seconds until the next handle is due (0 if it is overdue), or None."""
        first = self.first() if self._heap else None
        return None if first is None else max(0.0, first.when_s - self._clock())

    def run_due(self, run: Callable[[Handle], None]) -> None:
        """Run the handles that are due now, in the order of their times. Handles that they add are left for the next
        call."""
        if not self._heap:
            return
        now_s = self._clock()
        newest = next(self._order)
        later = []
        try:
            while self._heap and self._heap[0][0] <= now_s:
                entry = heapq.heappop(self._heap)
                if entry[1] > newest:
                    later.append(entry)
                else:
                    run(entry[2])
        finally:
            for entry in later:
                heapq.heappush(self._heap, entry)
