"""A queue in the order of keys, from which items can also be removed in the middle.

Every operation takes the same time for one item as for many, so that a balancer with a thousand workers answers as fast
as one with ten.
"""

from collections import OrderedDict
from heapq import heappop, heappush
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Buckets(Generic[Item]):
    """Items in the order of their keys; of those with one key, the first that was put there comes first.

    There is a heap of the keys, and a queue for each key. It stays small if there are few different keys.
    """

    def __init__(self) -> None:
        self._queues: dict[float, OrderedDict[Item, None]] = {}
        self._keys: list[float] = []
        """A heap. The queue of a key may be empty; it is removed when its key comes first."""
        self.number = 0
        """How many items there are."""

    def __len__(self) -> int:
        return self.number

    def put(self, key: float, item: Item, *, first: bool = False) -> None:
        """Add an item, behind the others of its key, or with `first` in front of them."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = OrderedDict()
            heappush(self._keys, key)
        queue[item] = None
        if first:
            queue.move_to_end(item, last=False)
        self.number += 1

    def take(self) -> Item:
        """Remove the first item of the smallest key, and return it."""
        queue = self._queues[self._keys[0]]
        while not queue:
            del self._queues[heappop(self._keys)]
            queue = self._queues[self._keys[0]]
        self.number -= 1
        return queue.popitem(last=False)[0]

    def remove(self, key: float, item: Item) -> None:
        """Remove an item that was put there with this key."""
        del self._queues[key][item]
        self.number -= 1
