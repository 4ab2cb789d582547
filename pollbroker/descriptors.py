"""Are enough descriptors left for a socket of libzmq?"""

import errno
import os
import resource
import sys
from typing import Final

SPARE_DESCRIPTORS: Final = 16
"""libzmq 4.3.5 needs up to a dozen at once: for a context's threads, a socket's mailbox, a listener, a name look-up.
Ports of the wire accept and make no connection that would leave fewer; `wire/net_beginning.c` has the same number."""


def check_descriptors() -> None:
    """Raise `OSError` (EMFILE) if fewer descriptors are left than libzmq needs: it would abort the whole process."""
    spare: list[int] = []
    try:
        spare.append(os.open(os.devnull, os.O_RDONLY))
        while len(spare) < SPARE_DESCRIPTORS:
            spare.append(os.dup(spare[0]))  # which is cheaper
    finally:
        for descriptor in spare:
            os.close(descriptor)


def are_descriptors_few(more: int = 0) -> bool:
    """Return True if no more than `SPARE_DESCRIPTORS`, and so many more, are left."""
    return descriptors_to_use() <= more


def descriptors_to_use() -> int:
    """How many descriptors may be opened besides the last `SPARE_DESCRIPTORS`. One is opened, and closed again: the
    system gives out the lowest number that is free. If higher ones are in use, there are fewer than this says."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lowest = os.open(os.devnull, os.O_RDONLY)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return 0
    os.close(lowest)
    return sys.maxsize if limit == resource.RLIM_INFINITY else max(0, limit - SPARE_DESCRIPTORS - lowest)


def duplicate(descriptor: int) -> int:
    """As `os.dup`, but raise `OSError` (EMFILE) as well if no more than `SPARE_DESCRIPTORS` are left."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    copy = os.dup(descriptor)
    if limit != resource.RLIM_INFINITY and copy + SPARE_DESCRIPTORS >= limit:
        os.close(copy)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return copy
