"""Events: what happens in an engine, for whoever listens.

- While nobody listens, nothing is made, kept or asked of libzmq.
- An event is a plain record. Those who listen are called in the engine's thread, one after the other, and an exception
  of theirs is logged.
- Each of them is told of one event after the other, also of what another one brings about while it is told. They may
  call the engine, so they are told when what has happened is done with.
- `EventReader` keeps events for a reader in another thread, up to a number. A reader that does not read in time loses
  the oldest, and is told how many.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from pollbroker.errors import ConfigError

_logger = logging.getLogger("pollbroker")


class EventKind(StrEnum):
    """What has happened."""

    BROKER_ADDED = "broker_added"
    """A broker was started."""
    BROKER_PAUSED = "broker_paused"
    BROKER_RESUMED = "broker_resumed"
    BROKER_FAILED = "broker_failed"
    """An error has ended a broker; `reason` says which."""
    BROKER_ENDED = "broker_ended"
    """The context of a broker's sockets was terminated."""
    BROKER_REMOVED = "broker_removed"
    PEER_CONNECTED = "peer_connected"
    """At a port of the wire: a peer has shaken hands. At one of libzmq: a connection was made."""
    PEER_LEFT = "peer_left"
    """The connection of a peer has ended."""
    HANDSHAKE_FAILED = "handshake_failed"
    """A connection has ended before hands were shaken."""
    CONNECTION_REFUSED = "connection_refused"
    """A connection was not accepted, since a limit was reached."""
    EVENTS_LOST = "events_lost"
    """So many events as `count` says are missing here."""


@dataclass(frozen=True)
class Event:
    """Something that has happened. What does not apply, or is not known, is empty."""

    time_s: float
    """When: seconds since 1970, as `time.time()` gives them."""
    kind: EventKind
    broker: str = ""
    port: str = ""
    """The name of the broker's port that a connection belongs to."""
    address: str = ""
    """Of the other end of a connection, such as `tcp://192.0.2.7:41234`; of an `ipc://` peer, its process."""
    reason: str = ""
    """Why: of a connection, a reason as in `PortStatistics.connections_ended`, such as `left`, or what libzmq says; of
    a broker that has failed, the error."""
    count: int = 1
    """How many events this stands for."""


@dataclass(frozen=True, eq=False)
class Listener:
    """Somebody who listens. One callback may listen several times, and each time is ended by itself."""

    call: Callable[[Event], object]
    at_end: Callable[[], object] | None
    """Called when the engine closes."""


class EventSource:
    """Tells those who listen what happens. Only the engine's thread may use it, but for `wanted`."""

    def __init__(self) -> None:
        self._listeners: tuple[Listener, ...] = ()
        self._when_wanted: list[Callable[[bool], object]] = []
        self._collect: list[Callable[[], object]] = []
        """Functions that `note` what has happened by now."""
        self._untold: deque[Event] = deque()
        self._waits = 0
        """In how many blocks of `told_afterwards` the engine is, and 1 more while somebody is told."""

    @property
    def wanted(self) -> bool:
        """True if somebody listens."""
        return bool(self._listeners)

    def when_wanted(self, call: Callable[[bool], object]) -> None:
        """Have `call(wanted)` called when somebody begins to listen, and when nobody does any more."""
        self._when_wanted.append(call)
        if self._listeners:
            call(True)

    def add(self, call: Callable[[Event], object], at_end: Callable[[], object] | None = None) -> Listener:
        """Have `call(event)` called with each event, and `at_end` when the engine closes. Return what `remove` ends."""
        listener = Listener(call, at_end)
        self._listeners = (*self._listeners, listener)
        if len(self._listeners) == 1:
            self._say_wanted()
        return listener

    def remove(self, listener: Listener) -> None:
        """Do not call a listener any more. Nothing happens if it was removed before."""
        if listener in self._listeners:
            self._listeners = tuple(one for one in self._listeners if one is not listener)
            if not self._listeners:
                self._say_wanted()

    def close(self) -> None:
        """Remove all listeners, since the engine closes. An exception of an `at_end` is logged; a `SystemExit` is
        raised when the others were called."""
        with ExitStack() as then:  # from the last one up, and each whatever is raised before it
            for listener in reversed(self._listeners):
                then.callback(self._end, listener)
            for _ in self._untold:  # left when a listener raised a SystemExit, which it may do at each
                then.callback(self._tell)

    def _end(self, listener: Listener) -> None:
        if listener in self._listeners:  # otherwise the `at_end` of another one has removed it
            self.remove(listener)
            if listener.at_end is not None:
                self._call("the end of the engine", listener.at_end)

    def _say_wanted(self) -> None:
        for call in self._when_wanted:
            call(self.wanted)

    def collect_from(self, call: Callable[[], object]) -> None:
        """Have `call()` called before an event is told, so that it may `note` what has happened before."""
        self._collect.append(call)

    def note(self, kind: EventKind, broker: str = "", **more: Any) -> None:
        """An event is to be told by the next `tell` or `emit`: the other fields of `Event` are given by their names."""
        if self._listeners:
            self._untold.append(Event(time.time(), kind, broker, **more))

    def emit(self, kind: EventKind, broker: str = "", **more: Any) -> None:
        """Tell everybody of an event, after those that were noted before."""
        if self._listeners:
            for collect in self._collect:
                collect()
            self.note(kind, broker, **more)
            self._tell()

    def tell(self) -> None:
        """Tell everybody of what was noted."""
        if self._listeners:
            for collect in self._collect:
                collect()
            self._tell()

    @contextmanager
    def told_afterwards(self) -> Iterator[None]:
        """Tell everybody at the end of the block of what happens in it."""
        self._waits += 1
        try:
            yield
        finally:
            self._waits -= 1
            self._tell()

    def _tell(self) -> None:
        """Tell everybody of what has happened, unless somebody is being told: then that goes on with this."""
        while self._untold and not self._waits:
            event = self._untold.popleft()
            self._waits += 1
            try:
                for listener in self._listeners:
                    self._call(event, listener.call, event)
            finally:
                self._waits -= 1

    @staticmethod
    def _call(what: object, call: Callable[..., object], *arguments: Event) -> None:
        try:
            call(*arguments)
        except Exception:
            _logger.exception("a listener of events raised at %s", what)


class EventReader:
    """Keeps events until they are read. `Engine.events` makes one; any thread may read.

    Use it as a context, or call `close` when no more are wanted. Iterating over it waits for each event, and ends when
    the reader or its engine is closed.
    """

    def __init__(self, most: int) -> None:
        if not isinstance(most, int) or most < 1:
            raise ConfigError(f"most: {most!r}: expected 1 event or more")
        self.lost = 0
        """How many events were lost so far, because they were not read in time."""
        self._events: deque[Event] = deque()
        self._most = most
        self._untold = 0
        """Those that were lost, and of which the reader was not told yet."""
        self._changed = threading.Condition()
        self._closed = False
        self.cancel: Callable[[], object] = lambda: None
        """What the engine is asked to do when the reader is closed."""
        self.on_first: Callable[[], object] = lambda: None
        """Called in the engine's thread when there is something to read, and was nothing before."""

    def put(self, event: Event) -> None:
        """Keep an event, in the engine's thread. If there are too many, the oldest is lost."""
        with self._changed:
            is_first = not self._events
            if len(self._events) == self._most:
                self._events.popleft()
                self._untold += 1
                self.lost += 1
            self._events.append(event)
            self._changed.notify()
        if is_first:
            self.on_first()

    def read(self, timeout_s: float | None = None) -> Event | None:
        """Return the next event. Wait for it up to `timeout_s` seconds; None is without limit, and 0 does not wait.

        Returns None if there is none in time, or if the reader or its engine is closed. Where events were lost, an
        event of the kind `events_lost` says how many.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._events or self._closed, timeout_s)
            if self._untold:
                lost, self._untold = self._untold, 0
                return Event(time.time(), EventKind.EVENTS_LOST, count=lost)
            return self._events.popleft() if self._events else None

    def end(self) -> None:
        """Wake whoever waits: no more events come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def close(self) -> None:
        """Listen no more. What was kept can still be read. Closing again does nothing."""
        self.end()
        self.cancel()

    def __iter__(self) -> Iterator[Event]:
        while (event := self.read()) is not None:
            yield event

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
