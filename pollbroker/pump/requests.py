"""What a behaviour asks for in a call. It is checked at once, and done when the call has returned."""

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import Any, Protocol

from pollbroker.behaviour import IfFull
from pollbroker.errors import BehaviourError, did_you_mean
from pollbroker.pump.keyed_timers import KeyedTimers
from pollbroker.pump.message import is_message


class Effects(Protocol):
    """What is done when a call has returned, beside sending."""

    closed: set[str]
    """The sources that are not to be read."""
    timers: KeyedTimers

    def open_source(self, port: str) -> None: ...

    def add_to_counter(self, name: str, by: int) -> None: ...


class Requests:
    """The `Actions` of a behaviour.

    Arguments:
        name: the name of the behaviour, for errors.
        sources: the ports that can be read.
        sinks: the ports that can send.
        clock: the time in seconds.
    """

    def __init__(
        self,
        effects: Effects,
        name: str,
        *,
        sources: Collection[str],
        sinks: Collection[str],
        clock: Callable[[], float],
    ) -> None:
        self.in_call = False
        """True while the behaviour is being called. At other times it may ask for nothing."""
        self.sends: list[tuple[str, list[bytes], IfFull]] = []
        """The messages that it has asked to send in the present call."""
        self.others: list[tuple[Any, ...]] = []
        """What else it has asked for in this call: functions, each with its arguments behind it."""
        self._effects = effects
        self._name = name
        self._sources = sources
        self._sinks = sinks
        self._clock = clock

    def forget(self) -> None:
        """Nothing that was asked for in the present call is to be done."""
        self.sends.clear()
        self.others.clear()

    def send(self, port: str, frames: Sequence[bytes], if_full: IfFull) -> None:
        """See `Behaviour.send`."""
        if port not in self._sinks:
            raise self._unknown(port, "a message cannot be sent to it", self._sinks)
        if not is_message(frames):
            raise BehaviourError(f"{self._name}: {port}: {frames!r}: expected one or more frames of bytes")
        if if_full != "hold" and if_full != "tell":
            raise BehaviourError(f"{self._name}: {port}: if_full is {if_full!r}: expected 'hold' or 'tell'")
        if not self.in_call:
            raise self._not_now()
        self.sends.append((port, list(frames), if_full))

    def open(self, port: str) -> None:
        """See `Behaviour.open`."""
        self._check_source(port)
        if port in self._effects.closed or self.others:
            self.others.append((self._effects.open_source, port))

    def close(self, port: str) -> None:
        """See `Behaviour.close`."""
        self._check_source(port)
        if port not in self._effects.closed or self.others:
            self.others.append((self._effects.closed.add, port))

    def set_timer(self, key: Hashable, delay_s: float) -> None:
        """See `Behaviour.set_timer`."""
        if isinstance(delay_s, bool) or not isinstance(delay_s, (int, float)) or not delay_s >= 0:
            raise BehaviourError(f"{self._name}: timer {key!r}: {delay_s!r}: expected a number of seconds from 0 on")
        self._check_key(key)
        self.others.append((self._effects.timers.set, key, self._clock() + delay_s))

    def cancel_timer(self, key: Hashable) -> None:
        """See `Behaviour.cancel_timer`."""
        self._check_key(key)
        self.others.append((self._effects.timers.cancel, key))

    def count(self, name: str, by: int) -> None:
        """See `Behaviour.count`."""
        if not isinstance(name, str) or isinstance(by, bool) or not isinstance(by, int):
            raise BehaviourError(f"{self._name}: count({name!r}, {by!r}): expected a name and a whole number")
        if not self.in_call:
            raise self._not_now()
        self.others.append((self._effects.add_to_counter, name, by))

    def now_s(self) -> float:
        """See `Behaviour.now_s`."""
        return self._clock()

    def _not_now(self) -> BehaviourError:
        return BehaviourError(f"{self._name}: nothing can be asked for now; expected a call within a method on_...")

    def _check_key(self, key: object) -> None:
        if not self.in_call:
            raise self._not_now()
        try:
            hash(key)
        except TypeError as error:
            raise BehaviourError(f"{self._name}: timer {key!r}: expected a key that can be hashed") from error

    def _check_source(self, port: str) -> None:
        if not self.in_call:
            raise self._not_now()
        if port not in self._sources:
            raise self._unknown(port, "it cannot be read", self._sources)

    def _unknown(self, port: object, why: str, known: Iterable[str]) -> BehaviourError:
        near = did_you_mean(port, known) if isinstance(port, str) else None
        return BehaviourError(f"{self._name}: {port}: {why}{near or '; expected one of ' + ', '.join(known)}")
