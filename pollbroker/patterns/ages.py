"""How long ago something happened to each of many things, in ticks of one timer: every step takes the same small time.

A broker with a thousand workers has to know which of them it has not heard of for too long. A timer for each would cost
more than the messages do. Here one timer counts ticks, and the things stand in the order in which something last
happened to them, so that those whose time is over are the first.

Ticks are counted while the broker is at work. A broker that was paused, or whose process was stopped, finds the
messages that have come meanwhile before the time of their senders is over.
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Final, Generic, TypeVar

LEAST_S: Final = 0.01
"""The shortest time that may be set for a heartbeat or an expiry, so that timers alone do not keep the engine busy."""

T = TypeVar("T", bound=Hashable)


class Ages(Generic[T]):
    """Things, in the order in which they were last touched. A tick is a whole number that only grows."""

    __slots__ = ("_touched",)

    def __init__(self) -> None:
        self._touched: OrderedDict[T, int] = OrderedDict()

    def touch(self, thing: T, tick: int) -> None:
        """Something has happened to this thing now. It need not be known."""
        self._touched[thing] = tick
        self._touched.move_to_end(thing)

    def forget(self, thing: T) -> None:
        """Forget a thing. Does nothing if it is not known."""
        self._touched.pop(thing, None)

    def last(self, thing: T) -> int | None:
        """When a thing was last touched; None if it is not known."""
        return self._touched.get(thing)

    def take_until(self, tick: int) -> Iterator[T]:
        """Forget, one after the other, what was last touched at this tick or before it. Things may be touched and
        forgotten meanwhile."""
        touched = self._touched
        while touched:
            thing = next(iter(touched))
            if touched[thing] > tick:
                return
            del touched[thing]
            yield thing

    def __len__(self) -> int:
        return len(self._touched)

    def __iter__(self) -> Iterator[T]:
        """Those first that were not touched for longest."""
        return iter(self._touched)
