"""The copies by which libzmq listens at sockets of the daemon.

libzmq closes its copy of a listening socket in a thread of its own, some time after the port was closed. Until then it
accepts connections, and what is sent on them is lost.
"""

import os
import time
from collections.abc import Iterable
from typing import Final, TypeAlias

_INTERVAL_S: Final = 0.001

_Identity: TypeAlias = tuple[int, int]
"""The device and the inode of what a descriptor is of: all copies of a socket have the same."""


def wait_until_closed(copies: Iterable[int], originals: Iterable[int], timeout_s: float) -> bool:
    """Wait until no descriptor of `copies` is a copy of one of `originals`. Return False if that takes too long.

    A descriptor that is closed, or something else by now, is no copy.
    """
    give_up_s = time.monotonic() + timeout_s
    identities = {_identity_of(original) for original in originals} - {None}
    left = list(copies) if identities else []
    while left := [one for one in left if _identity_of(one) in identities]:
        if time.monotonic() >= give_up_s:
            return False
        time.sleep(_INTERVAL_S)
    return True


def _identity_of(descriptor: int) -> _Identity | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None  # it is closed
    return status.st_dev, status.st_ino
