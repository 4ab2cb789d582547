"""The engine: a table of brokers on a loop."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import zmq

from pollbroker.broker import Broker
from pollbroker.calls import run_handle
from pollbroker.device import Device, Options
from pollbroker.endpoint import Endpoints
from pollbroker.errors import EndpointError, EngineError, describe_error
from pollbroker.frozen import FrozenDict
from pollbroker.loop import Loop
from pollbroker.opening import ADDRESS_RELEASE_S, Prefixes, device_between, make_plan, parse_prefixes, roomy_context
from pollbroker.pump import Socket
from pollbroker.standard_devices import find_device
from pollbroker.statistics import BrokerStatistics, EngineStatistics
from pollbroker.table import Table
from pollbroker.timers import Handle, check_delay
from pollbroker.waiting import Poller
from pollbroker.working import WorkingBroker

_logger = logging.getLogger("pollbroker")

TERM_S: Final = 5.0
"""How long `close` waits for its context. Its own sockets linger for a second, unless their options say otherwise."""


class Engine(Loop):
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
        super().__init__(
            poller=poller,
            clock=clock,
            burst_messages=burst_messages,
            burst_bytes=burst_bytes,
            spin_s=spin_s,
            pump=pump,
            waiter=waiter,
        )
        self.context: zmq.Context[Any] = roomy_context() if context is None else context
        """Where `add` opens sockets."""
        self._owns_context = context is None
        self._table = Table(self.context, self._implementation, self._loop_access)
        self._drains: dict[Future[tuple[str, ...]], WorkingBroker | None] = {}
        self._at_close: list[Handle] = []
        self._thread: threading.Thread | None = None
        self._ended_by: BaseException | None = None
        """What ended the engine's own thread, if it was not told to end."""
        self._beginning_or_end = threading.RLock()
        self._ending = False

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
                self._go_on()
                return Broker(self, working)
            except EndpointError as error:
                may_wait = not self._calls.in_own_turn() and time.monotonic() < give_up_s
                if not (may_wait and self._table.released.explain(error)):
                    raise
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
        self._go_on()
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
        self._calls.wait(removed, partial(self._turn, 10))
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
        drained = self._calls.call(self._begin_drain, timeout_s, broker)
        self._calls.wait(drained, partial(self._turn, 10))
        return drained.result()

    def _begin_drain(self, timeout_s: float, which: str | Broker | None) -> Future[tuple[str, ...]]:
        check_delay(timeout_s)
        one = None if which is None else self._table.known(which)
        drained: Future[tuple[str, ...]] = Future()
        self._drains[drained] = one
        for broker in self._drained_by(one):
            broker.look_again()
        self._timers.add(timeout_s, partial(self._end_drain, drained))
        return drained

    def _drained_by(self, one: WorkingBroker | None) -> Iterable[WorkingBroker]:
        return self._table if one is None else (one,)

    def _end_drain(self, drained: Future[tuple[str, ...]]) -> None:
        if drained in self._drains:
            brokers = self._drained_by(self._drains.pop(drained))
            drained.set_result(tuple(broker.name for broker in brokers if not broker.idle))

    def _end_turn(self) -> None:
        if self._drains and not self._ready:
            for drained, one in list(self._drains.items()):
                if all(broker.idle for broker in self._drained_by(one)):
                    self._end_drain(drained)

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
            pump=self._implementation.name,
            waiter=self._waiter.name,
            turns=self._turns,
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
        self._calls.check_usable()
        with self._beginning_or_end:
            self._check_not_running()
            if self._thread is not None and self._thread.is_alive() and not self._stopping and not self._ran_out:
                raise EngineError("the engine is running already")
            self._start_thread()

    def _start_thread(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._ended_by = None
        self._thread = threading.Thread(target=self._run_in_thread, name="pollbroker", daemon=True)
        self._thread.start()

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except BaseException as error:  # nobody is above this thread: the log tells, and `close`
            self._ended_by = error
            _logger.critical("the engine's thread was ended by %s", describe_error(error), exc_info=error)

    def _go_on(self) -> None:
        """After a broker was added: a thread that returned since nothing was left to do runs again."""
        if self._ran_out and self._thread is not None and not self._calls.in_own_turn():
            with self._beginning_or_end:
                if self._ran_out and not (self._calls.running or self._calls.closed or self._ending):
                    self._start_thread()

    def _is_over(self) -> bool:
        return self._table.is_dead and super()._is_over()

    def on_close(self, callback: Callable[[], Any]) -> Handle:
        """Have it called when the engine closes: whoever attached a socket closes it there. Returns its handle."""
        return self._calls.call(self._on_close, callback)

    def _on_close(self, callback: Callable[[], Any]) -> Handle:
        handle = Handle(0.0, callback)
        self._at_close = [*(one for one in self._at_close if not one.cancelled()), handle]
        return handle

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Stop, remove every broker (see `remove` for the time limit), and give everything back that is the engine's.

        A context of the engine's own is terminated, which waits for what its sockets had accepted, at most as long as
        their `linger`. If sockets that others opened in it are open still, that is left behind with a warning, and ends
        when they are closed. Closing again does nothing.

        Raises `EngineError` if called from within a turn of the loop; and, when everything is closed, if the engine's
        own thread was ended by a `SystemExit` or `KeyboardInterrupt` of a handler, a timer, a reader or a call.
        """
        if self._calls.closed:
            return
        self._calls.check_usable()
        if self._calls.in_own_turn():
            raise EngineError("close() was called from within a turn of the loop; call stop() there")
        with self._beginning_or_end:
            if not self._ending:
                self._ending = True
                try:
                    self._end(timeout_s)
                finally:
                    self._ending = self._calls.closed  # if Ctrl-C came between, it can be called again
            ended_by, self._ended_by = self._ended_by, None
        if ended_by is not None:
            raise EngineError(f"the engine's thread was ended by {describe_error(ended_by)}") from ended_by

    def _end(self, timeout_s: float) -> None:
        removals = self._calls.call(self._table.begin_removing_all, timeout_s)
        for broker in removals:
            self._calls.wait(broker.removed, partial(self._turn, 10))
        if self._calls.running or (self._thread is not None and self._thread.is_alive()):
            self.stop()
        if self._thread is not None:
            self._thread.join()
        with self._calls.lock:
            self._close()
        for broker in removals:
            lost = sum(flow.held + flow.unread for flow in broker.removed.result().flows.values())
            if lost:
                _logger.warning("brokers.%s: closed with %d messages undelivered", broker.name, lost)

    def _close(self) -> None:
        for broker in self._table.begin_removing_all(0.0):
            broker.end_removal()  # added by others meanwhile
        for handle in self._at_close:
            run_handle(handle)
        self._readers.remove_all()
        self._waiter.remove(self._calls.fileno())
        self._waiter.close()
        self._calls.close()
        if self._owns_context:
            term = threading.Thread(target=self.context.term, name="pollbroker-term", daemon=True)
            term.start()
            term.join(TERM_S)
            if term.is_alive():
                _logger.warning(
                    "the engine's context is left behind: sockets of others are open in it, or its own still send"
                )

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

    def __repr__(self) -> str:
        doing = "closed" if self.closed else "running" if self.running else "not running"
        count = len(self._table)
        brokers = f"{count} broker{'' if count == 1 else 's'}"
        return f"<Engine {doing}, {brokers}, {self._implementation.name} pump, {self._waiter.name} waiter>"
