"""What makes an engine run: in a thread of its own, in the calling thread, or turn by turn; and what else is done in
its loop: timers, readers and calls."""

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from pollbroker.calls import Calls
from pollbroker.closing import Closing
from pollbroker.errors import EngineError
from pollbroker.loop import Loop
from pollbroker.pump import Socket, StartTask
from pollbroker.reader import HasFileno
from pollbroker.statistics import BrokerStatistics
from pollbroker.table import Table
from pollbroker.thread import EngineThread
from pollbroker.timers import Handle

_Result = TypeVar("_Result")


class Running:
    """The part of an engine that runs. `run` makes the turns of its loop."""

    _loop: Loop
    _calls: Calls
    _table: Table
    _thread: EngineThread
    _closing: Closing

    # -- beginning and end --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run in a thread of the engine's own, until `stop()` or `close()`, or until nothing is left to do (see `run`).

        If the thread ended because nothing was left to do, it begins again as soon as a broker is added. A `SystemExit`
        or `KeyboardInterrupt` that a handler, a timer, a reader or a call raises ends the thread: it is logged, and
        `close` raises `EngineError` from it.

        Raises `EngineError` if the engine is running already, or is being closed.
        """
        self._thread.start()

    def run(self) -> None:
        """Run in the calling thread until `stop()`, or until nothing is left to do: every broker has ended or failed,
        and there is no reader, timer or call to serve.

        A broker ends without being removed when the context of its sockets is terminated; one whose ports are the
        wire's, when that of the engine is. An engine that has no broker yet, or whose last broker was
        removed, goes on, and waits for the next.

        In the main thread Ctrl-C ends the run between two turns, so that nothing is lost, and raises
        `KeyboardInterrupt`. A `SystemExit` or `KeyboardInterrupt` that a handler, a timer, a reader or a call raises
        ends the run, too, and is raised here; any other exception of these is logged, and the engine goes on. Any other
        exception in a broker (such as a `MemoryError` while a message is received) ends that broker alone.

        Raises `EngineError` if the engine is running already, or if it is called from within a turn of the loop.
        """
        self._loop.run()

    def stop(self) -> None:
        """Make `run` return after its present turn, or after its first turn if it has not begun yet.

        Nothing is lost: brokers keep their messages, and another `run` goes on with them. Signal handlers may call
        `stop`. On a closed engine it does nothing.
        """
        self._loop.stop()

    def _wait_for(self, future: "Future[_Result]") -> _Result:
        """Return the result of a future when a turn has resolved it. `pollbroker.gevent` waits in its own way."""
        self._loop.wait_for(future)
        return future.result()

    def close(self, *, timeout_s: float = 1.0) -> None:
        """Remove every broker (see `remove` for the time limit), stop the engine, and close all that it has opened.

        A context that the engine made is terminated. That waits until its sockets have sent the messages that they had
        accepted, at most as long as their `linger`. If sockets that the program opened in this context are still open,
        `close` logs a warning after 5 seconds and returns; the context ends when they are closed. Closing again does
        nothing; after `finish_close` it waits for the context.

        Interrupted, such as by Ctrl-C or by a listener of events that calls `sys.exit`: what the brokers hold is
        offered once more, and everything is closed at once, before the exception comes up.

        Raises `EngineError` if it is called from within a turn of the loop. When everything is closed, it also raises
        `EngineError` if the engine's own thread was ended by a `SystemExit` or `KeyboardInterrupt` of a handler, a
        timer, a reader or a call.
        """
        self._closing.close(timeout_s)

    def begin_close(self, *, timeout_s: float = 1.0) -> "tuple[Future[BrokerStatistics], ...]":
        """Begin to remove every broker, and return at once; each future is resolved when one of them is removed.

        For programs with a loop of their own, which must not be blocked: they go on with `finish_close` then, or
        earlier. Raises as `begin_removal`.
        """
        return self._closing.begin(timeout_s)

    def finish_close(self) -> "Future[None]":
        """Close without waiting for messages or for the context.

        Each remaining broker offers the messages that it holds once more, and is removed. When this returns, everything
        is closed except the context, which another thread terminates. The future is resolved when that is done, or has
        taken 5 seconds (see `close`). A later `close` waits for it. A second call returns the same future.

        For programs with a loop of their own, which must not be blocked. Raises as `close`.
        """
        return self._closing.finish()

    def __enter__(self) -> Self:
        try:
            self.start()
        except EngineError:
            raise  # it runs already, for somebody else
        except BaseException:
            self.close()  # Ctrl-C, or a greenlet that is killed: no block begins that would close it
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except EngineError:
            if error is None or not (self.closed or self._calls.is_in_a_fork()):
                raise  # otherwise the block's own error is raised, and this one is in the log

    @property
    def running(self) -> bool:
        """True while a thread is in `run`, or about to be."""
        return self._calls.running

    @property
    def stopping(self) -> bool:
        """True if `run` would return: `stop` was called and no `run` has ended because of it yet, or nothing is left to
        do (see `run`). A program that calls `step` can end its own loop then."""
        return self._loop.stopping

    @property
    def closed(self) -> bool:
        """True if the engine was closed, so that it can no longer be used."""
        return self._calls.closed

    # -- in a program with a loop of its own --------------------------------------------------------------------------

    def step(self, timeout_s: float | None = 0.0) -> bool:
        """Make one turn, which sleeps for up to `timeout_s` until there is something to do (None: without limit; a
        number below 0 is taken for 0, and one beyond a day for a day).

        For programs with a loop of their own: call it when `fileno()` is readable, and after `next_timer_s()` seconds.
        Return True if there is more to do at once; `fileno()` is readable then.

        Several threads may call it. One at a time makes a turn, and the others wait until that has ended, also while it
        sleeps, and whatever their own `timeout_s` is. So a loop that must not be blocked is best the only one that
        calls `step`.

        Raises `EngineError` if a thread is in `run`, also the engine's own, if another thread is closing it, or if it
        is called from within a turn.
        """
        return self._loop.step(timeout_s)

    def fileno(self) -> int:
        """A descriptor that is readable when `step()` has something to do, except for timers.

        Raises `EngineError` with a flat waiter, which has no such descriptor.
        """
        return self._loop.fileno()

    def next_timer_s(self) -> float | None:
        """Seconds until `step()` is to be called for a timer (0.0: there is something to do at once); None without a
        timer. They are a day at most, since a loop may not be able to sleep for longer; a timer that is due later, or
        never, is asked for again then."""
        return self._loop.next_timer_s()

    def set_task_starter(self, start_task: StartTask | None) -> None:
        """Have the coroutine handlers of devices that are added from now on run by `start_task(coroutine, done)`.

        It begins to run the coroutine as a task of the program's loop, and returns a function that cancels the task. It
        calls `done(result, error)` in that loop's thread when the task has ended; `error` is None if it returned.

        For programs with a loop of their own; the adapters for asyncio and trio have done this. Without it a device
        with a coroutine handler is refused with `DeviceError`.
        """
        self._calls.call(setattr, self._table.starting, "start_task", start_task)

    # -- timers, readers and calls ------------------------------------------------------------------------------------

    def call_later(self, delay_s: float, fn: Callable[..., Any], *args: Any) -> Handle:
        """Have `fn(*args)` called in the engine's thread after `delay_s` seconds (infinity: never). Return a handle
        that can cancel it."""
        return self._calls.call(self._loop.timers.add, delay_s, partial(fn, *args))

    def call_soon_threadsafe(self, fn: Callable[..., Any], *args: Any) -> Handle:
        """Have `fn(*args)` called in the engine's thread, in the next turn. Return at once, with a handle that can
        cancel the call."""
        self._calls.check_usable()
        return self._calls.put(partial(fn, *args))

    def add_reader(self, target: Socket | HasFileno | int, callback: Callable[..., Any], *args: Any) -> None:
        """Have `callback(*args)` called, once a turn, as long as a socket or a descriptor has something to read.
        `target` is a ZeroMQ socket, a descriptor, or an object with a `fileno` method.

        As with `asyncio.loop.add_reader`, a second callback for one target takes the place of the first. An exception
        of the callback is logged. The caller closes the socket, but only after `remove_reader`.

        Raises `EngineError` for a socket that a broker uses, and for a target that is closed or has no descriptor.
        """
        self._calls.call(self._loop.readers.add, target, partial(callback, *args))

    def remove_reader(self, target: Socket | HasFileno | int) -> bool:
        """Stop watching `target`. Return True if it was being watched."""
        return self._calls.call(self._loop.readers.remove, target)

    def on_close(self, callback: Callable[[], Any]) -> Handle:
        """Have `callback` called when the engine closes, such as to close a socket that has a reader. Return a handle
        that can cancel it."""
        return self._calls.call(self._closing.add, callback)
