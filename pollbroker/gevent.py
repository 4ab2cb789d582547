"""The engine of a gevent program: a greenlet beside the program's other greenlets, in one thread.

from pollbroker import QUEUE
from pollbroker.gevent import Engine

with Engine() as engine:
    orders = engine.add("orders", QUEUE, frontend="tcp://*:5559", backend="tcp://*:5560")

As `zmq.green` is to `zmq`: the same names, and what blocks the thread there lets the other greenlets run here. It works
with and without `gevent.monkey.patch_all()`. The rules that hold here:

1. The engine sleeps in the hub, and lets the other greenlets have their turn after each of its own.
2. Whoever waits for the engine waits for an event of gevent, and makes turns only if no greenlet runs the engine.
3. A greenlet that is killed while it waits leaves nothing half done.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import gevent
import zmq
from gevent.event import AsyncResult, Event
from gevent.lock import RLock

import pollbroker
from pollbroker.broker import Broker
from pollbroker.closing import TERM_S, warn_of_context
from pollbroker.errors import EngineError
from pollbroker.loop import Loop
from pollbroker.opening import make_context
from pollbroker.pump import Socket
from pollbroker.thread import EngineThread

__all__ = ["Engine"]

_Result = TypeVar("_Result")

_TURN_FOR_ANOTHER_S: Final = 0.01
"""How long a greenlet that waits for a result, and makes the turns itself meanwhile, sleeps in one of them."""

_LONGEST_BUSY_S: Final = 0.001
_MOST_TURNS: Final = 10
"""After so long, and after so many turns, an engine that has more to do lets the hub look for timers and sockets."""

_READ: Final = 1
"""What a watcher of gevent's loop is to wait for: that the descriptor can be read."""


class _Greenlet(gevent.Greenlet):  # type: ignore[type-arg] # it has none when it runs
    """A greenlet with the one method of a thread that it lacks."""

    def is_alive(self) -> bool:
        return not self.dead


class _EngineGreenlet(EngineThread):
    """The greenlet that `Engine.start` begins, in place of a thread."""

    def __init__(self, loop: Loop, run: Callable[[], None]) -> None:
        super().__init__(loop, run)
        self._start_and_end_lock = RLock()  # a greenlet's: closing lets others run

    def _make_thread(self) -> _Greenlet:
        return _Greenlet(self._run_and_log)

    def _run_and_log(self) -> None:
        try:
            self._run()
        except (KeyboardInterrupt, SystemExit) as error:
            gevent.get_hub().handle_system_error(type(error), error)  # raises it in the main greenlet
        except gevent.GreenletExit:
            raise  # it was killed
        except BaseException as error:  # noqa: BLE001 - such as a Timeout that was over in a handler; `close` raises
            self._note_end(error)


def _silence(socket: Socket, end: "Future[Any]") -> None:
    """Keep a socket of `zmq.green` from reading its own events until `end` is resolved. Do nothing to other sockets.

    Such a socket has a watcher in the hub, which reads ZMQ_EVENTS whenever ZMQ_FD is readable. That resets ZMQ_FD, so
    the engine, which waits for it too, might never be told of the event.
    """
    watcher = getattr(socket, "_state_event", None)
    if watcher is None:
        return
    update = watcher.callback
    watcher.stop()

    def resume(_: "Future[Any]") -> None:
        if not socket.closed:
            watcher.start(update)
            update()

    end.add_done_callback(resume)


class _HubPoller:
    """As much of `zmq.Poller` as the nested waiter needs: one descriptor, which the hub watches."""

    def register(self, descriptor: int, flags: int, /) -> None:
        self._ready = [(descriptor, flags)]
        self._turns = 0
        self._idle_again_s = 0.0
        self._watchers: list[Any] = []
        """Watchers that no greenlet waits for now. A new one for each sleep would cost a system call more."""

    def unregister(self, descriptor: int, /) -> None:  # noqa: ARG002 - the only one
        self._ready = []
        for watcher in self._watchers:
            watcher.close()

    def poll(self, timeout: int | None = None, /) -> Sequence[tuple[int, int]]:
        hub = gevent.get_hub()
        if timeout == 0:
            # The engine has more to do, and the others have their turn first. `sleep(0)` alone would come back many
            # times before the hub looks for timers and sockets. `idle` alone would wait for greenlets that never wait.
            self._turns += 1
            if self._turns >= _MOST_TURNS or time.monotonic() >= self._idle_again_s:
                gevent.idle(hub.loop.MAXPRI)  # type: ignore[attr-defined] # it has it
                self._turns, self._idle_again_s = 0, time.monotonic() + _LONGEST_BUSY_S
            else:
                gevent.sleep(0)
            return self._ready  # the waiter looks for itself, without sleeping
        watcher = self._watchers.pop() if self._watchers else hub.loop.io(self._ready[0][0], _READ)
        try:
            if timeout is None:
                hub.wait(watcher)
                return self._ready
            with gevent.Timeout(timeout / 1000, False):  # type: ignore[arg-type] # False: go on after the block
                hub.wait(watcher)
                return self._ready
            return []  # type: ignore[unreachable]
        finally:
            self._watchers.append(watcher)


class Engine(pollbroker.Engine):
    """Runs any number of brokers in a greenlet. To be used by greenlets of one thread.

    The arguments are those of `pollbroker.Engine`, which also describes the methods. They are called from greenlets of
    the thread that runs the engine. From other threads only `stop` and `call_soon_threadsafe` may be called.

    Use it as `with Engine() as engine:`, which runs it in a greenlet of its own; or call `run()` in this greenlet.
    What waits (`add`, `remove`, `drain`, `pause_and_flush`, `hand_over`, `close`) lets other greenlets run meanwhile. A
    greenlet that is killed there, or whose `gevent.Timeout` is over, leaves nothing half done: what has begun goes on
    without it, and `close` closes at once.

    A handler should not wait, since every broker waits for it. While one does, what other greenlets call is treated as
    if the handler had called it, unless `threading` is patched: then these calls wait for the end of the turn.

    A `SystemExit` or `KeyboardInterrupt` that a handler, a timer or a reader raises ends the engine's greenlet, and is
    raised in the main greenlet, as gevent does with those of any greenlet. Ctrl-C ends it between two turns.

    Raises `ConfigError` if an argument is unfit.
    """

    _thread_type = _EngineGreenlet

    def __init__(
        self,
        context: zmq.Context[Any] | None = None,
        *,
        burst_messages: int = 1000,
        burst_bytes: int = 1 << 20,
        pump: str | None = None,
    ) -> None:
        self._own_context = make_context() if context is None else None
        self._in_turns = 0
        """How many greenlets are in `run` or `step`: the descriptor that they sleep on may not be closed meanwhile."""
        self._over = Event()
        """Set when there is none."""
        self._over.set()
        self._ending = False
        self._terminated: AsyncResult[None] | None = None
        super().__init__(
            context or self._own_context,
            poller=_HubPoller(),
            burst_messages=burst_messages,
            burst_bytes=burst_bytes,
            pump=pump,
            waiter="nested",
        )
        self._loop.context_end.is_shared = context is not None

    def _use_alone(self, sockets: tuple[Socket, ...], broker: Broker) -> None:
        for socket in sockets:
            _silence(socket, broker.removed)

    def run(self) -> None:
        """Run in this greenlet, as `pollbroker.Engine.run`. The other greenlets run meanwhile."""
        with self._turning():
            super().run()

    def step(self, timeout_s: float | None = 0.0) -> bool:
        """Make one turn, as `pollbroker.Engine.step`. The other greenlets run while it sleeps."""
        if self._ending:
            raise EngineError("the engine is closed")  # whoever closes it waits until nobody makes turns
        with self._turning():
            return super().step(timeout_s)

    @contextmanager
    def _turning(self) -> Iterator[None]:
        self._in_turns += 1
        self._over.clear()
        try:
            yield
        finally:
            self._in_turns -= 1
            if not self._in_turns:
                self._over.set()

    def start(self) -> None:
        """Run in a greenlet of its own, as `pollbroker.Engine.start` does in a thread."""
        super().start()
        gevent.sleep(0)  # it runs when this returns

    def wait_stopped(self) -> None:
        """Wait until `run` has returned, in whichever greenlet: `stop` was called, or nothing is left to do."""
        self._over.wait()

    def wait_for(self, future: "Future[_Result]") -> _Result:
        """Return the result of a future of the engine's, such as `broker.removed`, when it is there.

        `future.result()` would block every greenlet. Killed: the future is cancelled, if it can be; removals go on.
        """
        done = Event()
        loop = gevent.get_hub().loop
        future.add_done_callback(lambda _: loop.run_callback_threadsafe(done.set))  # another thread may resolve it
        try:
            while not future.done():
                if self.running:
                    gevent.wait((done, self._over), count=1)
                elif self._ending:
                    done.wait()
                else:
                    self.step(_TURN_FOR_ANOTHER_S)
        except BaseException:
            future.cancel()
            raise
        return future.result()

    _wait_for = wait_for

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Remove every broker, and give everything back, as `pollbroker.Engine.close`.

        A context of the engine's own is terminated by a thread of gevent's pool, since libzmq blocks there. Killed:
        what the brokers hold is offered once more, and everything is closed at once; the context ends by itself.
        """
        if self.closed or self._calls.in_own_turn():
            super().close(timeout_s=timeout_s)
        else:
            try:
                for removed in self.begin_close(timeout_s=timeout_s):
                    self.wait_for(removed)
            finally:
                self._close_at_once()
        if self._terminated is not None:
            self._terminated.wait(TERM_S)
            if not self._terminated.ready():
                warn_of_context()

    def _close_at_once(self) -> None:
        self._ending = True
        try:
            self.stop()
            try:
                self._over.wait()
            finally:
                self._over.wait()  # killed while it waited: that is put off until the engine is closed
                self.finish_close()
        finally:  # a listener of events may raise SystemExit
            self._ending = self.closed
            if self.closed and self._own_context is not None and self._terminated is None:
                self._terminated = gevent.get_hub().threadpool.spawn(self._own_context.term)

    def _sleep(self, seconds: float) -> None:
        gevent.sleep(seconds)
