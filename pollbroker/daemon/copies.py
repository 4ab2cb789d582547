"""The copies by which libzmq listens at sockets of the daemon.

libzmq closes its copy of a listening socket in a thread of its own, some time after the port was closed. Until then it
accepts connections, and what is sent on them is lost.
"""

import os
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Final, TypeAlias

_INTERVAL_S: Final = 0.001

_Identity: TypeAlias = tuple[int, int]
"""The device and the inode of what a descriptor is of: all copies of a socket have the same."""


def wait_until_closed(originals: Iterable[int], known: Collection[int], timeout_s: float) -> bool:
    """Wait until no descriptor of this process is a copy of one of these. Return False if that takes too long.

    Arguments:
        originals: descriptors.
        known: copies that stay open.
    """
    give_up_s = time.monotonic() + timeout_s
    identities = {_identity_of(original) for original in originals} - {None}
    left = [one for one in _open_descriptors() if one not in known] if identities else []
    while left := [one for one in left if _identity_of(one) in identities]:
        if time.monotonic() >= give_up_s:
            return False
        time.sleep(_INTERVAL_S)
    return True


def _open_descriptors() -> Iterator[int]:
    return map(int, os.listdir("/dev/fd"))  # noqa: PTH208 - as many as there are at this moment


def _identity_of(descriptor: int) -> _Identity | None:
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None  # it is closed
    return status.st_dev, status.st_ino
