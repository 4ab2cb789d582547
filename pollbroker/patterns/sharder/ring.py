"""Consistent hashing: the same key always finds the same name, and a new name takes its part of the keys and no other.

The hash is BLAKE2b, which gives the same results in every process, on every machine and in every language. (Python's
own `hash` is different in each process.)
"""

from bisect import bisect
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

POINTS: Final = 256
"""How many points each name has on the ring. With so many, the largest part is about an eighth larger than the mean."""


def position(key: bytes) -> bytes:
    """Where on the ring a key is: its BLAKE2b digest of 8 bytes. Positions are in the order of their bytes."""
    return blake2b(key, digest_size=8).digest()


class HashRing:
    """Finds one of several names for a key.

    Each name has `POINTS` points on the ring: the positions of the keys `name:0`, `name:1` and so on. A key belongs to
    the name of the first point after its own position. So if a name is added to N others, about one key of N + 1
    changes, all of them to the new name."""

    def __init__(self, names: Iterable[str]) -> None:
        points = sorted((position(b"%s:%d" % (name.encode(), n)), name) for name in names for n in range(POINTS))
        self._positions = [at for at, _ in points]
        self._names = [name for _, name in points]
        self._names.append(self._names[0])  # after the last point comes the first

    def find(self, key: bytes) -> str:
        """The name that a key belongs to."""
        return self._names[bisect(self._positions, position(key))]
