"""The nested waiter: all descriptors are in one set, and the set's own descriptor is in the `zmq.Poller`."""

import select
import selectors
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Protocol

import zmq

from pollbroker.pump import Bursts, Collector, Hub, Implementation, MessageTurns, Socket
from pollbroker.waiting.contract import Poller, Wake, check_new, spin_until

_POLLIN: Final = int(zmq.POLLIN)

_LOOK_EVERY: Final = 8
"""Before a sleep the set is read, since that costs less than to poll if something is ready. If nothing was ready before
eight sleeps in a row, the set is read only before every eighth sleep, until something is ready again."""


def epoll_behind_gevent() -> Callable[[], Any] | None:
    """Return the kernel's epoll if gevent's patches have taken it out of `select`, else None.

    They do since waiting for it would block every greenlet. The waiter never waits for it: it only reads it.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_object_patched("select", "epoll"):
        return None
    epoll: Callable[[], Any] = monkey.get_original("select", "epoll")
    return epoll


class NestedWaiter:
    """Every ZMQ_FD in one epoll or kqueue set, and the descriptor of that set in the `zmq.Poller`."""

    name = "nested"
    needs_interest = False

    def __init__(
        self, poller: Poller, implementation: Implementation, spin_s: float, *, always_polls: bool = False
    ) -> None:
        self._wakes: dict[int, Wake] = {}
        epoll = getattr(select, "epoll", None) or epoll_behind_gevent()
        self._set = _EpollSet(self._wakes, epoll) if epoll else _SelectorSet(self._wakes)
        self._always_polls = always_polls
        self._poller = poller
        self._poller.register(self._set.fileno(), _POLLIN)
        self._descriptors: dict[Socket | int, int] = {}
        self._replaced_wakes: list[Wake] = []
        self._spin_s = spin_s
        self._sleeps = 0  # in a row, before which nothing was ready
        self._native_collector: Collector | None = None
        if isinstance(self._set, _EpollSet):
            self._native_collector = implementation.make_collector(self._set.fileno(), self._wakes)
        self._collector: _Collects = self._native_collector or self._set

    def add(self, target: Socket | int, wake: Wake) -> None:
        check_new(target, self._descriptors)
        descriptor = target if isinstance(target, int) else int(target.getsockopt(zmq.FD))
        if descriptor in self._wakes:
            # The descriptor was closed while it was watched, and a new one has its number: wake the owner, to find out.
            self._replaced_wakes.append(self._wakes[descriptor])
            self.remove(next(target for target, known in self._descriptors.items() if known == descriptor))
        self._set.register(descriptor)
        self._descriptors[target] = descriptor
        self._wakes[descriptor] = wake

    def add_port(self, socket: Socket, hub: Hub, port_index: int, wake: Wake) -> None:  # noqa: ARG002
        """Watch a port like any socket: ZMQ_FD reports every kind of event, and each only once."""
        self.add(socket, wake)

    def update(self, hubs: Iterable[Hub]) -> None:
        """Do nothing: ZMQ_FD does not depend on the events that matter now."""

    def remove(self, target: Socket | int) -> None:
        descriptor = self._descriptors.pop(target, None)
        if descriptor is not None:  # otherwise its number may be that of another descriptor now
            self._set.unregister(descriptor)
            del self._wakes[descriptor]

    def wait(self, timeout_ms: int | None) -> list[Wake]:
        if self._replaced_wakes:
            replaced_wakes, self._replaced_wakes = self._replaced_wakes, []
            return replaced_wakes
        if not self._always_polls:
            if timeout_ms == 0:
                return self._collector.collect(0.0) or []
            if self._spin_s or self._sleeps < _LOOK_EVERY or self._sleeps % _LOOK_EVERY == 0:
                wakes = self._collector.collect(self._spin_s)
                if wakes is not None:
                    self._sleeps = 0
                    return wakes
            self._sleeps += 1
        return (self._collector.collect(0.0) or []) if self._poller.poll(timeout_ms) else []

    def make_message_turns(self, bursts: Bursts) -> MessageTurns | None:
        if self._native_collector is None or self._always_polls:
            return None
        return self._native_collector.make_message_turns(bursts, spin_s=self._spin_s, look_every=_LOOK_EVERY)

    @property
    def has_wakes(self) -> bool:
        return bool(self._replaced_wakes)

    def fileno(self) -> int:
        return self._set.fileno()

    def close(self) -> None:
        self._poller.unregister(self._set.fileno())
        self._set.close()


class _Collects(Protocol):
    """What every collector can do, the waiter's own ones too."""

    def collect(self, spin_s: float, /) -> list[Wake] | None: ...


class _EpollSet:
    """An epoll set, and a collector of it (`pollbroker.pump.turns`). `selectors` would need 200 bytes more a
    socket."""

    def __init__(self, wakes: dict[int, Wake], epoll: Callable[[], Any]) -> None:
        self._epoll = epoll()
        self._wakes = wakes
        self.fileno = self._epoll.fileno
        self.close = self._epoll.close

    def register(self, descriptor: int) -> None:
        self._epoll.register(descriptor, select.EPOLLIN)

    def unregister(self, descriptor: int) -> None:
        with suppress(OSError):  # the kernel removes a closed descriptor from the set
            self._epoll.unregister(descriptor)

    def collect(self, spin_s: float, /) -> list[Wake] | None:
        events: list[tuple[int, int]] = spin_until(lambda: self._epoll.poll(0), spin_s)
        # A closed descriptor may still be reported, as long as a process that was forked from this one holds it open.
        return [self._wakes[descriptor] for descriptor, _ in events if descriptor in self._wakes] if events else None


class _SelectorSet:
    """The same as `_EpollSet`, made with `selectors`, for kqueue."""

    def __init__(self, wakes: dict[int, Wake]) -> None:
        self._selector: Any = selectors.DefaultSelector()
        self._wakes = wakes
        self.fileno: Callable[[], int] = self._selector.fileno
        self.close: Callable[[], None] = self._selector.close

    def register(self, descriptor: int) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ)

    def unregister(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    def collect(self, spin_s: float, /) -> list[Wake] | None:
        events: list[tuple[selectors.SelectorKey, int]] = spin_until(lambda: self._selector.select(0), spin_s)
        return [self._wakes[key.fd] for key, _ in events] if events else None
