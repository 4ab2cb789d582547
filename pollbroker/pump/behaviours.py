"""Runs a behaviour: calls it with messages, timers and refusals, does what it asks for, and keeps the account.

While a message waits for room at a port, the other ports are not read, since what they bring may be for that port. The
port itself is read, because its peer may make room only when it is served.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from pollbroker.behaviour import Behaviour, IfFull
from pollbroker.errors import BehaviourError
from pollbroker.pump.behaviour_account import BehaviourAccount
from pollbroker.pump.behaviour_waits import BehaviourWaits
from pollbroker.pump.keyed_timers import KeyedTimers, Timer
from pollbroker.pump.outcomes import DROPPED, FULL
from pollbroker.pump.requests import Requests
from pollbroker.seldom import OF_A_MESSAGE, Seldom
from pollbroker.waits import Waits

_logger = logging.getLogger("pollbroker")

WAITING_MOST: Final = 1000
"""When so many messages wait for room, no port at all is read."""


class Outlet(Protocol):
    """As much of a `Sender` as is needed here; a test has its own."""

    @property
    def finished(self) -> int: ...

    def send(self, message: list[bytes], /) -> int: ...


class _News(NamedTuple):
    """Something that the behaviour is to be told of a message that it has sent."""

    method: Callable[[str, list[bytes]], None]
    port: str
    frames: list[bytes]
    given: int
    """1 if the message is given back, and to be accounted for again."""
    told: frozenset[str]
    """The ports of which the behaviour knows that they are full. What is sent there waits."""
    since_s: float | None = None
    """Since when a message has waited that is given back."""


_NOBODY: Final[frozenset[str]] = frozenset()


class BehaviourRun:
    """A behaviour at work, without a socket.

    Arguments:
        sources: the ports that can be read.
        outlets: what sends to each port that can send.
        call_later: sets a timer, which is called outside of `OutgoingPump.move`.
        clock: the time in seconds.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        *,
        sources: Iterable[str],
        outlets: Mapping[str, Outlet],
        call_later: Callable[[float, Callable[[], None]], Timer],
        clock: Callable[[], float],
    ) -> None:
        self.behaviour = behaviour
        self.sources = tuple(sources)
        self.counters: dict[str, int] = {}
        """The behaviour's own counters."""
        self._waits = BehaviourWaits(clock)
        self.account = BehaviourAccount(behaviour, self._waits)
        self.waiting: dict[str, deque[list[bytes]]] = {}
        """The messages that wait for room, by port."""
        self._waiting_since: dict[str, deque[float]] = {}
        self.on_change: Callable[[], None] = lambda: None
        """Called when a source may be read again, or when a timer is due."""
        self._name = type(behaviour).__name__
        self._outlets = outlets
        self.closed: set[str] = set()
        """The sources that are not to be read."""
        self._news: deque[_News] = deque()
        self._telling = False
        self.refusing: set[str] = set()
        """The ports that have refused a message, of which the behaviour has been told. It is told of room there."""
        self.timers = KeyedTimers(call_later, clock, lambda: self.on_change())
        self._requests = Requests(self, self._name, sources=self.sources, sinks=outlets, clock=clock)
        self._seldom = Seldom()

    # -- what happens -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Let the behaviour begin. An exception is raised here, and leaves no timer."""
        if self.behaviour.actions is not None:
            raise BehaviourError(f"{self._name}: it is at work in another broker; expected a new one for each broker")
        self.behaviour.actions = self._requests
        self._requests.in_call = True
        try:
            self.behaviour.on_start()
            self._requests.in_call = False
            self._finish_call(given=0, told=_NOBODY)
        except BaseException:
            self.end()
            raise
        finally:
            self._requests.in_call = False
        self._tell()

    def message(self, port: str, frames: list[bytes]) -> None:
        """Give the behaviour a message."""
        # As `_call` does, without its general arguments, which take a tenth of the time of almost every call.
        requests, given = self._requests, 1
        requests.in_call = True
        try:
            self.behaviour.on_message(port, frames)
        except BaseException as error:
            self._fail(error, given)
            if not isinstance(error, Exception):
                raise  # such as KeyboardInterrupt, which ends the run
            given = 0
        finally:
            requests.in_call = False
        self._finish_call(given, _NOBODY)
        if self._news:
            self._tell()

    def run_due_timers(self) -> None:
        """Call the behaviour for each timer whose time has come."""
        for key in self.timers.take_due():
            self._call(self.behaviour.on_timer, key)

    def stop(self) -> None:
        """Tell the behaviour that its broker is about to be removed."""
        self._call(self.behaviour.on_stop)

    def end(self) -> None:
        """Cancel every timer, and tell the behaviour that its broker has ended. It is not called any more, and may be
        used in another broker."""
        self.timers.cancel_all()
        if self.behaviour.actions is not self._requests:
            return
        self.behaviour.actions = None
        try:
            self.behaviour.on_end()
        except Exception as error:  # noqa: BLE001 - the broker has ended all the same
            self._log(error)

    def flush(self) -> None:
        """Send what waits for room, as far as there is any."""
        before = self.number_waiting
        for port, messages in list(self.waiting.items()):
            since = self._waiting_since[port]
            while messages and (not messages[0] or self._offer(port, messages[0], _NOBODY)):
                begun_s = since.popleft()
                if messages.popleft():
                    self._waits.end(begun_s)
            if not messages:
                del self.waiting[port], self._waiting_since[port]
        if self.number_waiting < before:
            self.on_change()
        self._tell()

    def tell_of_room(self) -> None:
        """Let the behaviour try again where a message was refused, of which it was told, and none waits. There need not
        be room."""
        for port in sorted(self.refusing - self.waiting.keys()):
            self.refusing.discard(port)
            self._call(self.behaviour.on_room, port)

    def may_read(self, port: str) -> bool:
        """Return True if this source is to be read now."""
        if port in self.closed:
            return False
        return not self.waiting or (self.waiting.keys() == {port} and len(self.waiting[port]) < WAITING_MOST)

    @property
    def has_work(self) -> bool:
        """True if a timer is due, a message waits for room, or the behaviour is to be told of room."""
        return self.timers.any_due or bool(self.waiting) or bool(self.refusing)

    @property
    def number_waiting(self) -> int:
        """How many messages wait for room."""
        return sum(bool(frames) for messages in self.waiting.values() for frames in messages)

    @property
    def waits(self) -> Waits:
        """How long messages waited: those that the behaviour kept, and those that waited for room."""
        return self._waits.waits

    @property
    def kept(self) -> int:
        """Messages that the behaviour keeps."""
        return self.account.kept

    @property
    def outstanding(self) -> int:
        """Requests that the behaviour has passed on, and that may yet be answered."""
        try:
            return self.behaviour.outstanding
        except Exception as error:  # noqa: BLE001 - it is looked at after a turn, where no message could be blamed
            self._log(error)
            return 0

    @property
    def request_ports(self) -> Collection[str]:
        """The ports from which such requests come."""
        return self.behaviour.request_ports

    def is_lost(self, port: str, frames: list[bytes]) -> bool:
        """True if something is lost with a message that is not read any more."""
        try:
            return self.behaviour.is_lost(port, frames)
        except Exception as error:  # noqa: BLE001 - the broker ends all the same
            self._log(error)
            return True

    @property
    def held(self) -> int:
        """Messages that the behaviour keeps, those that wait for room, and those that it is about to be given back."""
        return self.number_waiting + self.account.kept + sum(news.given for news in self._news)

    # -- calls, and what follows from them ----------------------------------------------------------------------------

    def _call(
        self, method: Callable[..., None], *arguments: Any, given: int = 0, told: frozenset[str] = _NOBODY
    ) -> None:
        """Call the behaviour, account for what became of `given` messages, and do what it asks for."""
        self._requests.in_call = True
        try:
            method(*arguments)
        except BaseException as error:
            self._fail(error, given)
            if not isinstance(error, Exception):
                raise
            given = 0
        finally:
            self._requests.in_call = False
        self._finish_call(given, told)
        if self._news:
            self._tell()

    def _fail(self, error: BaseException, given: int) -> None:
        """Account for a call that has raised this, and do nothing that was asked for in it."""
        self.account.failed += given
        self._requests.forget()
        if isinstance(error, Exception):
            self._log(error)
        else:
            self.account.add_call(given=0, sent=0)  # the caller raises it again, so that `_finish_call` is not called

    def _finish_call(self, given: int, told: frozenset[str]) -> None:
        """Account for a call that has returned, and do what was asked for in it."""
        requests = self._requests
        sends, others = requests.sends, requests.others
        if sends:
            requests.sends = []
        if others:
            requests.others = []
        self.account.add_call(given, len(sends))
        if sends:
            self._offer_all(sends, told)
        if self._waits.leaving:
            self._waits.end_call()
        for do, *arguments in others:
            do(*arguments)

    def _offer_all(self, sends: Sequence[tuple[str, list[bytes], IfFull]], told: frozenset[str]) -> None:
        """Send what was asked for in a call."""
        waiting, done, full = self.waiting, 0, _NOBODY
        try:
            for port, frames, if_full in sends:
                if port in waiting or port in full or not self._offer(port, frames, told):
                    full |= {port}  # if there is room a moment later, no message overtakes one that was refused
                    if if_full == "tell" and port not in told:
                        since_s = self._waits.since()
                        self._news.append(_News(self.behaviour.on_refused, port, frames, 1, told | {port}, since_s))
                    else:
                        self._let_wait(port, frames)
                done += 1
        except BaseException:
            for port, frames, _ in sends[done:]:
                self._let_wait(port, frames)
            raise

    def _tell(self) -> None:
        """Tell the behaviour what became of messages that it has sent. What it sends because of that may have the same
        fate: so this is a queue, and no call within a call."""
        if self._telling:
            return
        self._telling = True
        try:
            while self._news:
                news = self._news.popleft()
                if news.given and news.port not in self.refusing:
                    self.refusing.add(news.port)
                    self.on_change()
                if news.since_s is not None:
                    self._waits.leaving.append(news.since_s)
                self._call(news.method, news.port, news.frames, given=news.given, told=news.told)
        finally:
            self._telling = False

    def _offer(self, port: str, frames: list[bytes], told: frozenset[str]) -> bool:
        """Offer a message to a port. Return False if the port is full."""
        outlet = self._outlets[port]
        finished = outlet.finished
        try:
            outcome = outlet.send(frames)
        except BaseException:
            if outlet.finished != finished:
                frames.clear()  # a later frame failed, or a copy: the message is counted, and must not be sent again
            raise
        if outcome == DROPPED:
            self._news.append(_News(self.behaviour.on_dropped, port, frames, 0, told))
        return outcome != FULL

    def _let_wait(self, port: str, frames: list[bytes]) -> None:
        if not frames:
            return
        if port not in self.waiting:
            self.waiting[port], self._waiting_since[port] = deque(), deque()
            self.on_change()
        self.waiting[port].append(frames)
        self._waiting_since[port].append(self._waits.since())

    def _log(self, error: Exception) -> None:
        if self._seldom.admit() is not None:
            _logger.error(
                "behaviour %s: a call failed (%d messages so far)", self._name, self.account.failed, exc_info=error,
                extra=OF_A_MESSAGE,
            )  # fmt: skip

    def open_source(self, port: str) -> None:
        """Read a source again."""
        if port in self.closed:
            self.closed.remove(port)
            self.on_change()

    def add_to_counter(self, name: str, by: int) -> None:
        """Add to a counter of the behaviour's own."""
        self.counters[name] = self.counters.get(name, 0) + by
