"""What an engine tells of itself: statistics, peers, events, and the messages that pass."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import zmq

from pollbroker.broker import Broker
from pollbroker.calls import Calls
from pollbroker.errors import ConfigError, EngineError
from pollbroker.events import Event, EventReader
from pollbroker.frozen import FrozenDict
from pollbroker.loop import Loop
from pollbroker.portions import Portions
from pollbroker.statistics import BrokerStatistics, EngineStatistics, PeerStatistics
from pollbroker.table import Table
from pollbroker.taps import Tap

T = TypeVar("T")


class Observing:
    """The part of an engine that tells what is and what happens in it. Any thread may ask."""

    _context: zmq.Context[Any]
    _loop: Loop
    _calls: Calls
    _table: Table
    _portions: Portions

    # -- what there is ------------------------------------------------------------------------------------------------

    @property
    def context(self) -> zmq.Context[Any]:
        """The context in which `add` opens sockets of libzmq. Terminating it ends every broker in order, and so `run`.

        `zmq.Context.term` returns when the engine has closed its sockets, for which it has to run, or to be stepped.
        """
        if not self._loop.context_end.is_shared:
            with suppress(EngineError):  # it is closed, or belongs to another process: no broker is left to end
                self._calls.call(self._loop.context_end.share)
        return self._context

    def statistics(self, brokers: Iterable[str | Broker] | None = None) -> EngineStatistics:
        """A frozen snapshot of the engine: what each broker has done in each direction and at each port.

        Arguments:
            brokers: their names or handles; none (`()`) if only the engine itself is asked about. By default all, at
                one moment: the engine moves no message meanwhile, which takes up to 0.3 ms for each of them. See
                `begin_for_each` for another way.

        Raises `EngineError` if there is no such broker.
        """
        return self._calls.call(self._statistics, brokers)

    def broker_statistics(self, broker: str | Broker) -> BrokerStatistics:
        """A frozen snapshot of one broker. Raises `EngineError` if there is no such broker."""
        return self._calls.call(self._table.statistics, broker)

    def peers(self, broker: str | Broker) -> tuple[PeerStatistics, ...]:
        """Who is connected to a broker now, at which port. Ports of libzmq do not tell, so that theirs are missing.

        Raises `EngineError` if there is no such broker.
        """
        return self._calls.call(self._table.peers, broker)

    def begin_for_each(self, ask: Callable[[Broker], T]) -> "Future[Mapping[str, T]]":
        """Begin to call `ask(broker)` for every broker, in the engine's thread, and return at once: the future is
        resolved with what it has returned, by the names of the brokers.

        A few brokers are asked in each turn of the loop, so that many of them do not hold up the traffic. So
        `begin_for_each(Broker.statistics)` gives statistics of which each is that of one moment, and balances, while
        those of two brokers may be some milliseconds apart, or more if there is much traffic. A broker that is removed
        before its turn is left out, and so is one whose name is new.

        The answers need turns of the loop, unless there are few brokers: then the future may be resolved already. It
        may be cancelled. If `ask` raises, no more brokers are asked, and the future has that exception. If the engine
        closes first, it has an `EngineError`. Several such calls are answered one after the other.
        """
        return self._calls.call(self._portions.begin, ask)

    # -- what happens -------------------------------------------------------------------------------------------------

    def on_event(
        self, callback: Callable[[Event], object], *, at_end: Callable[[], object] | None = None
    ) -> Callable[[], None]:
        """Have `callback(event)` called, in the engine's thread, with each event: a broker was added, paused, resumed
        or removed, or has failed; a peer has connected or left, a handshake has failed, a connection was refused.

        Return a function that ends this. `at_end` is called when the engine closes. An exception of either is logged.
        The callback may call the engine: it may remove the broker of which it is told, for example. What waits for
        turns of the loop raises `EngineError` there, as it does within a turn. Of registered sockets there are no
        events of peers, since a socket has one monitor at most (zmq_socket_monitor(3)), which is the caller's. While
        nobody listens, events cost nothing.
        """
        if not callable(callback):
            raise ConfigError(f"on_event: {callback!r}: expected a function of one argument, the event")
        listener = self._calls.call(self._loop.events.add, callback, at_end)

        def end() -> None:
            with suppress(EngineError):  # it was closed meanwhile
                self._calls.call(self._loop.events.remove, listener)

        return end

    def events(self, most: int = 1000) -> EventReader:
        """Listen to events (see `on_event`), and keep up to `most` of them for a reader in any thread. A reader that
        does not read in time loses the oldest, and is told how many.

        Use it as `with engine.events() as events:`, or call its `close` in the end. Raises `ConfigError` if `most` is
        not a positive integer.
        """
        reader = EventReader(most)
        reader.cancel = self.on_event(reader.put, at_end=reader.end)
        return reader

    def tap(self, broker: str | Broker, *, port: str | None = None, bodies: bool = False, most: int = 1000) -> Tap:
        """Watch the messages that pass a broker: their sizes, and the routing id or the topic. `Tap.take` returns them.

        Arguments:
            port: only those that come from this port, or go to it. By default all.
            bodies: whether the beginning of each frame is kept, too.
            most: how many messages are kept until they are taken, or fewer with 64 KiB of bodies. More are counted
                (`Tap.lost`), and not looked at, so that a tap never holds up the traffic.

        If another broker takes the place of this one (`add`, `replaces`), the tap goes on there. Use it as `with
        engine.tap("orders") as tap:`, or call its `close` in the end. A broker that nobody taps moves
        its messages as if there were no taps.

        Raises `EngineError` if there is no such broker, or if it has ended; `DeviceError` if it has no such port; and
        `ConfigError` if `most` is not a positive integer.
        """
        tap = Tap(port=port, bodies=bodies, most=most)
        end = self._calls.call(self._table.tap, broker, tap)

        def cancel() -> None:
            with suppress(EngineError):  # it was closed meanwhile
                self._calls.call(end)

        tap.cancel = cancel
        return tap

    def _statistics(self, brokers: Iterable[str | Broker] | None) -> EngineStatistics:
        several = map(self._table.statistics, self._table.snapshot() if brokers is None else brokers)
        return EngineStatistics(
            pump=self._loop.implementation.name,
            waiter=self._loop.waiter_name,
            turns=self._loop.turns,
            brokers=FrozenDict({one.name: one for one in several}),
        )
