"""A map of bounded size, in the order of its keys, whose entries may have a time at which they end."""

import heapq
from typing import Final

from pollbroker.patterns.sorted_keys import SortedKeys

ENTRY_BYTES: Final = 400
"""What an entry takes beside its key and its value, in Python's memory."""

_FEW: Final = 100
"""So few entries of the heap may all be obsolete."""


class KeyValues:
    """Values by key.

    Arguments:
        max_keys: the most keys.
        max_bytes: the most bytes of all keys and values, with `ENTRY_BYTES` for each of them.
    """

    def __init__(self, max_keys: int, max_bytes: int) -> None:
        self._max_keys = max_keys
        self._max_bytes = max_bytes
        self._values: dict[bytes, bytes] = {}
        self._keys = SortedKeys()
        self._bytes = 0
        self._ends_s: dict[bytes, float] = {}
        """When the entry of a key ends. Most have no such time."""
        self._heap: list[tuple[float, bytes]] = []
        """These times in order, and others that are obsolete, since their key was set again or deleted."""

    def __len__(self) -> int:
        return len(self._values)

    def set(self, key: bytes, value: bytes, end_s: float | None = None) -> bool:
        """Set a value, in place of the one that the key has, and when it ends. Return False, and change nothing, if
        there is no room for it."""
        before = self._values.get(key)
        if before is None:
            size_bytes = ENTRY_BYTES + len(key) + len(value)
            if len(self._values) >= self._max_keys:
                return False
        else:
            size_bytes = len(value) - len(before)
        if self._bytes + size_bytes > self._max_bytes:
            return False
        if before is None:
            self._keys.add(key)
        self._values[key] = value
        self._bytes += size_bytes
        if end_s is None:
            self._ends_s.pop(key, None)
        else:
            self._end_at(key, end_s)
        return True

    def delete(self, key: bytes) -> None:
        """Delete a key. Does nothing if it is not there."""
        value = self._values.pop(key, None)
        if value is not None:
            self._keys.remove(key)
            self._bytes -= ENTRY_BYTES + len(key) + len(value)
            self._ends_s.pop(key, None)

    def with_prefix(self, prefix: bytes, start: bytes, most: int) -> list[tuple[bytes, bytes]]:
        """Up to `most` keys that begin with `prefix`, from `start` on, in order, with their values."""
        values = self._values
        return [(key, values[key]) for key in self._keys.with_prefix(prefix, start, most)]

    def next_end_s(self) -> float | None:
        """When the next entry ends, or None if none of them does."""
        heap = self._heap
        while heap and self._ends_s.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def delete_ended(self, now_s: float, most: int) -> list[bytes]:
        """Delete up to `most` entries whose time has come. Return their keys."""
        ended: list[bytes] = []
        while len(ended) < most and (end_s := self.next_end_s()) is not None and end_s <= now_s:
            _, key = heapq.heappop(self._heap)
            self.delete(key)
            ended.append(key)
        return ended

    def _end_at(self, key: bytes, end_s: float) -> None:
        self._ends_s[key] = end_s
        heapq.heappush(self._heap, (end_s, key))
        if len(self._heap) > _FEW + 2 * len(self._ends_s):
            self._heap[:] = [(end_s, key) for key, end_s in self._ends_s.items()]
            heapq.heapify(self._heap)
