"""Measures how late a task of a loop runs that sleeps for a millisecond again and again: how long the loop keeps others
waiting.

A peer that runs brokers in the loop of a program has a `Ticks` named `TICKS`. If the work is `ticking`, it runs that
task beside the brokers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable
from typing import NoReturn

TICK_S = 0.001


class Ticks:
    """The ticks of one loop. The loop's thread makes them, and another thread takes the figures."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._late_s: list[float] = []

    async def run(self, sleep: Callable[[float], Awaitable[object]]) -> NoReturn:
        """Tick in a task, with the function that sleeps there."""
        while True:
            due_s = self._clock() + TICK_S
            await sleep(TICK_S)
            self._late_s.append(self._clock() - due_s)

    def run_blocking(self, sleep: Callable[[float], object]) -> NoReturn:
        """Tick in a greenlet, with the function that sleeps there."""
        while True:
            due_s = self._clock() + TICK_S
            sleep(TICK_S)
            self._late_s.append(self._clock() - due_s)

    def late_ms(self) -> dict[str, float]:
        """The median and the 99th percentile since the last call, in milliseconds; empty with fewer than two ticks."""
        late_s, self._late_s = self._late_s, []
        if len(late_s) < 2:
            return {}
        hundredths = statistics.quantiles(late_s, n=100, method="inclusive")
        return {"p50": 1000 * hundredths[49], "p99": 1000 * hundredths[98]}
