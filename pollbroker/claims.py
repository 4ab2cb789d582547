"""Which ZeroMQ sockets of this process the engines use.

A ZeroMQ socket may be used by one thread at a time, so no two engines may have the same one, nor may one engine have
it twice. The table is the process's. A claim ends when it is given back, when its socket is closed, or when whoever
made it is gone.
"""

import threading
import weakref
from typing import Final, Protocol

from pollbroker.errors import EngineError


class Owner(Protocol):
    """What uses sockets: a broker, or a reader."""

    @property
    def home(self) -> object:
        """What tells the brokers and readers of one engine from those of another."""

    def used_as(self, key: int) -> str | None:
        """What it uses a socket as, such as `brokers.orders.frontend`; None if it does not, or if that is closed."""


class Claims:
    """Who uses which socket. The key of a socket is its address in libzmq, whichever object stands for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[int, weakref.ref[Owner]] = {}

    def take(self, key: int, owner: Owner, where: str) -> None:
        """Claim a socket. Raises `EngineError`, which names the place `where`, if another owner uses it."""
        with self._lock:
            other = self.owner(key)
            used_as = None if other is None or other is owner else other.used_as(key)
            if other is not None and used_as is not None:
                whose = "" if other.home is owner.home else " of another engine in this process"
                raise EngineError(f"{where}: the socket is registered already, as {used_as}{whose}")
            self._owners[key] = weakref.ref(owner)

    def give_back(self, key: int, owner: Owner) -> None:
        """The owner does not use the socket any more."""
        with self._lock:
            if self.owner(key) is owner:
                del self._owners[key]

    def owner(self, key: int) -> Owner | None:
        """Who claimed a socket last and has not given it back."""
        known = self._owners.get(key)
        return None if known is None else known()


CLAIMS: Final = Claims()
"""Those of all engines in this process."""
