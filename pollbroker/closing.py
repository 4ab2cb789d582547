"""The end of an engine: its brokers are removed, its thread ends, and its sockets, descriptors and context are closed.

The order matters. The brokers are removed first, while the loop still runs, so that each can send what it holds. Then
the thread ends, so that no other thread touches a socket. The callbacks of `on_close` close the sockets that were
attached, such as control's; then the loop closes its descriptors. The context is last, since terminating it waits for
every socket in it.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import zmq

from pollbroker.calls import run_handle
from pollbroker.errors import EngineError, describe_error
from pollbroker.loop import Loop
from pollbroker.table import Table
from pollbroker.thread import EngineThread
from pollbroker.timers import Handle

_logger = logging.getLogger("pollbroker")

TERM_S: Final = 5.0
"""How long `close` waits for the engine's context to end. The engine's own sockets linger for at most a second, unless
their options say otherwise."""


class Closing:
    """Closes an engine. `context` is the engine's own, which is terminated; None if the caller handed the context
    in."""

    def __init__(self, loop: Loop, table: Table, thread: EngineThread, context: zmq.Context[Any] | None) -> None:
        self._loop = loop
        self._table = table
        self._thread = thread
        self._context = context
        self._callbacks: list[Handle] = []

    def add(self, callback: Callable[[], Any]) -> Handle:
        """Have `callback` called when the engine closes. Only the engine's thread may call this."""
        handle = Handle(0.0, callback)
        self._callbacks = [*(one for one in self._callbacks if not one.cancelled()), handle]
        return handle

    def close(self, timeout_s: float) -> None:
        """See `Engine.close`. Any thread may call this."""
        calls = self._loop.calls
        if calls.closed:
            return
        calls.check_usable()
        if calls.in_own_turn():
            raise EngineError("close() was called from within a turn of the loop; call stop() there")
        with self._thread.ending() as is_first:
            if is_first:
                self._end(timeout_s)
            ended_by = self._thread.take_error()
        if ended_by is not None:
            raise EngineError(f"the engine's thread was ended by {describe_error(ended_by)}") from ended_by

    def _end(self, timeout_s: float) -> None:
        calls = self._loop.calls
        removals = calls.call(self._table.begin_removing_all, timeout_s)
        for broker in removals:
            self._loop.wait_for(broker.removed)
        if calls.running or self._thread.alive:
            self._loop.stop()
        self._thread.join()
        with calls.lock:
            self._give_back()
        for broker in removals:
            lost = sum(flow.held + flow.unread for flow in broker.removed.result().flows.values())
            if lost:
                _logger.warning("brokers.%s: closed with %d messages undelivered", broker.name, lost)

    def _give_back(self) -> None:
        for broker in self._table.begin_removing_all(0.0):
            broker.end_removal()  # another thread has added it since the first removals
        for handle in self._callbacks:
            run_handle(handle)
        self._loop.close()
        if self._context is not None:
            _terminate(self._context)


def _terminate(context: zmq.Context[Any]) -> None:
    """Terminate a context, and wait until that is done, at most `TERM_S`. It goes on in a thread if it takes longer."""
    term = threading.Thread(target=context.term, name="pollbroker-term", daemon=True)
    term.start()
    term.join(TERM_S)
    if term.is_alive():
        _logger.warning(
            "context not terminated after %g s: sockets that the engine did not open are still open in it, or a socket "
            "that it closed still sends messages; the context ends when these are done",
            TERM_S,
        )
