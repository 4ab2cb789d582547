"""Waiting: the one place where the engine's thread sleeps, in `zmq.Poller.poll`.

Before it sleeps it may be told to look for a while whether something comes: to be woken takes the kernel longer than
most round trips are given.

Two strategies behind one interface. *Nested*: the ZMQ_FD of every socket is in one epoll or kqueue set, and that set's
own descriptor is in the `zmq.Poller`; an idle socket costs nothing. *Flat*: every socket is in the `zmq.Poller` itself,
with the events that matter now; for platforms without a pollable selector, and for pollers that are handed in and need
it. Both may report a socket that turns out not to be ready; neither misses one that was settled before `wait`.
"""

import os
import select
import selectors
import time
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol, TypeAlias

import zmq

from pollbroker.errors import ConfigError, EngineError
from pollbroker.pump import Collector, Implementation, Socket

Wake: TypeAlias = Callable[[], None]

_POLLIN: Final = int(zmq.POLLIN)


class Poller(Protocol):
    """As much of `zmq.Poller` as is used here; `zmq.green.Poller` has it too."""

    def register(self, socket: Any, flags: int, /) -> None: ...

    def unregister(self, socket: Any, /) -> None: ...

    def poll(self, timeout: int | None = None, /) -> Sequence[tuple[Any, int]]: ...


class Waiter(Protocol):
    """What both strategies do. `wake` is called by the caller of `wait`, never by the waiter."""

    name: str
    needs_interest: bool
    """Whether `watch` has to be told which events matter, each time that this changes."""

    def add(self, target: Socket | int, wake: Wake) -> None:
        """Report `wake` when something happens at a socket, or when a descriptor is readable.

        Raises `EngineError` if it is watched already.
        """

    def watch(self, target: Socket | int, events: int) -> None:
        """Wake for these events only, of POLLIN, POLLOUT and POLLERR."""

    def remove(self, target: Socket | int) -> None:
        """Forget a socket or descriptor, which may be closed already. Does nothing if it is not watched."""

    def wait(self, timeout_ms: int | None) -> list[Wake]:
        """Sleep until something happens, or for that many milliseconds (0: do not sleep; None: without end)."""

    def fileno(self) -> int:
        """A descriptor that is readable when `wait` would not sleep. Raises `EngineError` where there is none."""

    def close(self) -> None:
        """Give the descriptors back."""


class NestedWaiter:
    """Every ZMQ_FD in one epoll or kqueue set, and the descriptor of that set in the `zmq.Poller`."""

    name = "nested"
    needs_interest = False

    def __init__(
        self, poller: Poller, implementation: Implementation, spin_s: float, *, always_polls: bool = False
    ) -> None:
        self._wakes: dict[int, Wake] = {}
        self._set = _EpollSet(self._wakes) if hasattr(select, "epoll") else _SelectorSet(self._wakes)
        self._always_polls = always_polls
        self._poller = poller
        self._poller.register(self._set.fileno(), _POLLIN)
        self._descriptors: dict[Socket | int, int] = {}
        self._overtaken: list[Wake] = []
        self._spin_s = spin_s
        collector: Collector | None = None
        if isinstance(self._set, _EpollSet):
            collector = implementation.make_collector(self._set.fileno(), self._wakes)
        self._collector: Collector = collector or self._set

    def add(self, target: Socket | int, wake: Wake) -> None:
        _check_new(target, self._descriptors)
        descriptor = target if isinstance(target, int) else int(target.getsockopt(zmq.FD))
        if descriptor in self._wakes:
            # Its owner closed it behind our back, and the number was given out again: let the owner find out.
            self._overtaken.append(self._wakes[descriptor])
            self.remove(next(target for target, known in self._descriptors.items() if known == descriptor))
        self._set.register(descriptor)
        self._descriptors[target] = descriptor
        self._wakes[descriptor] = wake

    def watch(self, target: Socket | int, events: int) -> None:
        """Nothing to do: ZMQ_FD tells that something has happened, whatever it is, and only once."""

    def remove(self, target: Socket | int) -> None:
        descriptor = self._descriptors.pop(target, None)
        if descriptor is not None:  # else somebody else's descriptor may have its number now
            self._set.unregister(descriptor)
            del self._wakes[descriptor]

    def wait(self, timeout_ms: int | None) -> list[Wake]:
        if self._overtaken:
            overtaken, self._overtaken = self._overtaken, []
            return overtaken
        if not self._always_polls and (timeout_ms == 0 or self._collector.has_events(self._spin_s)):
            return self._collector()
        return self._collector() if self._poller.poll(timeout_ms) else []

    def fileno(self) -> int:
        return self._set.fileno()

    def close(self) -> None:
        self._poller.unregister(self._set.fileno())
        self._set.close()


class _EpollSet:
    """An epoll set, and a collector of it (`pollbroker.pump.contract`); `selectors` would keep 200 bytes a socket."""

    def __init__(self, wakes: dict[int, Wake]) -> None:
        self._epoll = select.epoll()
        self._wakes = wakes
        self.fileno = self._epoll.fileno
        self.close = self._epoll.close

    def register(self, descriptor: int) -> None:
        self._epoll.register(descriptor, select.EPOLLIN)

    def unregister(self, descriptor: int) -> None:
        with suppress(OSError):  # the kernel has forgotten it if it is closed
            self._epoll.unregister(descriptor)

    def __call__(self) -> list[Wake]:
        # A descriptor that is known no longer may show all the same, as long as a fork of this process holds it open.
        return [self._wakes[descriptor] for descriptor, _ in self._epoll.poll(0) if descriptor in self._wakes]

    def has_events(self, spin_s: float, /) -> bool:
        return _spins_until(lambda: self._epoll.poll(0, 1), spin_s)


class _SelectorSet:
    """The same with `selectors`, for kqueue."""

    def __init__(self, wakes: dict[int, Wake]) -> None:
        self._selector: Any = selectors.DefaultSelector()
        self._wakes = wakes
        self.fileno: Callable[[], int] = self._selector.fileno
        self.close: Callable[[], None] = self._selector.close

    def register(self, descriptor: int) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ)

    def unregister(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    def __call__(self) -> list[Wake]:
        return [self._wakes[key.fd] for key, _ in self._selector.select(0)]

    def has_events(self, spin_s: float, /) -> bool:
        return _spins_until(lambda: self._selector.select(0), spin_s)


def _spins_until(something: Callable[[], object], spin_s: float) -> bool:
    """Ask again and again, for so many seconds at most; whether there was something."""
    end_s = time.monotonic() + spin_s
    while not something():
        if time.monotonic() >= end_s:
            return False
    return True


class FlatWaiter:
    """Every socket in the `zmq.Poller` itself."""

    name = "flat"
    needs_interest = True

    def __init__(self, poller: Poller, spin_s: float) -> None:
        self._poller = poller
        self._spin_s = spin_s
        self._wakes: dict[Socket | int, Wake] = {}
        self._watched: dict[Socket | int, int] = {}

    def add(self, target: Socket | int, wake: Wake) -> None:
        _check_new(target, self._wakes)
        self._wakes[target] = wake
        self.watch(target, _POLLIN)

    def watch(self, target: Socket | int, events: int) -> None:
        if events:
            self._poller.register(target, events)
            self._watched[target] = events
        elif self._watched.pop(target, 0):
            self._poller.unregister(target)

    def remove(self, target: Socket | int) -> None:
        self.watch(target, 0)
        self._wakes.pop(target, None)

    def wait(self, timeout_ms: int | None) -> list[Wake]:
        # pyzmq would poll a closed socket as descriptor 0: let its owner find out instead.
        closed = [self._wakes[t] for t in self._watched if not isinstance(t, int) and t.closed]
        if closed:
            return closed
        try:
            if self._spin_s and timeout_ms != 0 and _spins_until(lambda: self._poller.poll(0), self._spin_s):
                timeout_ms = 0
            ready = self._poller.poll(timeout_ms)
        except zmq.ZMQError:
            return list(self._wakes.values())  # one of them was terminated or closed meanwhile: all look
        return [self._wakes[target] for target, _ in ready]

    def fileno(self) -> int:
        raise EngineError("the flat waiter has no descriptor: call step() at intervals, or use the nested waiter")

    def close(self) -> None:
        for target in list(self._wakes):
            self.remove(target)


def _check_new(target: Socket | int, watched: Container[Socket | int]) -> None:
    if target in watched:
        raise EngineError(f"{target!r} is watched already: a broker's socket, or a reader's, has no other reader")


def make_waiter(name: str | None, poller: Poller | None, implementation: Implementation, spin_s: float) -> Waiter:
    """The waiter of that name (`"nested"` or `"flat"`); without one, as POLLBROKER_WAITER says; without that, the best.

    Raises `ConfigError` for an unknown name, and for `"nested"` where the platform's selector cannot be polled.
    """
    where = "waiter" if name else "POLLBROKER_WAITER"
    name = name or os.environ.get("POLLBROKER_WAITER") or None
    if name not in (None, "nested", "flat"):
        raise ConfigError(f"{where}: {name!r}: expected 'nested' or 'flat'")
    pollable = hasattr(selectors.DefaultSelector, "fileno")
    if name == "nested" and not pollable:
        raise ConfigError(f"{where}: the selector of this platform cannot be polled; expected 'flat'")
    if name == "flat" or not pollable:
        return FlatWaiter(zmq.Poller() if poller is None else poller, spin_s)
    if poller is None:
        return NestedWaiter(zmq.Poller(), implementation, spin_s)
    # Whoever hands one in may have others to run while it is asked: it is asked in every turn.
    return NestedWaiter(poller, implementation, spin_s, always_polls=True)
