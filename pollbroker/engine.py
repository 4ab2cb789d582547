"""The engine: every public method in one file.

An `Engine` holds a loop, a table of brokers, and a thread of its own if it is to have one. Its methods may be called
from any thread: what they do to brokers, timers and readers is carried over to the thread that runs the loop.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self

import zmq

from pollbroker.broker import Broker
from pollbroker.closing import Closing
from pollbroker.device import Device, Options
from pollbroker.drains import Drains
from pollbroker.endpoint import Endpoints
from pollbroker.errors import EndpointError, EngineError
from pollbroker.frozen import FrozenDict
from pollbroker.loop import Loop
from pollbroker.opening import ADDRESS_RELEASE_S, Prefixes, device_between, make_context, make_plan, parse_prefixes
from pollbroker.pump import Socket
from pollbroker.standard_devices import find_device
from pollbroker.statistics import BrokerStatistics, EngineStatistics
from pollbroker.table import Table
from pollbroker.thread import EngineThread
from pollbroker.timers import Handle
from pollbroker.waiting import Poller


class Engine:
    """Runs any number of brokers in one thread.

    Arguments:
        context: where `add` opens sockets; by default a context of the engine's own, which allows as many sockets as
            the process may open descriptors, and which `close` terminates.
        poller: a `zmq.Poller`, or what looks like one (`zmq.green.Poller()` makes the engine cooperative under gevent).
        clock: seconds, monotonic; `time.monotonic` by default.
        burst_messages, burst_bytes: the most that one direction of one broker moves in one turn. Larger bursts cost
            less for each message; smaller ones let the other brokers, and control, have their turn sooner.
        spin_s: how long to look for more, up to 0.01 s, before falling asleep. 0.0001 takes the kernel's wake-ups out
            of a round trip, and costs CPU time while there is traffic; idle, the engine sleeps all the same. A `poller`
            that is handed in to a nested waiter is asked without spinning.
        pump: "native" or "python"; by default as POLLBROKER_PUMP says, else the native one if it was built.
        waiter: "nested" or "flat"; by default as POLLBROKER_WAITER says, else nested where the platform has it.

    Use it as `with Engine() as engine:`, which runs it in a thread of its own; or call `run()` in this thread, or drive
    it with `step()`, and `close()` it in the end (`with contextlib.closing(Engine()) as engine:`). Every method may be
    called from any thread. After `fork` the child can do nothing with it: `EngineError`.

    Raises `ConfigError` if an argument, or one of the two environment variables, is unfit.
    """

    def __init__(
        self,
        context: zmq.Context[Any] | None = None,
        *,
        poller: Poller | None = None,
        clock: Callable[[], float] | None = None,
        burst_messages: int = 1000,
        burst_bytes: int = 1 << 20,
        spin_s: float = 0.0,
        pump: str | None = None,
        waiter: str | None = None,
    ) -> None:
        self._loop = Loop(
            poller=poller,
            clock=clock,
            burst_messages=burst_messages,
            burst_bytes=burst_bytes,
            spin_s=spin_s,
            pump=pump,
            waiter=waiter,
            all_brokers_ended=lambda: self._table.all_ended,
        )
        self._calls = self._loop.calls
        self.context: zmq.Context[Any] = make_context() if context is None else context
        """Where `add` opens sockets."""
        self._table = Table(self.context, self._loop.implementation, self._loop.access)
        self._drains = Drains(self._table, self._loop)
        self._thread = EngineThread(self._loop, self.run)
        self._closing = Closing(self._loop, self._table, self._thread, self.context if context is None else None)

    # -- brokers ------------------------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        device: Device | str,
        *,
        frontend: Endpoints | None = None,
        backend: Endpoints | None = None,
        capture: Endpoints | None = None,
        options: Mapping[str, Options] | None = None,
        frontend_options: Options | None = None,
        backend_options: Options | None = None,
        capture_options: Options | None = None,
        capture_type: int = zmq.PUB,
        capture_prefixes: Prefixes | None = None,
        **more_ports: Endpoints,
    ) -> Broker:
        """Start a broker on sockets that the engine opens and owns; returns it with its endpoints bound.

        Arguments:
            name: unique in this engine.
            device: a `Device`, or its name in `DEVICES`.
            frontend, backend, more_ports: endpoints of each port that the device has, by the port's name; one or
                several (a list, or with commas): `@tcp://...` or without a mark is bound, `>tcp://...` connected.
            capture: endpoints of a socket that is given a copy of every message that is sent on.
            options: by port, socket options by name, such as `{"frontend": {"sndhwm": 5000}}`.
            frontend_options, backend_options, capture_options: the same in short, for these three.
            capture_type: PUB, PUSH, DEALER or PAIR.
            capture_prefixes: frames, of which one precedes each captured message: by the port that the message came
                from; or a tuple of two, for the frontend and for the backend.

        An address that a broker of this process released a moment ago may be in use still. `add` tries it again for up
        to 5 seconds, and sleeps in between with `time.sleep`, which gevent can replace. Within a turn of the loop, and
        where an asyncio loop runs in the calling thread, it does not sleep: it raises `EndpointError` at once, and the
        message says that the address may be had again soon.

        Raises `DeviceError`, `EndpointError`, `ConfigError`, or `EngineError` (the name is taken, no socket is left).
        """
        found = find_device(device)
        prefixes = parse_prefixes(name, found, capture_prefixes)
        short = {"frontend": frontend_options, "backend": backend_options, "capture": capture_options}
        plan = make_plan(
            name,
            found,
            {"frontend": frontend, "backend": backend, **more_ports, "capture": capture},
            dict(options or {}) | {port: asked for port, asked in short.items() if asked is not None},
            capture_type,
        )
        give_up_s = time.monotonic() + ADDRESS_RELEASE_S
        while True:
            try:
                working = self._calls.call(self._table.add, name, found, plan, prefixes)
                self._thread.restart_if_out_of_work()
                return Broker(self, working)
            except EndpointError as error:
                if not self._table.released.explain(error) or time.monotonic() >= give_up_s:
                    raise
                if not self._calls.may_sleep():
                    raise _released_just_now(error) from error.__cause__
            time.sleep(0.001)

    def register(
        self,
        frontend: Socket | None = None,
        backend: Socket | None = None,
        device: Device | str | None = None,
        *,
        name: str | None = None,
        capture: Socket | None = None,
        capture_prefixes: Prefixes | None = None,
        **more_ports: Socket,
    ) -> Broker:
        """Start a broker on the caller's sockets, which stay the caller's: never closed, no option touched.

        Until the broker is removed only the engine may use them. Without a `device` it is what `zmq.proxy` would be
        between these sockets: whatever either can receive goes to the other, if that can send. A device with one socket
        takes it as `frontend`, with None, or the same socket, as `backend`. A device with other ports takes their
        sockets by the ports' names. Without a `name` the broker is called after its device, with a number. For
        `capture` and `capture_prefixes` see `add`.

        Raises `DeviceError` (a socket of the wrong type, or two between which nothing can pass) or `EngineError` (the
        name is taken, a socket is closed or registered already).
        """
        sockets = {"frontend": frontend, "backend": backend, **more_ports, "capture": capture}
        found = None if device is None else find_device(device)
        if backend is frontend and (found is None or "backend" not in found.ports):
            sockets["backend"] = None
        found = found or device_between(name, sockets)
        prefixes = parse_prefixes(name, found, capture_prefixes)
        working = self._calls.call(self._table.register, name, found, sockets, prefixes)
        self._thread.restart_if_out_of_work()
        return Broker(self, working)

    def remove(self, broker: str | Broker, *, timeout_s: float = 1.0) -> BrokerStatistics:
        """End a broker, and return its final statistics: what a flow still held is a message that was not delivered.

        It takes nothing more, and for up to `timeout_s` goes on offering what it holds. Then the sockets that the
        engine opened are closed; what libzmq had accepted on them is sent on for as long as their `linger` allows. The
        caller's own sockets are the caller's again. The other brokers go on meanwhile.

        From within a turn of the loop (a reader, a timer) there is no waiting: what it holds is offered once.

        Raises `EngineError` if there is no such broker, or if its own handler calls this.
        """
        if self._calls.in_own_turn():
            return self._calls.call(self._table.remove_at_once, broker).removed.result()
        removed = self._calls.call(self._table.begin_removal, broker, timeout_s).removed
        self._loop.wait_for(removed)
        return removed.result()

    def pause(self, broker: str | Broker) -> None:
        """Move nothing in this broker, in either direction, until `resume`; a message that it holds stays held.

        Raises `EngineError` if there is no such broker, if it has ended, or if its own handler calls this.
        """
        self._calls.call(self._table.pause, broker)

    def resume(self, broker: str | Broker) -> None:
        """Move again. Raises as `pause`."""
        self._calls.call(self._table.resume, broker)

    def drain(self, timeout_s: float = 5.0, *, broker: str | Broker | None = None) -> tuple[str, ...]:
        """Wait until no broker, or not this one, holds a message or has one to read; the names of those that still had
        after `timeout_s`.

        What is still on its way in the network does not show: stop the producers first. A paused broker cannot be
        drained, so it is among the names.

        Raises `EngineError` if there is no such broker, or if called from within a turn of the loop.
        """
        if self._calls.in_own_turn():
            raise EngineError("drain() was called from within a turn of the loop, which it would wait for")
        drained = self._calls.call(self._drains.begin, timeout_s, broker)
        self._loop.wait_for(drained)
        return drained.result()

    @property
    def brokers(self) -> Mapping[str, Broker]:
        """The brokers by name, as they are now; those that have failed or ended too, until they are removed."""
        return FrozenDict({name: Broker(self, working) for name, working in self._table.snapshot().items()})

    def statistics(self) -> EngineStatistics:
        """A frozen snapshot of every broker, each direction."""
        return self._calls.call(self._statistics)

    def broker_statistics(self, broker: str | Broker) -> BrokerStatistics:
        """A frozen snapshot of one broker. Raises `EngineError` if there is no such broker."""
        return self._calls.call(self._table.statistics, broker)

    def _statistics(self) -> EngineStatistics:
        return EngineStatistics(
            pump=self._loop.implementation.name,
            waiter=self._loop.waiter_name,
            turns=self._loop.turns,
            brokers=FrozenDict({name: self._table.statistics(name) for name in self._table.snapshot()}),
        )

    # -- beginning and end --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run in a thread of its own, until `stop()` or `close()`, or until nothing is left to do (see `run`).

        If it returned since nothing was left to do, it runs again as soon as a broker is added. A `SystemExit` or
        `KeyboardInterrupt` that a handler, a timer, a reader or a call raises ends the thread: that is logged, and
        `close` raises `EngineError` from it.

        Raises `EngineError` if it runs already.
        """
        self._thread.start()

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
        self._loop.run()

    def stop(self) -> None:
        """Make `run` return after its present turn, or after its first if it has yet to begin.

        Nothing is lost by it: brokers keep their messages, and another `run` goes on. Signal handlers may call it. On a
        closed engine it does nothing.
        """
        self._loop.stop()

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Stop, remove every broker (see `remove` for the time limit), and give everything back that is the engine's.

        A context of the engine's own is terminated, which waits for what its sockets had accepted, at most as long as
        their `linger`. If sockets that others opened in it are open still, that is left behind with a warning, and ends
        when they are closed. Closing again does nothing.

        Raises `EngineError` if called from within a turn of the loop; and, when everything is closed, if the engine's
        own thread was ended by a `SystemExit` or `KeyboardInterrupt` of a handler, a timer, a reader or a call.
        """
        self._closing.close(timeout_s)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except EngineError:
            if error is None or not self.closed:
                raise  # else the block has an error of its own to tell, and this one is in the log

    @property
    def running(self) -> bool:
        """Whether a thread is in `run`, or about to be."""
        return self._calls.running

    @property
    def stopping(self) -> bool:
        """Whether `run` would return: `stop` was called and no `run` has ended for it yet, or nothing is left to do
        (see `run`). Whoever drives the engine by `step` may want to end."""
        return self._loop.stopping

    @property
    def closed(self) -> bool:
        """Whether it was closed: nothing can be done with it any more."""
        return self._calls.closed

    # -- in a program with a loop of its own --------------------------------------------------------------------------

    def step(self, timeout_s: float | None = 0.0) -> bool:
        """Make one turn, sleeping at most that many seconds (None: without end) for something to do.

        For programs with a loop of their own: call it when `fileno()` is readable, and when `next_timer_s()` is over.
        Returns whether there is more to do at once; `fileno()` is readable then.

        Raises `EngineError` if `run` is at it already, or if called from within a turn.
        """
        return self._loop.step(timeout_s)

    def fileno(self) -> int:
        """A descriptor that is readable when `step()` has something to do, timers aside.

        Raises `EngineError` for a flat waiter, which has none.
        """
        return self._loop.fileno()

    def next_timer_s(self) -> float | None:
        """Seconds until `step()` has something to do for a timer (0.0: at once), or None."""
        return self._loop.next_timer_s()

    # -- timers, readers and calls ------------------------------------------------------------------------------------

    def call_later(self, delay_s: float, fn: Callable[..., Any], *args: Any) -> Handle:
        """Have `fn(*args)` called in the engine's thread after that many seconds; returns its handle."""
        return self._calls.call(self._loop.timers.add, delay_s, partial(fn, *args))

    def call_soon_threadsafe(self, fn: Callable[..., Any], *args: Any) -> Handle:
        """Have `fn(*args)` called in the engine's thread, in the next turn; returns at once, with its handle."""
        self._calls.check_usable()
        return self._calls.put(partial(fn, *args))

    def add_reader(self, target: Socket | int, callback: Callable[..., Any], *args: Any) -> None:
        """Have `callback(*args)` called, once a turn, as long as a socket or a descriptor has something to read.

        As `asyncio.loop.add_reader`: a second callback for one target takes the place of the first. What it raises is
        logged. The socket stays the caller's; close it only after `remove_reader`.

        Raises `EngineError` for a socket that a broker has.
        """
        self._calls.call(self._loop.readers.add, target, partial(callback, *args))

    def remove_reader(self, target: Socket | int) -> bool:
        """Stop watching `target`. Return True if it was being watched."""
        return self._calls.call(self._loop.readers.remove, target)

    def on_close(self, callback: Callable[[], Any]) -> Handle:
        """Have it called when the engine closes: whoever attached a socket closes it there. Returns its handle."""
        return self._calls.call(self._closing.add, callback)

    def __repr__(self) -> str:
        doing = "closed" if self.closed else "running" if self.running else "not running"
        count = len(self._table)
        brokers = f"{count} broker{'' if count == 1 else 's'}"
        return f"<Engine {doing}, {brokers}, {self._loop.implementation.name} pump, {self._loop.waiter_name} waiter>"


def engine_loop(engine: Engine) -> Loop:
    """The loop that an engine holds: for tests, which look at what the engine's thread alone may touch."""
    return engine._loop


def _released_just_now(error: EndpointError) -> EndpointError:
    """The error that an address is in use, which says that this may pass by itself."""
    told = EndpointError(f"{error}: it was released a moment ago, and may be had again soon")
    told.address = error.address
    return told
