"""The end of an engine: its brokers are removed, its thread ends, and its sockets, descriptors and context are closed.

The order matters. The brokers are removed first, while the loop still runs, so that each can send what it holds. Then
the thread ends, so that no other thread touches a socket. The callbacks of `on_close` close the sockets that were
attached, such as control's; then the loop closes its descriptors. The context is last, since terminating it waits for
every socket in it.

What is raised meanwhile, such as by Ctrl-C or by a listener of events that calls `sys.exit`, ends the wait for messages
and keeps nothing from being closed. It comes up when everything is closed.
"""

import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Final

import zmq

from pollbroker.calls import run_handle
from pollbroker.drains import Drains
from pollbroker.errors import EngineError, describe_error
from pollbroker.loop import Loop
from pollbroker.portions import Portions
from pollbroker.remaining import warn_of_undelivered
from pollbroker.statistics import BrokerStatistics
from pollbroker.table import Table
from pollbroker.thread import EngineThread
from pollbroker.timers import Handle
from pollbroker.working import WorkingBroker

_logger = logging.getLogger("pollbroker")

TERM_S: Final = 5.0
"""How long `close` waits for the engine's context to end. The engine's own sockets linger for at most a second, unless
their options say otherwise."""


class Closing:
    """Closes an engine. `context` is the engine's own, which is terminated; None if the caller handed the context
    in."""

    def __init__(
        self,
        loop: Loop,
        table: Table,
        drains: Drains,
        portions: Portions,
        thread: EngineThread,
        context: zmq.Context[Any] | None,
    ) -> None:
        self._loop = loop
        self._table = table
        self._drains = drains
        self._portions = portions
        self._thread = thread
        self._context = context
        self._callbacks: list[Handle] = []
        self._removals: dict[WorkingBroker, None] = {}
        """The brokers that closing has removed, or is about to."""
        self._terminated: Future[None] = Future()
        self._terminated.set_running_or_notify_cancel()  # several may wait for it, so none of them can cancel it
        self._terminating: threading.Thread | None = None
        self._begins_terminating = threading.Lock()

    def add(self, callback: Callable[[], Any]) -> Handle:
        """Have `callback` called when the engine closes. Only the engine's thread may call this."""
        handle = Handle(0.0, callback)
        self._callbacks = [*(one for one in self._callbacks if not one.cancelled()), handle]
        return handle

    def close(self, timeout_s: float) -> None:
        """See `Engine.close`. Any thread may call this."""
        if not self._loop.calls.closed:
            self._check_outside_turn()
            with self._thread.ending() as is_first:
                if is_first:
                    with ExitStack() as then:  # from the last one up
                        then.callback(self._wait_until_terminated)
                        then.callback(self._give_back)
                        for removed in self.begin(timeout_s):
                            self._loop.wait_for(removed)
                self._raise_what_ended_the_thread()
        else:
            self._begin_terminating()
            self._wait_until_terminated()

    def begin(self, timeout_s: float) -> "tuple[Future[BrokerStatistics], ...]":
        """See `Engine.begin_close`. Any thread may call this."""
        removals = self._loop.calls.call(self._table.begin_removing_all, timeout_s)
        self._removals |= dict.fromkeys(removals)
        return tuple(broker.removed for broker in removals)

    def finish(self) -> "Future[None]":
        """See `Engine.finish_close`. Any thread may call this."""
        if not self._loop.calls.closed:
            self._check_outside_turn()
            with self._thread.ending() as is_first:
                if is_first:
                    self._give_back()
                self._raise_what_ended_the_thread()
        else:
            self._begin_terminating()
        return self._terminated

    def _wait_until_terminated(self) -> None:
        if self._terminating is not None:
            self._terminating.join()

    def _begin_terminating(self) -> None:
        """Have the engine's context terminated in a thread, unless that was begun before. It goes on if whoever waits
        for it is interrupted.

        While the interpreter ends no thread can begin: before CPython 3.12 `start` would wait for it for ever. A
        coroutine that is amid `close` then is closed by Python, and the context ends with the process.
        """
        with self._begins_terminating:
            if (self._context is None or sys.is_finalizing()) and not self._terminated.done():
                self._terminated.set_result(None)
            if self._terminated.done() or self._terminating is not None:
                return
            thread = threading.Thread(
                target=self._terminate, args=(self._context,), name="pollbroker-close", daemon=True
            )
            thread.start()
            self._terminating = thread

    def _check_outside_turn(self) -> None:
        self._loop.calls.check_usable()
        if self._loop.calls.in_own_turn():
            raise EngineError("close() was called from within a turn of the loop; call stop() there")

    def _raise_what_ended_the_thread(self) -> None:
        ended_by = self._thread.take_error()
        if ended_by is not None:
            raise EngineError(f"the engine's thread was ended by {describe_error(ended_by)}") from ended_by

    def _give_back(self) -> None:
        """End the thread, give back everything but the context, and begin to terminate that."""
        calls = self._loop.calls
        self._loop.stop()
        self._thread.join()
        try:
            with calls.closing():
                self._loop.stop()  # whoever else makes turns
                with calls.lock:
                    self._close()
        finally:
            if calls.closed:
                self._begin_terminating()
                self._warn_of_undelivered()

    def _close(self) -> None:
        """Close everything but the context, with the lock."""
        with ExitStack() as then:  # from the last one up, and each whatever is raised before it
            then.callback(self._loop.close)
            then.callback(self._call_back)
            then.callback(self._portions.end_all)
            then.callback(self._drains.end_all)
            then.callback(self._remove_all)  # again, if Ctrl-C came amid the end of a broker
            self._remove_all()

    def _remove_all(self) -> None:
        """Remove the brokers that were added meanwhile, or are not removed yet."""
        with ExitStack() as removals:
            removals.enter_context(self._table.refusing_others())  # a listener might add one for each that ends
            for name, broker in reversed(self._table.snapshot().items()):
                removals.callback(self._remove, name, broker)

    def _remove(self, name: str, broker: WorkingBroker) -> None:
        if self._table.get(name) is broker:  # the end of another one may have removed it
            self._removals[broker] = None
            self._table.remove_at_once(name)

    def _call_back(self) -> None:
        with ExitStack() as calls:
            for handle in reversed(self._callbacks):
                calls.callback(run_handle, handle)

    def _warn_of_undelivered(self) -> None:
        for broker in self._removals:
            if broker.removed.done():
                warn_of_undelivered(broker.removed.result())

    def _terminate(self, context: "zmq.Context[Any]") -> None:
        """Terminate the context and wait for that, at most `TERM_S`. If it takes longer, a thread goes on with it."""
        try:
            term = threading.Thread(target=context.term, name="pollbroker-term", daemon=True)
            term.start()
            term.join(TERM_S)
            if term.is_alive():
                warn_of_context()
        finally:
            self._terminated.set_result(None)


def warn_of_context() -> None:
    """Log that the engine's context is not terminated after `TERM_S`."""
    _logger.warning(
        "context not terminated after %g s: sockets that the engine did not open are still open in it, or a socket "
        "that it closed still sends messages; the context ends when these are done",
        TERM_S,
    )
