"""The contract of both waiters, and the functions that both use."""

import time
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from pollbroker.errors import EngineError
from pollbroker.pump import Bursts, Hub, MessageTurns, Socket

Wake: TypeAlias = Callable[[], None]

_Result = TypeVar("_Result")


class Poller(Protocol):
    """The methods of `zmq.Poller` that are used here; `zmq.green.Poller` has them, too."""

    def register(self, socket: Any, flags: int, /) -> None: ...

    def unregister(self, socket: Any, /) -> None: ...

    def poll(self, timeout: int | None = None, /) -> Sequence[tuple[Any, int]]: ...


class Waiter(Protocol):
    """Finds out which sockets and descriptors are ready. The caller of `wait` calls the `wake` functions; the waiter
    never does."""

    name: str
    needs_interest: bool
    """True if `update` has to be called whenever the events that can wake a flow may have changed."""

    def add(self, target: Socket | int, wake: Wake) -> None:
        """Watch a socket or a descriptor. `wait` returns `wake` when something has happened at the socket, or when the
        descriptor is readable.

        Raises `EngineError` if the target is watched already.
        """

    def add_port(self, socket: Socket, hub: Hub, port_index: int, wake: Wake) -> None:
        """Watch the socket of a port, as with `add`. The hub knows which events can wake its flows."""

    def update(self, hubs: Iterable[Hub]) -> None:
        """Note that these hubs have worked, so that the events which can wake their flows may have changed."""

    def remove(self, target: Socket | int) -> None:
        """Stop watching a socket or descriptor, which may be closed already. Does nothing if it is not watched."""

    def wait(self, timeout_ms: int | None) -> list[Wake]:
        """Sleep until something happens, or for `timeout_ms` (0: do not sleep; None: without limit). Return the `wake`
        functions of what has happened."""

    def make_message_turns(self, bursts: Bursts) -> MessageTurns | None:
        """Make what makes turns in place of `wait`, unless `has_wakes`. None if every turn has to call `wait`."""

    @property
    def has_wakes(self) -> bool:
        """True if `wait` would return at once with something that no descriptor tells."""

    def fileno(self) -> int:
        """A descriptor that is readable when `wait` would not sleep. Raises `EngineError` if the waiter has none."""

    def close(self) -> None:
        """Close the waiter's own descriptors."""


def check_new(target: Socket | int, watched: Container[Socket | int]) -> None:
    """Raise `EngineError` if the target is watched already."""
    if target in watched:
        raise EngineError(
            f"{target!r} is watched already: a socket of a broker or of a reader cannot have another reader"
        )


def spin_until(something: Callable[[], _Result], spin_s: float) -> _Result:
    """Call `something` repeatedly, for `spin_s` at most, until its result is true. Return the last result."""
    if not spin_s:
        return something()
    end_s = time.monotonic() + spin_s
    while not (result := something()):
        if time.monotonic() >= end_s:
            break
    return result
