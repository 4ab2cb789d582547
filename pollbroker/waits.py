"""Histograms of how long messages waited in a broker: their bounds, the counting, and quantiles.

A histogram is a tuple of counts. `counts[i]` has the messages that waited for up to `WAIT_BOUNDS_S[i]` seconds and for
more than the bound before it; the last count has those that waited longer than any bound. `pump/waits.pxi` counts
natively.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

WAIT_BOUNDS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""The upper bounds in seconds: two to each power of ten, which is as much as an operator has to tell apart, and few
enough for a scrape of a thousand brokers."""

NO_WAITS: Final = (0,) * (len(WAIT_BOUNDS_S) + 1)
"""The histogram of no messages."""


class Waits:
    """Counts messages by how long they waited. It takes no memory for counts before the first message."""

    __slots__ = ("_counts", "total_s")

    def __init__(self) -> None:
        self._counts: list[int] | None = None
        self.total_s = 0.0
        """Seconds that all of them waited, together."""

    def add(self, wait_s: float, messages: int = 1) -> None:
        """Count messages that have waited so long, each of them."""
        if self._counts is None:
            self._counts = list(NO_WAITS)
        self._counts[bisect_left(WAIT_BOUNDS_S, wait_s)] += messages
        self.total_s += wait_s * messages

    @property
    def counts(self) -> tuple[int, ...]:
        """The histogram."""
        return NO_WAITS if self._counts is None else tuple(self._counts)

    def carry_on(self, counts: Sequence[int], total_s: float) -> None:
        """Go on counting from here. Raises `ValueError` for a histogram with other bounds."""
        if len(counts) != len(NO_WAITS):
            raise ValueError(f"a histogram of {len(counts)} counts; expected {len(NO_WAITS)}")
        self._counts = list(counts)
        self.total_s = total_s


def histogram_of_all(waited: Sequence[int], messages: int) -> tuple[int, ...]:
    """The histogram of this many messages, of which those in `waited` had to wait. The others are added to the first
    count, so that quantiles are those of all messages."""
    return (waited[0] + max(0, messages - sum(waited)), *waited[1:])


def wait_quantile_s(counts: Sequence[int], quantile: float) -> float | None:
    """How long this part of the messages waited at most, in seconds. It is estimated as Prometheus's
    `histogram_quantile` does: between two bounds the messages are taken for evenly spread.

    Arguments:
        counts: a histogram, such as `FlowStatistics.waits`, or the difference of two of them.
        quantile: 0.5 for the median, 0.99 for what all but one of a hundred waited at most.

    Returns None for a histogram of no messages, and the last bound for a quantile beyond it.
    """
    rank = quantile * sum(counts)
    if not any(counts):
        return None
    below, lower_s = 0, 0.0
    for count, upper_s in zip(counts, WAIT_BOUNDS_S, strict=False):  # what is beyond the last bound has no upper one
        if count and below + count >= rank:
            return lower_s + (upper_s - lower_s) * (rank - below) / count
        below, lower_s = below + count, upper_s
    return WAIT_BOUNDS_S[-1]
