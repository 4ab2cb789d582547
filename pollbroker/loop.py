"""The loop: one thread, one `zmq.Poller`, and everything that waits in it.

A turn: wait until something is ready, a timer is due or a call has come in; call the readers; let each ready broker
work, at most one burst for each direction; run the timers and calls that are due. With work left over it does not
sleep.
"""

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from pollbroker.calls import Calls, run_handle
from pollbroker.errors import ConfigError, EngineError
from pollbroker.port import WorkingPort
from pollbroker.pump import Hub, Socket, choose_implementation
from pollbroker.reader import Readers
from pollbroker.timers import Handle, Timers, check_delay
from pollbroker.waiting import Poller, make_waiter
from pollbroker.working import LoopAccess

_logger = logging.getLogger("pollbroker")


_LONGEST_WORK_S: Final = 0.002
"""No broker begins a burst in a turn that has lasted so long: then readers, timers and calls have theirs."""

_LONGEST_SPIN_S: Final = 0.01
"""Timers and signals wait as long."""

_LONGEST_SLEEP_S: Final = 86_400.0
"""A timer may be set for later than what poll(2) can be told."""


class Loop:
    """The loop of an engine; see `Engine` for the arguments. Every method may be called from any thread."""

    def __init__(
        self,
        *,
        poller: Poller | None,
        clock: Callable[[], float] | None,
        burst_messages: int,
        burst_bytes: int,
        spin_s: float,
        pump: str | None,
        waiter: str | None,
    ) -> None:
        for name, value in (("burst_messages", burst_messages), ("burst_bytes", burst_bytes)):
            if not isinstance(value, int) or not 1 <= value < 1 << 63:
                raise ConfigError(f"{name}: {value!r}: expected a positive integer")
        if not isinstance(spin_s, (int, float)) or not 0 <= spin_s <= _LONGEST_SPIN_S:
            raise ConfigError(f"spin_s: {spin_s!r}: expected 0 to {_LONGEST_SPIN_S} seconds")
        self._implementation = choose_implementation(pump)
        self._waiter = make_waiter(waiter, poller, self._implementation, spin_s)
        self._burst_messages = burst_messages
        self._burst_bytes = burst_bytes
        self._clock = clock or time.monotonic
        self._timers = Timers(self._clock)
        self._calls = Calls(self._work_at_hand)
        self._waiter.add(self._calls.fileno(), self._calls.drain_waker)
        self._ready: list[Hub] = []
        self._readers = Readers(self._waiter, self._implementation, home=self._ready)
        self._woken: list[Hub] = []
        self._wake_hub = self._wake  # one bound method for all bells
        self._turns = 0
        self._loop_access = LoopAccess(self._ready, self._watch, self._unwatch, self._timers.add, self._clock)
        self._stopping = False
        self._ran_out = False
        """Whether the last `run` returned because nothing was left to do."""

    # -- driving it ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run in this thread until `stop()`, or until nothing is left to do: every broker has ended or failed by
        itself, and there is no reader, timer or call to serve.

        A broker ends by itself when the context of its sockets is terminated. An engine that was given no broker yet,
        or whose last one was removed, goes on: it waits for the next.

        In the main thread Ctrl-C ends it between two turns, so that nothing is lost, and raises `KeyboardInterrupt`.
        `SystemExit` and `KeyboardInterrupt` that a handler, a timer, a reader or a call raises end it too, and are
        raised here; any other exception of theirs is logged, and it goes on. An exception that comes from nowhere of
        the user's (such as a `MemoryError` while a message is received) ends the one broker that it concerns.

        Raises `EngineError` if it runs already.
        """
        self._calls.check_usable()
        with self._calls.claimed():
            self._ran_out = False
            try:
                with self._calls.hearing_signals(self.stop):
                    self._turn(0 if self._stopping or self._is_over() else None)
                    while not (self._stopping or self._is_over()):
                        self._turn(None)
                self._ran_out = not self._stopping
            finally:
                self._stopping = False

    def stop(self) -> None:
        """Make `run` return after its present turn, or after its first if it has yet to begin.

        Nothing is lost by it: brokers keep their messages, and another `run` goes on. Signal handlers may call it. On a
        closed engine it does nothing.
        """
        if self._calls.closed:
            return
        self._calls.check_usable()
        self._stopping = True
        self._calls.wake()

    @property
    def running(self) -> bool:
        """Whether a thread is in `run`, or about to be."""
        return self._calls.running

    @property
    def stopping(self) -> bool:
        """Whether `run` would return: `stop` was called and no `run` has ended for it yet, or nothing is left to do
        (see `run`). Whoever drives the engine by `step` may want to end."""
        return self._stopping or self._is_over()

    @property
    def closed(self) -> bool:
        """Whether it was closed: nothing can be done with it any more."""
        return self._calls.closed

    def step(self, timeout_s: float | None = 0.0) -> bool:
        """Make one turn, sleeping at most that many seconds (None: without end) for something to do.

        For programs with a loop of their own: call it when `fileno()` is readable, and when `next_timer_s()` is over.
        Returns whether there is more to do at once; `fileno()` is readable then.

        Raises `EngineError` if `run` is at it already, or if called from within a turn.
        """
        if timeout_s is not None:
            check_delay(timeout_s)
        self._calls.check_usable()
        self._check_not_running()
        with self._calls.lock:
            self._calls.check_usable()
            if self._calls.in_turn:
                raise EngineError("step() was called from within a turn of the loop")
            self._turn(None if timeout_s is None else math.ceil(timeout_s * 1000))
            more = bool(self._ready or self._readers.ready)
            if more:
                self._calls.wake()
            return more

    def fileno(self) -> int:
        """A descriptor that is readable when `step()` has something to do, timers aside.

        Raises `EngineError` for a flat waiter, which has none.
        """
        self._calls.check_usable()
        return self._waiter.fileno()

    def next_timer_s(self) -> float | None:
        """Seconds until `step()` has something to do for a timer (0.0: at once), or None."""
        self._calls.check_usable()
        if self._ready or self._readers.ready:
            return 0.0
        return self._calls.call(self._timers.next_s)

    def _turn(self, timeout_ms: int | None) -> None:
        self._turns += 1
        wakes = self._waiter.wait(self._sleep_ms(timeout_ms))
        self._calls.in_turn = True
        try:
            for wake in wakes:
                wake()
            if self._readers.ready:
                self._readers.serve()
            worked = self._work() if self._ready else []
            calls = self._calls.pending()  # what timers bring about has its turn in the next
            self._timers.run_due(run_handle)
            if calls:
                self._calls.run(calls)
            if self._waiter.needs_interest:
                self._tell_interest(worked)
            self._end_turn()
        finally:
            self._calls.in_turn = False

    def _work(self) -> list[Hub]:
        """Let those that are ready move, one burst for each direction, and say who worked.

        What there was no time for comes first in the next turn: many busy brokers are not to keep control and timers
        waiting for all their bursts.
        """
        messages, size = self._burst_messages, self._burst_bytes
        now_s = self._clock()
        end_s = now_s + _LONGEST_WORK_S
        ready = self._ready.copy()
        self._ready.clear()
        worked = 0
        try:
            for hub in ready:
                worked += 1
                try:
                    flags = hub.work(messages, size, now_s)
                    if flags:
                        hub.owner.carry_out(flags)
                except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this one broker
                    hub.owner.fail(error)
                now_s = self._clock()
                if now_s >= end_s:
                    break
        except BaseException:
            worked -= 1  # such as KeyboardInterrupt: another `run` goes on where this one was
            raise
        finally:
            self._ready[:0] = ready[worked:]
        return ready

    def _is_over(self) -> bool:
        """Return True if nothing is left to do, and nothing can come."""
        return not (self._ready or self._readers or self._calls.pending() or self._timers.first())

    def _end_turn(self) -> None:
        """Whatever else is to be done at the end of each turn."""

    def _sleep_ms(self, limit_ms: int | None) -> int | None:
        if self._ready or self._readers.ready:
            return 0
        next_s = self._timers.next_s()
        if next_s is None:
            return limit_ms
        next_ms = math.ceil(min(next_s, _LONGEST_SLEEP_S) * 1000)
        return next_ms if limit_ms is None else min(next_ms, limit_ms)

    def _work_at_hand(self) -> object:
        """What there is to do without being woken; it changes when more of it comes."""
        return bool(self._ready), bool(self._readers.ready), self._timers.first()

    # -- brokers in the loop ------------------------------------------------------------------------------------------

    def _watch(self, hub: Hub, port_index: int, port: WorkingPort) -> None:
        """Tell it when something happens at a port."""
        self._waiter.add(port.sync_socket, hub.on_ready(port_index, self._wake_hub))

    def _unwatch(self, port: WorkingPort) -> None:
        self._waiter.remove(port.sync_socket)

    def _wake(self, hub: Hub, port_index: int) -> None:
        """Something happened at a port of it."""
        if self._waiter.needs_interest:
            self._woken.append(hub)
        try:
            flags = hub.wake(port_index)
            if flags:
                hub.owner.carry_out(flags)
        except Exception as error:  # noqa: BLE001 - as above
            hub.owner.fail(error)

    def _tell_interest(self, worked: list[Hub]) -> None:
        """Have the waiter watch for what can wake the flows that may have changed, and for nothing else."""
        changed = dict.fromkeys((*self._woken, *worked, *self._ready))  # in an order that a run can repeat
        self._woken.clear()
        for hub in changed:
            for port_index, port in enumerate(hub.owner.watched_ports):
                events = hub.interest(port_index)
                if events != port.interest:
                    port.interest = events
                    self._waiter.watch(port.sync_socket, events)

    # -- readers, timers and calls ------------------------------------------------------------------------------------

    def add_reader(self, target: Socket | int, callback: Callable[..., Any], *args: Any) -> None:
        """Have `callback(*args)` called, once a turn, as long as a socket or a descriptor has something to read.

        As `asyncio.loop.add_reader`: a second callback for one target takes the place of the first. What it raises is
        logged. The socket stays the caller's; close it only after `remove_reader`.

        Raises `EngineError` for a socket that a broker has.
        """
        self._calls.call(self._readers.add, target, partial(callback, *args))

    def remove_reader(self, target: Socket | int) -> bool:
        """Call back no longer for it; whether there was a callback."""
        return self._calls.call(self._readers.remove, target)

    def call_soon_threadsafe(self, fn: Callable[..., Any], *args: Any) -> Handle:
        """Have `fn(*args)` called in the engine's thread, in the next turn; returns at once, with its handle."""
        self._calls.check_usable()
        handle = Handle(0.0, partial(fn, *args))
        self._calls.put(handle)
        return handle

    def call_later(self, delay_s: float, fn: Callable[..., Any], *args: Any) -> Handle:
        """Have `fn(*args)` called in the engine's thread after that many seconds; returns its handle."""
        return self._calls.call(self._timers.add, delay_s, partial(fn, *args))

    def _check_not_running(self) -> None:
        if self._calls.running:
            raise EngineError("the engine is running already")
