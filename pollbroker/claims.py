"""Which ZeroMQ sockets of this process the engines use.

A ZeroMQ socket may be used by one thread at a time, so no two engines may have the same one, nor may one engine have
it twice. One table serves the whole process. A claim ends when it is given back, when its socket is closed, or when the
broker or reader that made it no longer exists.
"""

import os
import threading
import weakref
from typing import Final, Protocol

from pollbroker.errors import EngineError


class Owner(Protocol):
    """A broker or a reader, which uses sockets."""

    @property
    def engine_id(self) -> object:
        """An object that all brokers and readers of one engine have in common, and those of other engines have not."""

    def describe_use(self, key: int) -> str | None:
        """What the owner uses a socket for, such as `brokers.orders.frontend`. None if it does not use the socket, or
        if the socket is closed."""


class Claims:
    """The owner of each socket. The key of a socket is its address in libzmq, so that two Python objects for one socket
    have the same key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # A fork must not inherit it from a thread that it does not have.
        os.register_at_fork(
            before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._lock.release
        )
        self._owners: dict[int, weakref.ref[Owner]] = {}

    def take(self, key: int, owner: Owner, where: str) -> None:
        """Claim a socket. Raises `EngineError`, which names the place `where`, if another owner uses it."""
        with self._lock:
            other = self.owner(key)
            use = None if other is None or other is owner else other.describe_use(key)
            if other is not None and use is not None:
                whose = "" if other.engine_id is owner.engine_id else " of another engine in this process"
                raise EngineError(f"{where}: the socket is registered already, as {use}{whose}")
            self._owners[key] = weakref.ref(owner)

    def give_back(self, key: int, owner: Owner) -> None:
        """End the owner's claim to a socket."""
        with self._lock:
            if self.owner(key) is owner:
                del self._owners[key]

    def owner(self, key: int) -> Owner | None:
        """The owner that claimed a socket last and has not given it back, or None."""
        known = self._owners.get(key)
        return None if known is None else known()


CLAIMS: Final = Claims()
"""The claims of all engines in this process."""
