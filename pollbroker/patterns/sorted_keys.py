"""Keys in order, so that those with a prefix are found without a look at the others.

The keys are in blocks of at most `BLOCK`. So to add or remove a key moves those of one block; in one list of all keys
half of them would have to be moved.
"""

from bisect import bisect_left, insort
from typing import Final

BLOCK: Final = 1000
"""The most keys of a block."""


class SortedKeys:
    """A set of keys (`bytes`) in order."""

    def __init__(self) -> None:
        self._blocks: list[list[bytes]] = []
        """In order, and none of them is empty."""
        self._lasts: list[bytes] = []
        """The last key of each block."""

    def add(self, key: bytes) -> None:
        """Add a key that is not there yet."""
        if not self._blocks:
            self._blocks.append([key])
            self._lasts.append(key)
            return
        index = min(bisect_left(self._lasts, key), len(self._lasts) - 1)
        block = self._blocks[index]
        insort(block, key)
        if len(block) > BLOCK:
            middle = len(block) // 2
            self._blocks.insert(index, block[:middle])
            self._lasts.insert(index, block[middle - 1])
            index += 1
            del block[:middle]
        self._lasts[index] = block[-1]

    def remove(self, key: bytes) -> None:
        """Remove a key that is there."""
        index = bisect_left(self._lasts, key)
        block = self._blocks[index]
        del block[bisect_left(block, key)]
        if block:
            self._lasts[index] = block[-1]
        else:
            del self._blocks[index], self._lasts[index]

    def with_prefix(self, prefix: bytes, start: bytes, most: int) -> list[bytes]:
        """The keys that begin with `prefix`, from `start` on, in order, and no more than `most` of them.

        Arguments:
            start: begins with `prefix`. `after(key)` is the start of what comes behind a key.
        """
        found: list[bytes] = []
        end = _after_all(prefix)
        index = bisect_left(self._lasts, start)
        while index < len(self._blocks) and len(found) < most:
            block = self._blocks[index]
            first = 0 if found else bisect_left(block, start)
            last = len(block) if end is None else bisect_left(block, end, first)
            found += block[first : min(last, first + most - len(found))]
            if last < len(block):
                break
            index += 1
        return found


def _after_all(prefix: bytes) -> bytes | None:
    """The least key that is greater than all that begin with this prefix, or None if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


def after(key: bytes) -> bytes:
    """The least key that is greater than this one."""
    return key + b"\0"
