"""What both waiters promise, and what both of them use."""

import time
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

from pollbroker.errors import EngineError
from pollbroker.pump import Hub, Socket

Wake: TypeAlias = Callable[[], None]


class Poller(Protocol):
    """As much of `zmq.Poller` as is used here; `zmq.green.Poller` has it too."""

    def register(self, socket: Any, flags: int, /) -> None: ...

    def unregister(self, socket: Any, /) -> None: ...

    def poll(self, timeout: int | None = None, /) -> Sequence[tuple[Any, int]]: ...


class Waiter(Protocol):
    """What both strategies do. `wake` is called by the caller of `wait`, never by the waiter."""

    name: str
    needs_interest: bool
    """Whether `update` has to be called, each time that the events which can wake a flow may have changed."""

    def add(self, target: Socket | int, wake: Wake) -> None:
        """Report `wake` when something happens at a socket, or when a descriptor is readable.

        Raises `EngineError` if it is watched already.
        """

    def add_port(self, socket: Socket, hub: Hub, port_index: int, wake: Wake) -> None:
        """As `add`, for the socket of a port: the hub knows which events matter there."""

    def update(self, hubs: Iterable[Hub]) -> None:
        """These hubs have worked: what can wake their flows may have changed."""

    def remove(self, target: Socket | int) -> None:
        """Forget a socket or descriptor, which may be closed already. Does nothing if it is not watched."""

    def wait(self, timeout_ms: int | None) -> list[Wake]:
        """Sleep until something happens, or for that many milliseconds (0: do not sleep; None: without end)."""

    def fileno(self) -> int:
        """A descriptor that is readable when `wait` would not sleep. Raises `EngineError` where there is none."""

    def close(self) -> None:
        """Give the descriptors back."""


def check_new(target: Socket | int, watched: Container[Socket | int]) -> None:
    if target in watched:
        raise EngineError(f"{target!r} is watched already: a broker's socket, or a reader's, has no other reader")


def spins_until(something: Callable[[], object], spin_s: float) -> bool:
    """Ask again and again, for so many seconds at most. Return True if there was something."""
    end_s = time.monotonic() + spin_s
    while not something():
        if time.monotonic() >= end_s:
            return False
    return True
