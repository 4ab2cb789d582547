"""The engine: its brokers. What makes it run is in `running.py`, what it tells of itself in `observing.py`, and how
brokers move to another process in `moving.py`.

An `Engine` has a loop, a table of brokers, and, after `start`, a thread of its own. Its methods may be called from any
thread: whatever changes brokers, timers or readers is passed on to the thread that runs the loop.
"""

import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

import zmq

from pollbroker.broker import Broker
from pollbroker.closing import Closing
from pollbroker.device import Device, Options
from pollbroker.drains import Drains
from pollbroker.endpoint import Endpoints
from pollbroker.engine.moving import Moving
from pollbroker.engine.observing import Observing
from pollbroker.errors import ConfigError, EndpointError, EngineError
from pollbroker.frozen import FrozenDict
from pollbroker.handing_over import AmidMessageError, Replacing
from pollbroker.limits import Limits
from pollbroker.loop import Loop
from pollbroker.opening import ADDRESS_RELEASE_S, Prefixes, device_between, make_context, make_plan, parse_prefixes
from pollbroker.portions import Portions
from pollbroker.pump import Socket
from pollbroker.standard_devices import find_device
from pollbroker.statistics import BrokerStatistics
from pollbroker.table import Table
from pollbroker.thread import EngineThread
from pollbroker.waiting import Poller


class Engine(Moving, Observing):
    """Runs any number of brokers in one thread.

    Arguments:
        context: the context in which `add` opens sockets of libzmq. By default the engine makes one, which allows as
            many sockets as the process may open descriptors, and which `close` terminates. Ports of the wire are not in
            it, but they end with it, too, if the program has it: from here, or by the attribute `context`.
        poller: a `zmq.Poller`, or an object with the same methods (`zmq.green.Poller()` makes the engine cooperative
            under gevent).
        clock: a function that returns the time in seconds and never goes back; by default `time.monotonic`.
        burst_messages, burst_bytes: the most that one direction of one broker moves in one turn. Larger bursts cost
            less for each message; with smaller ones the other brokers, and control, wait less.
        spin_s: how long, up to 0.01 s, the engine asks again and again for something to do before it falls asleep.
            With 0.0001 a round trip needs no wake-up by the kernel; this costs CPU time while there is traffic. An idle
            engine sleeps all the same. A nested waiter does not spin on a `poller` that is handed in.
        pump: "native" or "python". By default the environment variable POLLBROKER_PUMP decides; if it is not set, the
            native pump is used if it was built. Ports of the wire have native code of their own.
        waiter: "nested" or "flat". By default the environment variable POLLBROKER_WAITER decides; if it is not set,
            the nested waiter is used if the platform has it.

    `with Engine() as engine:` runs the engine in a thread of its own, and closes it at the end of the block. Otherwise
    call `run()` or `step()` in a thread of the program, and `close()` in the end (`with contextlib.closing(Engine()) as
    engine:`). Every method may be called from any thread. In a process that was forked from the engine's, every method
    raises `EngineError`.

    Raises `ConfigError` if an argument, or one of the two environment variables, has an unknown or unfit value.
    """

    _thread_type: type[EngineThread] = EngineThread
    """What `start` begins. `pollbroker.gevent` has a greenlet in its place."""

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
            brokers=lambda: self._table.snapshot().values(),
            context=lambda: self._context,
            end_those_at_the_wire=lambda: self._table.end_those_at_the_wire(),
        )
        self._calls = self._loop.calls
        self._context: zmq.Context[Any] = make_context() if context is None else context
        self._loop.context_end.is_shared = context is not None
        self._table = Table(self._context, self._loop.implementation, self._loop.access)
        self._drains = Drains(self._table, self._loop)
        self._replacing = Replacing(self._table, self._loop.access)
        self._portions = Portions(self._table, self._loop, partial(Broker, self))
        self._thread = self._thread_type(self._loop, self.run)
        owned = self._context if context is None else None
        self._closing = Closing(self._loop, self._table, self._drains, self._portions, self._thread, owned)

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
        transport: str | None = None,
        limits: Limits | None = None,
        earlier: BrokerStatistics | None = None,
        replaces: str | Broker | None = None,
        **more_ports: Endpoints,
    ) -> Broker:
        """Start a broker on sockets that the engine opens and owns. Return its handle when its endpoints are bound.

        Arguments:
            name: unique in this engine.
            device: a `Device`, or its name in `DEVICES`.
            frontend, backend, more_ports: the endpoints of each port of the device, by the port's name. A port may have
                several (a list, or separated by commas). `tcp://...` and `@tcp://...` are bound, `>tcp://...` is
                connected.
            capture: endpoints of a socket that is given a copy of every message that is sent on.
            options: for each port by its name, socket options by name: `{"frontend": {"sndhwm": 5000}}`.
            frontend_options, backend_options, capture_options: a short form of `options` for these three ports.
            capture_type: PUB, PUSH, DEALER or PAIR.
            capture_prefixes: frames that precede captured messages, by the name of the port that a message came from;
                or a tuple of two frames, for the frontend and the backend.
            transport: what serves the ports: "libzmq"; "wire", which speaks ZMTP itself, without libzmq, at `tcp://`
                and `ipc://`; or "auto". By default the environment variable POLLBROKER_TRANSPORT decides; if it is not
                set, "auto": the wire for each port that it can serve, and libzmq for the others.
            limits: for the peers of each port. Only the wire has them.
            earlier: the final statistics of a broker that this one follows. The counters of its flows and ports go on.
            replaces: a broker whose place this one takes, and whose name it may have, with its listeners, its
                connections, and all that it holds or has yet to read: nothing is lost, and no peer notices. Its
                counters go on, too, and it ends. Both have the same ports at the wire with the same endpoints, and the
                same routes between them; they may differ in handlers (one may be added, and not be taken away), limits
                and other options than `routing_id`, those of security, and those of the streams (`sndbuf`,
                `tcp_keepalive`, ...). A behaviour, or a coroutine handler, cannot be replaced so. A handler that is
                amid a message is waited for, up to 5 seconds.

        An address that a broker of this process released a moment ago may still be in use. `add` tries it again for up
        to 5 seconds, and sleeps in between. Within a turn of the loop, and where a loop of asyncio or trio runs in the
        calling thread, it does not sleep: it raises `EndpointError` at once, and the message says that the address may
        soon be free again.

        Raises `DeviceError`, `EndpointError`, `ConfigError`, or `EngineError` (the name is taken, no socket is left).
        With `replaces` also `ConfigError` if the two brokers differ in something else, and `HandOverError` if the
        connections cannot be taken over; the other broker goes on then.
        """
        if earlier is not None and not isinstance(earlier, BrokerStatistics):
            raise ConfigError(f"brokers.{name}.earlier: {earlier!r}: expected the BrokerStatistics of another broker")
        if earlier is not None and replaces is not None:
            raise ConfigError(f"brokers.{name}: earlier: the counters go on with replaces; expected one of the two")
        found = find_device(device)
        prefixes = parse_prefixes(name, found, capture_prefixes)
        short = {"frontend": frontend_options, "backend": backend_options, "capture": capture_options}
        plan = make_plan(
            name,
            found,
            {"frontend": frontend, "backend": backend, **more_ports, "capture": capture},
            dict(options or {}) | {port: asked for port, asked in short.items() if asked is not None},
            capture_type,
            transport,
            limits,
        )
        give_up_s = time.monotonic() + ADDRESS_RELEASE_S
        while True:
            try:
                if replaces is None:
                    working = self._calls.call(self._table.add, name, found, plan, prefixes, earlier)
                else:
                    working = self._calls.call(self._replacing.replace, replaces, name, found, plan, prefixes)
                self._thread.restart_if_out_of_work()
                return Broker(self, working)
            except AmidMessageError:
                if time.monotonic() >= give_up_s or not self._calls.may_sleep():
                    raise
            except EndpointError as error:
                if not self._table.starting.released.explain(error) or time.monotonic() >= give_up_s:
                    raise
                if not self._calls.may_sleep():
                    raise _released_just_now(error) from error.__cause__
            self._sleep(0.001)

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
        """Start a broker on sockets of the caller's. The engine never closes them, and sets no option of theirs.

        Until the broker is removed, only the engine may use the sockets. Without a `device` the broker does what
        `zmq.proxy` would do between these sockets: messages go from each socket that can receive to the other, if that
        can send. For a device with one socket, give it as `frontend`; `backend` is None or the same socket. Sockets of
        other ports are given by the ports' names. Without a `name` the broker is named after its device, with a number.
        For `capture` and `capture_prefixes` see `add`.

        Raises `DeviceError` (a socket has the wrong type, or no message can pass between the sockets) or `EngineError`
        (the name is taken, a socket is closed or registered already).
        """
        sockets = {"frontend": frontend, "backend": backend, **more_ports, "capture": capture}
        found = None if device is None else find_device(device)
        if backend is frontend and (found is None or "backend" not in found.ports):
            sockets["backend"] = None
        found = found or device_between(name, sockets)
        prefixes = parse_prefixes(name, found, capture_prefixes)
        working = self._calls.call(self._table.register, name, found, sockets, prefixes)
        self._thread.restart_if_out_of_work()
        broker = Broker(self, working)
        self._use_alone(tuple(socket for socket in sockets.values() if socket is not None), broker)
        return broker

    def remove(self, broker: str | Broker, *, timeout_s: float = 1.0, drain: bool = False) -> BrokerStatistics:
        """End a broker, and return its final statistics. A message that a flow still holds then was not delivered.

        With `drain` the broker first moves what its peers have sent, until there is nothing more. Ports of the wire
        accept no more peers; those of the types PULL, SUB and XSUB have their peers leave, after all that they have
        sent, so that nothing is on its way to them any more. Where requests get replies, those that are outstanding are
        waited for, and no more requests are taken meanwhile. All that within `timeout_s`.

        Then the broker receives nothing more, and for the rest of `timeout_s` it goes on offering the messages that it
        holds, and writing those in the queues of ports of the wire. Then the sockets that the engine opened are closed;
        messages that libzmq had accepted on them are sent for as long as their `linger` allows. Registered sockets may
        be used by the caller again. Other brokers go on meanwhile.

        A call from within a turn of the loop (in a reader or a timer) does not wait: held messages are offered once.

        Raises `EngineError` if there is no such broker, or if its own handler calls this.
        """
        if self._calls.in_own_turn():
            return self._calls.call(self._table.remove_at_once, broker).removed.result()
        return self._wait_for(self.begin_removal(broker, timeout_s=timeout_s, drain=drain))

    def begin_removal(
        self, broker: str | Broker, *, timeout_s: float = 1.0, drain: bool = False
    ) -> "Future[BrokerStatistics]":
        """Begin what `remove` does, and return at once: the future is resolved when the broker is removed.

        The removal needs turns of the loop, and ends after `timeout_s` in any case. Until then the name stays taken.
        The future cannot be cancelled. A second call with a shorter time limit shortens it.

        For programs with a loop of their own, which must not be blocked. Raises as `remove`.
        """
        begin = self._drains.begin_removal if drain else self._table.begin_removal
        return self._calls.call(begin, broker, timeout_s).removed

    def pause(self, broker: str | Broker) -> None:
        """Move no message in this broker until `resume`. A message that is held stays held, unless a port has accepted
        it: what is in the queues of ports, libzmq's or the wire's, is sent in a pause, too.

        Raises `EngineError` if there is no such broker, if it has ended, or if its own handler calls this.
        """
        self._calls.call(self._table.pause, broker)

    def resume(self, broker: str | Broker) -> None:
        """Let a paused broker move messages again. Raises the same errors as `pause`."""
        self._calls.call(self._table.resume, broker)

    def drain(self, timeout_s: float = 5.0, *, broker: str | Broker | None = None) -> tuple[str, ...]:
        """Wait until `broker`, or every broker, holds no message and has none to read.

        Return the names of the brokers that still hold a message or have one to read after `timeout_s`. A paused broker
        cannot be drained, so it is among the names. Messages that are still on their way in the network are not known
        to the engine: stop the producers first.

        If another broker takes the place of `broker` meanwhile (`add`, `replaces`), as at a reload of a daemon, that
        one is waited for in the rest of the time, and named if it is not drained.

        Raises `EngineError` if there is no such broker; if it has ended meanwhile with messages that were not
        delivered, or another process has taken it over; or if it is called from within a turn of the loop.
        """
        if self._calls.in_own_turn():
            raise EngineError("drain() was called from within a turn of the loop, which it would wait for")
        return self._wait_for(self.begin_drain(timeout_s, broker=broker))

    def begin_drain(self, timeout_s: float = 5.0, *, broker: str | Broker | None = None) -> "Future[tuple[str, ...]]":
        """Begin what `drain` does, and return at once: the future is resolved with the names that `drain` returns.

        Cancelling the future gives up the drain; nothing changes at the brokers. The future has an `EngineError` if
        the one broker has ended meanwhile, as `drain` raises it.

        For programs with a loop of their own, which must not be blocked. Raises `EngineError` if there is no such
        broker.
        """
        return self._calls.call(self._drains.begin, timeout_s, broker)

    def pause_and_flush(self, timeout_s: float = 5.0, *, broker: str | Broker | None = None) -> tuple[str, ...]:
        """Pause `broker`, or every broker that has not ended, and wait until what it held is delivered.

        Nothing more is read. Return the names of the brokers that still hold a message after `timeout_s`, and of those
        that are not paused then, since they were resumed or added meanwhile. All others are paused, and hold nothing.
        What counts as sent and waits in the queues of libzmq, or of a PUB or XPUB of the wire, is delivered in a pause,
        too, and not waited for.

        Raises `EngineError` as `pause`; if `broker` has ended meanwhile with messages that were not delivered; and if
        it is called from within a turn of the loop.
        """
        if self._calls.in_own_turn():
            raise EngineError("pause_and_flush() was called from within a turn of the loop, which it would wait for")
        return self._wait_for(self.begin_pause_and_flush(timeout_s, broker=broker))

    def begin_pause_and_flush(
        self, timeout_s: float = 5.0, *, broker: str | Broker | None = None
    ) -> "Future[tuple[str, ...]]":
        """Begin what `pause_and_flush` does, and return at once: the future is resolved with the names that it returns.

        The future may be cancelled; the brokers are paused all the same. Raises `EngineError` as `pause`.
        """
        return self._calls.call(self._drains.begin_flush, timeout_s, broker)

    def disable(self, broker: str | Broker) -> None:
        """Let nobody new connect to a broker, until `enable`: its ports that bind stop listening.

        Whoever connects is refused. Connections that exist go on, and so do those that the broker has made itself.
        `BrokerStatistics.disabled` tells this. A socket that was given by its descriptor (`use_fd`) and that somebody
        else has open goes on listening there.

        Raises `EngineError` as `pause`, and if the broker has no port of the wire that binds: sockets of libzmq cannot
        stop listening without ending their connections, and registered ones are the caller's.
        """
        self._calls.call(self._table.disable, broker)

    def enable(self, broker: str | Broker, *, descriptors: Mapping[str, int] = FrozenDict()) -> None:
        """Undo `disable`: the ports that bind listen again, at the same addresses. Nothing happens at a broker that is
        not disabled.

        `descriptors` are sockets that are bound there already, by the names of the ports. They are copied.

        Raises `EndpointError` if an address is in use, and then the broker stays disabled; `EngineError` as `disable`.
        """
        self._calls.call(self._table.enable, broker, descriptors)

    def reconnect(self, broker: str | Broker) -> None:
        """End every connection that a broker has made, and make it again; names are looked up again.

        Return when that has begun. A peer is given up to 5 s to end its side, and what it has sent is read until then.
        What waits to be sent to it is sent to another peer or to the same one later, or is dropped, as whenever a peer
        leaves. Connections that were accepted are not touched.

        Raises `EngineError` as `pause`, and if the broker has no port of the wire that connects: libzmq would lose
        messages that nobody counts, and registered sockets are the caller's.
        """
        self._calls.call(self._table.reconnect, broker)

    @property
    def brokers(self) -> Mapping[str, Broker]:
        """A snapshot of the brokers by name. Those that have failed or ended are included until they are removed."""
        return self._table.handles(partial(Broker, self))

    # -- what `pollbroker.gevent` does in a way of its own -------------------------------------------------------------

    def _sleep(self, seconds: float) -> None:
        """Sleep between two attempts to have an address. `pollbroker.gevent` lets other greenlets run meanwhile."""
        time.sleep(seconds)

    def _use_alone(self, sockets: tuple[Socket, ...], broker: Broker) -> None:
        """Do nothing. `pollbroker.gevent` keeps the sockets of `zmq.green` from reading their own events."""

    def __del__(self) -> None:
        """Warn of an engine that was forgotten. Nothing is closed: this may be called in any thread."""
        if hasattr(self, "_closing") and not (self.closed or self._calls.is_in_a_fork()):
            warnings.warn(f"unclosed engine {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        doing = "closed" if self.closed else "running" if self.running else "not running"
        count = len(self._table)
        brokers = f"{count} broker{'' if count == 1 else 's'}"
        return f"<Engine {doing}, {brokers}, {self._loop.implementation.name} pump, {self._loop.waiter_name} waiter>"


def engine_context(engine: Engine) -> zmq.Context[Any]:
    """The context of an engine, for sockets of pollbroker's own. `Engine.context` is for the program, which may
    terminate it."""
    return engine._context


def engine_loop(engine: Engine) -> Loop:
    """The loop of an engine. Only the engine's thread may use it; tests look into it."""
    return engine._loop


def _released_just_now(error: EndpointError) -> EndpointError:
    """The same error, with the hint that the address may soon be free again."""
    told = EndpointError(f"{error}: a broker released the address a moment ago, and it may soon be free again")
    told.address = error.address
    told.released_just_now = True
    return told
