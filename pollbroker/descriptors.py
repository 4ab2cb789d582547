"""Are enough descriptors left for a socket of libzmq?"""

import errno
import os
import resource
from typing import Final

SPARE_DESCRIPTORS: Final = 16
"""libzmq 4.3.5 needs up to a dozen at once: for a context's threads, a socket's mailbox, a listener, a name look-up.
Ports of the wire accept no connection that would leave fewer; `wire/net_beginning.c` has the same number."""


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
    """Return True if no more than `SPARE_DESCRIPTORS`, and so many more, are left. One is opened, and closed again: the
    system gives out the lowest number that is free."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lowest = os.open(os.devnull, os.O_RDONLY)
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        return True
    os.close(lowest)
    return limit != resource.RLIM_INFINITY and lowest + SPARE_DESCRIPTORS + more >= limit
