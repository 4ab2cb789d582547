"""Requests and workers, as a balancer knows them, and the requests that wait for a worker or have a time limit.

Every operation takes the same time for one item as for many, so that a balancer with a thousand workers answers as fast
as one with ten.
"""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(slots=True, eq=False)
class Worker:
    """A worker that has said that it is ready."""

    address: bytes
    """Its routing id."""
    capacity: int = 1
    """How many requests it may have in hand."""
    in_hand: "dict[bytes, Request | None]" = field(default_factory=dict)
    """What it has not answered, by the frame that names the client to it. None stands for a request of which nothing is
    known but the client, which is that frame."""
    place: float | None = None
    """Where a policy keeps it among the workers that have room; None if it is not there."""
    share: float = 0.0
    """How much of its share it has been given, by the policy `weighted`."""


@dataclass(slots=True, eq=False)
class Request:
    """A request that waits for a worker, or that a worker has."""

    client: bytes
    frames: list[bytes] | None
    """The request as it came, the client first. None if a worker has it and it will not be given to another."""
    priority: int | None = None
    """None until it has to wait, for the first time."""
    again: bool = False
    """True if another worker had it first."""
    worker: Worker | None = None
    """Who has it; None while it waits."""
    key: bytes = b""
    """The frame that names the client to the worker."""
    due_s: float = 0.0
    """When its time limit is over, or its waiting."""
    over: bool = False
    """True if it was taken from its worker, in whose hand it stays until that has answered."""
    successor: "Request | None" = None
    """The same request, when it was taken from this worker so that another may have it."""
    waits: bool = False


class Buckets(Generic[Item]):
    """Items in the order of their keys; of those with one key, the first that was put there comes first.

    There is a heap of the keys, and a queue for each key. It stays small if there are few different keys.
    """

    def __init__(self) -> None:
        self._queues: dict[float, OrderedDict[Item, None]] = {}
        self._keys: list[float] = []
        """A heap. The queue of a key may be empty; it is removed when its key comes first."""
        self._number = 0

    def __len__(self) -> int:
        return self._number

    def put(self, key: float, item: Item, *, first: bool = False) -> None:
        """Add an item, behind the others of its key, or with `first` in front of them."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = OrderedDict()
            heappush(self._keys, key)
        queue[item] = None
        if first:
            queue.move_to_end(item, last=False)
        self._number += 1

    def take(self) -> Item:
        """Remove the first item of the smallest key, and return it."""
        queue = self._queues[self._keys[0]]
        while not queue:
            del self._queues[heappop(self._keys)]
            queue = self._queues[self._keys[0]]
        self._number -= 1
        return queue.popitem(last=False)[0]

    def remove(self, key: float, item: Item) -> None:
        """Remove an item that was put there with this key."""
        del self._queues[key][item]
        self._number -= 1


class Deadlines:
    """Requests that have to be done with within the same time, the oldest first."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._requests: OrderedDict[Request, None] = OrderedDict()
        self.is_watched = False
        """True while a timer is set that will look for those that are due."""

    def add(self, request: Request, now_s: float) -> None:
        request.due_s = now_s + self._limit_s
        self._requests[request] = None

    def discard(self, request: Request) -> None:
        """Remove a request, if it is there."""
        self._requests.pop(request, None)

    def clear(self) -> None:
        self._requests.clear()

    def take_due(self, now_s: float) -> Iterator[Request]:
        """Remove and yield those whose time is over."""
        while self._requests:
            request = next(iter(self._requests))
            if request.due_s > now_s:
                return
            del self._requests[request]
            yield request

    def next_s(self, now_s: float) -> float | None:
        """In how many seconds the next one is due; None if there is none."""
        for request in self._requests:
            return max(0.0, request.due_s - now_s)
        return None
