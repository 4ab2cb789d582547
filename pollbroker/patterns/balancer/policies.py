"""Which worker is given the next request: one class for each policy.

A policy keeps the workers that have room. Its methods take the same time with a thousand workers as with ten, or grow
with the logarithm of their number.
"""

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

from pollbroker.patterns.balancer.buckets import Buckets
from pollbroker.patterns.balancer.workers import Policy, Worker

_FEW: Final = 100
"""So many entries of a heap may be invalid."""


class LeastRecentlyUsed(deque[Worker]):
    """The worker that has been free for longest. A worker has one request at a time.

    Its methods are those of the queue, since they are called for each message.
    """

    take = deque.popleft
    put = deque.append

    def drop(self, worker: Worker) -> None:
        if not worker.in_hand:  # otherwise it is not free, and a search through all would be in vain
            with suppress(ValueError):
                self.remove(worker)


class LeastLoaded:
    """The worker that has the smallest part of its capacity in hand; of several, the one that has had it for
    longest."""

    def __init__(self) -> None:
        self._workers: Buckets[Worker] = Buckets()

    def __len__(self) -> int:
        return len(self._workers)

    def take(self) -> Worker:
        worker = self._workers.take()
        worker.place = None
        return worker

    def put(self, worker: Worker) -> None:
        self.drop(worker)
        worker.place = len(worker.in_hand) / worker.capacity
        self._workers.put(worker.place, worker)

    def drop(self, worker: Worker) -> None:
        if worker.place is not None:
            self._workers.remove(worker.place, worker)
            worker.place = None


class Weighted:
    """Requests in proportion to the workers' capacities.

    Each worker has a share, which grows by 1 / capacity with each request. The worker with the smallest share is next.
    A worker that had no room for a while does not catch up: its share becomes that of the last one that was given a
    request.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Worker]] = []
        """An entry is valid if its number is the place of its worker."""
        self._numbers = count()
        self._number = 0
        self._share = 0.0

    def __len__(self) -> int:
        return self._number

    def take(self) -> Worker:
        while True:
            share, place, worker = heappop(self._heap)
            if worker.place == place:
                break
        self._number -= 1
        self._share = share
        worker.share = share + 1 / worker.capacity
        worker.place = None
        return worker

    def put(self, worker: Worker) -> None:
        if worker.place is None:
            worker.share = max(worker.share, self._share)
            worker.place = next(self._numbers)
            heappush(self._heap, (worker.share, worker.place, worker))
            self._number += 1

    def drop(self, worker: Worker) -> None:
        if worker.place is not None:
            worker.place = None
            self._number -= 1
            if len(self._heap) > 2 * self._number + _FEW:
                self._heap = [entry for entry in self._heap if entry[2].place == entry[1]]
                heapify(self._heap)


POLICIES: Final[dict[str, Callable[[], Policy]]] = {
    "least_recently_used": LeastRecentlyUsed,
    "least_loaded": LeastLoaded,
    "weighted": Weighted,
}
