"""The descriptors that this process has open.

A test asks which ones are new, and does not compare how many there are: what earlier tests have left to the garbage
collector, or to a thread of libzmq's, may be closed at any moment.
"""

import os
import resource
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeAlias

Descriptors: TypeAlias = frozenset[tuple[int, int, int]]
"""Each with its number, and the device and inode of what it is."""


def descriptors() -> Descriptors:
    """Those that are open now."""
    found = set()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - as many as there are at this moment
        try:
            status = os.fstat(int(name))
        except OSError:
            continue  # it is closed by now: that of the directory, at least
        found.add((int(name), status.st_dev, status.st_ino))
    return frozenset(found)


def opened_since(before: Descriptors) -> Descriptors:
    """Those that are open now and were not then."""
    return descriptors() - before


def no_descriptor_left() -> AbstractContextManager[None]:
    """Whatever opens a descriptor within the block fails (EMFILE)."""
    return descriptors_left(0)


@contextmanager
def descriptors_left(most: int) -> Iterator[None]:
    """As a context: so many descriptors can be opened. The limit is one of numbers, so that what is free among those in
    use is filled first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(number for number, *_ in descriptors())
    fillers: list[int] = []
    try:
        while (free := os.dup(0)) < highest:
            fillers.append(free)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + most, hard))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)
