"""The pump of a route whose handler is a coroutine function.

Up to `max_concurrency` messages are with the handler at a time, each in a task of the program's loop. They leave in the
order in which they came: a message whose handler is done waits for those before it. The source is not read while the
handler has as many messages as it may have, so that messages wait in the queues of the sockets and not here.

A message that is with the handler, or that waits for one before it, is held.
"""

from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol

from pollbroker.pump.contract import Hub, Receiver, Sender
from pollbroker.pump.limits import BURST_FRAMES
from pollbroker.pump.message import Handler
from pollbroker.pump.outcomes import BUSY, EMPTY, FULL, LIMIT
from pollbroker.pump.routing import RoutingPump


class StartTask(Protocol):
    """What the program's loop does for a coroutine handler."""

    def __call__(
        self, coroutine: Coroutine[Any, Any, Any], done: Callable[[Any, BaseException | None], None], /
    ) -> Callable[[], object]:
        """Begin to run a coroutine, and return a function that cancels it.

        Both are called in the thread that makes the turn. That may be another than the loop's, such as one that waits
        for a removal.

        `done(result, error)` is called once when it has ended, in the thread of the loop: with None for `error` if it
        returned. A `SystemExit` or `KeyboardInterrupt` also comes out of the loop, as it does from any task.
        """


class _Given:
    """A message that the handler was given, and what it has made of it."""

    __slots__ = ("cancel", "done", "error", "result")

    def __init__(self) -> None:
        self.cancel: Callable[[], object] = lambda: None
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None


class CoroutinePump(RoutingPump):
    """Moves messages from `receiver`, through a coroutine function, to the `senders`; see `pollbroker.pump.contract`.

    Arguments:
        max_concurrency: how many messages may be with the handler at a time.
        start_task: runs a coroutine on the program's loop.
    """

    def __init__(
        self,
        receiver: Receiver,
        handler: Handler,
        senders: Mapping[str, Sender],
        *,
        max_concurrency: int,
        start_task: StartTask,
    ) -> None:
        super().__init__(receiver, handler, senders)
        self._call_handler: Callable[[list[bytes]], Any] = handler
        self._max_concurrency = max_concurrency
        self._start_task = start_task
        self._given: deque[_Given] = deque()
        """In the order in which the messages came."""
        self._hub: Hub | None = None
        self.reads_no_more = False
        """True if no other message is to be given to the handler."""
        self._wake: Callable[[], object] = lambda: None
        self._ended = False

    def belong_to(self, hub: Hub, wake: Callable[[], object]) -> None:
        """Say which hub the flow of this pump is in. `wake` has the flow try again, and any thread may call it; it is
        called when the handler is done with the message whose turn it is."""
        self._hub = hub
        self._wake = wake

    def cancel(self) -> None:
        """Cancel what the handler is still doing. Its messages stay counted as held."""
        self._ended = True
        for given in self._given:
            if not given.done:
                given.cancel()

    @property
    def _number_held(self) -> int:
        return super()._number_held + len(self._given)

    def move(self, limit_messages: int, limit_bytes: int, /) -> int:
        receiver = self._receiver
        messages, begun = 0, receiver.received_bytes
        held_before = self._held
        receiver.burst_frames = 0
        while (
            messages < limit_messages
            and receiver.received_bytes - begun < limit_bytes
            and receiver.burst_frames < BURST_FRAMES
        ):
            messages += 1
            if self._held is None:
                if self._rest is not None:
                    self._held = self._next(self._rest, first=False)
                elif self._given and self._given[0].done:
                    self._held = self._outcome(self._given.popleft())
                elif self.reads_no_more or (self._hub is not None and self._hub.flushing):
                    return BUSY if self._given else EMPTY
                elif len(self._given) >= self._max_concurrency:
                    return BUSY
                else:
                    frames = receiver()
                    if frames is None:
                        return EMPTY
                    if frames:
                        self._give(frames)
                    continue
            message = self._held
            if message is not None and not self._send(message):
                self.holds += message is not held_before
                return FULL
        return LIMIT

    def _give(self, frames: list[bytes]) -> None:
        """Begin to run the handler for a message."""
        given = _Given()
        self._given.append(given)
        done = partial(self._done, given)
        try:
            coroutine = self._call_handler(frames)
            try:
                given.cancel = self._start_task(coroutine, done)
            except BaseException:
                coroutine.close()  # the loop is ending, and would never run it
                raise
        except Exception as error:  # noqa: BLE001 - any error of a handler drops this one message
            done(None, error)
        except BaseException as error:
            done(None, error)
            raise

    def _done(self, given: _Given, result: Any, error: BaseException | None) -> None:
        given.result, given.error = result, error
        given.done = True  # last, since a turn in another thread may take the message from now on
        with suppress(IndexError):  # it has taken every message
            if not self._ended and self._given[0] is given:
                self._wake()

    def _outcome(self, given: _Given) -> list[bytes] | None:
        """The first message of what the handler has made of a message, or None (counted)."""
        if given.error is not None:
            self._fail(given.error)
            return None
        return self._first(given.result)

    def _is_accounted_for(self, held: int) -> bool:
        return super()._is_accounted_for(held + len(self._given))
