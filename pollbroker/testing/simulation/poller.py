"""A simulated poller. It never sleeps: where a real poller would sleep until a timeout, it advances the clock.

If it has no timeout and nothing is ready, it sets `asleep`: as nothing else runs, nothing would ever end that sleep.
"""

import select
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import zmq

if TYPE_CHECKING:
    from pollbroker.testing.simulation.clock import SimClock
    from pollbroker.testing.simulation.socket import SimSocket

Target: TypeAlias = "SimSocket | int"

_POLLIN: Final = int(zmq.POLLIN)
_POLLOUT: Final = int(zmq.POLLOUT)
_POLLERR: Final = int(zmq.POLLERR)


_MOST_IDLE_POLLS: Final = 5000
"""Far more polls in a row without waiting than a loop needs that does not spin."""


class SpinsForEver(AssertionError):
    """The poller was asked again and again without waiting although nothing was ready, and in one thread nothing could
    become ready meanwhile."""


class SimPoller:
    """Looks like a `zmq.Poller`. Made by `SimNetwork.poller`."""

    __slots__ = ("_clock", "_descriptors", "_idle_polls", "_targets", "asleep")

    def __init__(self, clock: "SimClock") -> None:
        self._clock = clock
        self._targets: dict[Target, int] = {}
        self._descriptors = select.poll()
        self._idle_polls = 0
        self.asleep = False
        """Whether the last `poll` had no timeout and found nothing."""

    def register(self, socket: Any, flags: int = _POLLIN | _POLLOUT) -> None:
        """Watch a simulated socket or a real descriptor. Without flags, stop watching it."""
        target: Target = socket if not hasattr(socket, "fileno") else socket.fileno()
        if not flags:
            if target in self._targets:
                self.unregister(target)
            return
        self._targets[target] = flags
        if isinstance(target, int):
            self._descriptors.register(target, _to_kernel(flags))

    def modify(self, socket: Any, flags: int = _POLLIN | _POLLOUT) -> None:
        self.register(socket, flags)

    def unregister(self, socket: Any) -> None:
        """Stop watching a socket or a descriptor. Raises `KeyError` if it was not watched."""
        target: Target = socket if not hasattr(socket, "fileno") else socket.fileno()
        del self._targets[target]
        if isinstance(target, int):
            self._descriptors.unregister(target)

    @property
    def sockets(self) -> list[tuple[Target, int]]:
        """The sockets and descriptors that are watched, each with the events to watch for."""
        return list(self._targets.items())

    def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
        """Return what is ready, in the order of registration.

        Raises `zmq.ZMQError` for a socket that is closed or whose context has ended, and `SpinsForEver`.
        """
        self.asleep = False
        ready = self._look()
        # A command may have come to one socket while another one was asked. With libzmq its ZMQ_FD would end the wait.
        while not ready and timeout != 0 and self._has_commands():
            ready = self._look()
        if not ready:
            if timeout is None or timeout < 0:
                self.asleep = True
            else:
                self._clock.advance(timeout / 1000)
        self._idle_polls = self._idle_polls + 1 if not ready and timeout == 0 else 0
        if self._idle_polls > _MOST_IDLE_POLLS:
            raise SpinsForEver(f"asked {_MOST_IDLE_POLLS} times in a row without waiting, and nothing was ready")
        return ready

    def _has_commands(self) -> bool:
        return any(not isinstance(target, int) and target.mailbox.commands for target in self._targets)

    def _look(self) -> list[tuple[Any, int]]:
        from_kernel = dict(self._descriptors.poll(0))
        ready: list[tuple[Any, int]] = []
        for target, flags in list(self._targets.items()):
            if isinstance(target, int):
                events = _from_kernel(from_kernel.get(target, 0))
            else:
                events = int(target.getsockopt(zmq.EVENTS)) & flags
            if events:
                ready.append((target, events))
        return ready


def _to_kernel(flags: int) -> int:
    return (select.POLLIN if flags & _POLLIN else 0) | (select.POLLOUT if flags & _POLLOUT else 0)


def _from_kernel(found: int) -> int:
    events = (_POLLIN if found & select.POLLIN else 0) | (_POLLOUT if found & select.POLLOUT else 0)
    return events | _POLLERR if found & ~(select.POLLIN | select.POLLOUT) else events
