"""The loop: one thread, one `zmq.Poller`, and everything that waits in it.

A turn: wait until something is ready, a timer is due or a call has come in; call the readers; let each ready broker
work, at most one burst for each direction; run the timers that are due, and the calls. If work is left over from the
last turn, the loop does not sleep. Turns with nothing to do but that work are made natively, if the native module is
there (`pollbroker.pump.turns`); they do the same in the same order.

`Engine` has the public methods. Only the thread that holds the lock of `calls` may use what is here, unless a docstring
says that any thread may.
"""

import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import zmq

from pollbroker.calls import Calls, run_handle
from pollbroker.context_end import ContextEnd
from pollbroker.errors import ConfigError, EngineError
from pollbroker.events import EventSource
from pollbroker.interrupts import signal_handling
from pollbroker.loop_access import LoopAccess
from pollbroker.monitors import Monitored, Monitors
from pollbroker.port import WorkingPort
from pollbroker.pump import Bursts, Hub, choose_implementation
from pollbroker.reader import Readers
from pollbroker.timers import Timers, check_delay
from pollbroker.waiting import Poller, Wake, make_waiter
from pollbroker.waker import Waker

if TYPE_CHECKING:
    from pollbroker.wire.context import WireContext
    from pollbroker.wire.opening import Streams

_LONGEST_WORK_S: Final = 0.002
"""How long the bursts of one turn may take. After that no broker begins a burst, so that readers, timers and calls do
not wait longer."""

_LONGEST_SPIN_S: Final = 0.01
"""Upper bound of `spin_s`. While the loop spins, timers and signal handlers can run this late."""

_LONGEST_SLEEP_S: Final = 86_400.0
"""Upper bound of one sleep. A timer may be set, or a step last, for so long that poll(2) cannot be given the time."""

_WAITING_TURN_MS: Final = 10
"""A thread that waits for a result makes the turns itself while no thread runs the loop. In each of them it sleeps at
most so long, since it holds the lock meanwhile."""


class Loop:
    """The loop of an engine; see `Engine` for the arguments.

    `all_brokers_ended` returns True if there are brokers and every one has ended; only then may `run` find that nothing
    is left to do. `brokers` returns the brokers. `context` returns the context in which an authenticator may be, which
    wire ports ask; `end_those_at_the_wire` ends the brokers that have such ports when it is terminated.
    """

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
        all_brokers_ended: Callable[[], bool],
        brokers: Callable[[], Iterable[Monitored]],
        context: Callable[[], zmq.Context[Any]],
        end_those_at_the_wire: Callable[[], object],
    ) -> None:
        for name, value in (("burst_messages", burst_messages), ("burst_bytes", burst_bytes)):
            if not isinstance(value, int) or not 1 <= value < 1 << 63:
                raise ConfigError(f"{name}: {value!r}: expected a positive integer")
        if not isinstance(spin_s, (int, float)) or not 0 <= spin_s <= _LONGEST_SPIN_S:
            raise ConfigError(f"spin_s: {spin_s!r}: expected 0 to {_LONGEST_SPIN_S} seconds")
        self.implementation = choose_implementation(pump)
        self._waiter = make_waiter(waiter, poller, self.implementation, spin_s)
        self._clock = clock or time.monotonic
        self.timers = Timers(self._clock)
        self._waker = Waker()
        self._waiter.add(self._waker.fileno(), self._waker.drain_waker)
        self.calls = Calls(self._waker, self._work_marker)
        """Passes calls from other threads on to the thread that runs the loop. Any thread may use it."""
        self._ready: list[Hub] = []
        self._bursts = Bursts(self._ready, burst_messages, burst_bytes, _LONGEST_WORK_S, self._clock, self._finish)
        self._message_turns = self._waiter.make_message_turns(self._bursts)
        self.readers = Readers(self._waiter, self.implementation, engine_id=self._ready)
        self._wake_hub = self._wake  # one bound method for all hubs
        self._turns = 0
        self.events = EventSource()
        """Who listens to events."""
        self._wire: WireContext | None = None
        self.wire_streams: Streams | None = None
        """Opens the streams of wire ports, if it was set before the first of them: simulated ones. By default they are
        the kernel's."""
        self._context = context
        self.context_end = ContextEnd(context, self._waiter.add, self._waiter.remove, end_those_at_the_wire)
        """Notices that the context is being terminated."""
        self.access = LoopAccess(
            self._ready,
            self._watch,
            self._unwatch,
            self.timers.add,
            self.calls.put,
            self._clock,
            self._wire_context,
            self.events,
            Monitors(self.readers, self.events, brokers, self.calls.put, self._clock),
        )
        """The part of the loop that brokers use."""
        self.on_idle: list[Callable[[], object]] = []
        """Functions that are called at the end of each turn that leaves no broker with work."""
        self._all_brokers_ended = all_brokers_ended
        self.stop_called = False
        """True after `stop` was called, until `run` has ended because of it."""
        self.ran_out_of_work = False
        """True if the last `run` returned because nothing was left to do."""

    # -- driving the loop: from any thread ----------------------------------------------------------------------------

    def run(self) -> None:
        """See `Engine.run`. The lock is held from beginning to end."""
        self.calls.check_usable()
        with self.calls.running_loop():
            self.ran_out_of_work = False
            try:
                with signal_handling(self._waker, self.stop):
                    self._turn(0 if self.stopping else None)
                    while not (self.stop_called or self._is_out_of_work()):
                        self._turn(None, only_one=False)
                self.ran_out_of_work = not self.stop_called
            finally:
                self.stop_called = False

    def stop(self) -> None:
        """See `Engine.stop`. This only sets a flag and wakes the loop, so that a signal handler may call it."""
        if self.calls.closed:
            return
        self.calls.check_usable()
        self.stop_called = True
        self._waker.wake()

    @property
    def stopping(self) -> bool:
        """See `Engine.stopping`."""
        return self.stop_called or self._is_out_of_work()

    def step(self, timeout_s: float | None) -> bool:
        """See `Engine.step`. The lock is held for this one turn."""
        if timeout_s is not None:
            check_delay(timeout_s)
        self.calls.check_may_turn()
        self.calls.check_not_running()
        with self.calls.lock:
            self.calls.check_may_turn()
            if self.calls.in_own_turn():
                raise EngineError("step() was called from within a turn of the loop")
            self._turn(None if timeout_s is None else _sleep_of(timeout_s))
            more = bool(self._ready or self.readers.ready)
            if more:
                self._waker.wake()
            return more

    def fileno(self) -> int:
        """See `Engine.fileno`. The descriptor is the waiter's."""
        self.calls.check_usable()
        return self._waiter.fileno()

    def next_timer_s(self) -> float | None:
        """See `Engine.next_timer_s`. If work is left over, this is 0.0."""
        self.calls.check_usable()
        if self._ready or self.readers.ready:
            return 0.0
        if not self.timers:  # as a rule; a program with a loop of its own asks after each turn
            return None
        next_s = self.calls.call(self.timers.next_s)
        return None if next_s is None else min(next_s, _LONGEST_SLEEP_S)

    def wait_for(self, future: Future[Any]) -> None:
        """Wait until a turn resolves the future. While no thread runs the loop, the calling thread makes the turns."""
        self.calls.wait(future, partial(self._turn, _WAITING_TURN_MS))

    @property
    def turns(self) -> int:
        """How many turns were made."""
        return self._turns + (0 if self._message_turns is None else self._message_turns.made)

    @property
    def waiter_name(self) -> str:
        """`nested` or `flat`."""
        return self._waiter.name

    def close(self) -> None:
        """Close every descriptor, whatever a listener or a call raises. The caller holds the lock, and no broker is
        left."""
        with ExitStack() as then:  # from the last one up
            then.callback(self._waker.close)
            then.callback(self.calls.close)
            then.callback(self._close_waiter)
            self.events.close()

    def _close_waiter(self) -> None:
        """Watch nothing any more."""
        self.readers.remove_all()
        self._waiter.remove(self._waker.fileno())
        if self._wire is not None:
            self._waiter.remove(self._wire.net.fileno())
            self._wire.close()
        self.context_end.close()
        self._waiter.close()

    # -- a turn -------------------------------------------------------------------------------------------------------

    def _turn(self, timeout_ms: int | None, *, only_one: bool = True) -> None:
        """Make a turn. If there is not to be `only_one`, others come before it in which messages are moved and nothing
        else is to be done."""
        self._turns += 1
        wakes = self._wait(self._until_timer_ms(timeout_ms), only_one)
        self.calls.begin_turn()
        try:
            worked: list[Hub] = []
            if wakes is not None:
                for wake in wakes:
                    wake()
                if self.readers.ready:
                    self.readers.serve()
                if self._ready:
                    worked = self._work()
            calls = self.calls.pending()  # a call that a timer queues is left for the next turn
            self.timers.run_due(run_handle)
            if calls:
                self.calls.run(calls)
            if self._wire is not None:
                self._wire.net.flush()
            if self._waiter.needs_interest:
                self._waiter.update((*worked, *self._ready))
            if self._wire is not None:
                self.events.tell()
            if self.on_idle and not self._ready:
                for call in self.on_idle.copy():
                    call()
        except BaseException:
            self._waker.wake()  # such as KeyboardInterrupt: nothing else may bring about the turn for what is left
            raise
        finally:
            self.calls.end_turn()

    def _wait(self, timeout_ms: int | None, only_one: bool) -> list[Wake] | None:
        """Wait, and return what is to be called then. None if the hubs have worked since, and nothing else is to be
        done before the end of the turn."""
        try:
            if self._message_turns is None or self.readers.ready or self.on_idle or self._waiter.has_wakes:
                return self._waiter.wait(0 if self._ready or self.readers.ready else timeout_ms)
            return self._message_turns.make(timeout_ms, only_one)
        except BaseException:
            self._waker.wake()  # as in a turn
            raise

    def _finish(self, call: Callable[[Any], object], argument: Any) -> None:
        """Make a call that a hub leaves to its owner, as in a turn."""
        self.calls.begin_turn()
        try:
            call(argument)
        finally:
            self.calls.end_turn()

    def _work(self) -> list[Hub]:
        """Let each ready hub move messages, one burst for each direction. Return the hubs.

        The bursts of a turn have a time limit, so that many busy brokers do not keep control and timers waiting. Hubs
        that had no burst because of it come first in the next turn.
        """
        bursts = self._bursts
        now_s = self._clock()
        end_s = now_s + bursts.longest_s
        ready = self._ready.copy()
        worked = 0
        try:
            for hub in ready:
                worked += 1
                try:
                    flags = hub.work(bursts.messages, bursts.size, now_s)
                    if flags:
                        hub.owner.carry_out(flags)
                except Exception as error:  # noqa: BLE001 - any error ends this one broker
                    hub.owner.fail(error)
                now_s = self._clock()
                if now_s >= end_s:
                    break
        except BaseException:
            # After a KeyboardInterrupt, say, another `run` begins with the hub that was interrupted.
            worked = max(0, worked - 1)
            raise
        finally:
            del self._ready[:worked]  # those that have work again are behind the others
        return ready

    def _is_out_of_work(self) -> bool:
        """Return True if nothing is left to do, and no broker, reader, timer or call can bring new work."""
        return (
            not self._ready
            and self._all_brokers_ended()
            and not (self.readers or self.calls.pending() or self.timers.has_any())
        )

    def _until_timer_ms(self, limit_ms: int | None) -> int | None:
        """How long a sleep may last, for the timers. None if it has no limit."""
        next_s = self.timers.next_s()
        if next_s is None:
            return limit_ms
        next_ms = _sleep_of(next_s)
        return next_ms if limit_ms is None else min(next_ms, limit_ms)

    def _work_marker(self) -> tuple[object, ...]:
        """A tuple that changes whenever work was added, or the last of it is gone; see `Calls`."""
        return bool(self._ready), bool(self.readers.ready), self._is_out_of_work(), self.timers.first()

    # -- brokers in the loop ------------------------------------------------------------------------------------------

    def _watch(self, hub: Hub, port_index: int, port: WorkingPort) -> None:
        """Have `hub.wake` called when something happens at this port."""
        on_ready = hub.on_ready(port_index, self._wake_hub)
        if port.wire is not None:
            port.wire.on_ready = on_ready
        else:
            self._waiter.add_port(port.sync_socket, hub, port_index, on_ready)

    def _unwatch(self, port: WorkingPort) -> None:
        if port.wire is not None:
            port.wire.on_ready = None
        else:
            self._waiter.remove(port.sync_socket)

    def _wire_context(self) -> "WireContext":
        """The wire of this loop. Its epoll set is watched like any descriptor."""
        if self._wire is None:
            from pollbroker.wire.context import WireContext  # it may not have been built
            from pollbroker.wire.zap import Authentication

            waiter = self._waiter
            authentication = Authentication(self._context, waiter.add, waiter.remove, self.calls.put)
            self._wire = WireContext(self.access, authentication, self.events, self.context_end.need, self.wire_streams)
            self._waiter.add(self._wire.net.fileno(), self._wire.serve)
            if self._message_turns is not None:
                self._message_turns.watch_net(self._wire.net)
        return self._wire

    def _wake(self, hub: Hub, port_index: int) -> None:
        """Tell a hub that something has happened at one of its ports, and do what the hub leaves to its owner."""
        try:
            flags = hub.wake(port_index)
            if flags:
                hub.owner.carry_out(flags)
        except Exception as error:  # noqa: BLE001 - any error ends this one broker
            hub.owner.fail(error)


def _sleep_of(seconds: float) -> int:
    """The milliseconds of a sleep until a time. If that is over, there is none: poll(2) would take it for no limit."""
    return math.ceil(min(max(seconds, 0.0), _LONGEST_SLEEP_S) * 1000)
