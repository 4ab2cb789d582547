"""The pump of a route with a handler: each message is handed to a Python function, and what it returns is sent.

The handler is given one message (`list[bytes]`) and returns the message to send, or None to drop it. A generator
function yields any number of messages; it is asked for the next only when the last has been sent. An exception drops
that one message, is counted, and is logged once a second at most.
"""

import logging
import reprlib
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeGuard

from pollbroker.pump.contract import BURST_FRAMES, EMPTY, FULL, LIMIT, Handler, Message, Receiver, Sender
from pollbroker.pump.sending import REFUSED
from pollbroker.statistics import Counters

_logger = logging.getLogger("pollbroker")

_LOG_INTERVAL_S: Final = 1.0


class HandlerPump:
    """Moves what `receiver` takes through `handler` to where `sending` sends it; see `pollbroker.pump.contract`."""

    def __init__(self, receiver: Receiver, handler: Handler, sender: Sender) -> None:
        self._receiver = receiver
        self._handler = handler
        self._sender = sender
        self._held: list[bytes] | None = None
        self._rest: Iterator[Message] | None = None
        self._last_log_s = float("-inf")
        self._added = 0
        self._filtered = 0
        self._failed = 0
        self.discard_rest = receiver.discard_rest
        self.count_unread = receiver.count_unread

    @property
    def received(self) -> int:
        return self._receiver.received

    @property
    def sent(self) -> int:
        return self._sender.sent

    @property
    def held(self) -> int:
        return 0 if self._held is None else 1

    def counters(self) -> Counters:
        return self._sender.add_to(
            self._receiver.add_to(
                Counters(held=self.held, added=self._added, filtered=self._filtered, failed=self._failed)
            )
        )

    def move(self, limit_messages: int, limit_bytes: int, /) -> int:
        receiver, send = self._receiver, self._sender.send
        messages, begun = 0, receiver.received_bytes
        receiver.burst_frames = 0
        while (
            messages < limit_messages
            and receiver.received_bytes - begun < limit_bytes
            and receiver.burst_frames < BURST_FRAMES
        ):
            message = self._held
            if message is None:
                if self._rest is not None:
                    message = self._next(self._rest, first=False)
                else:
                    frames = receiver()
                    if frames is None:
                        return EMPTY
                    message = self._handle(frames) if frames else None
                self._held = message
            if message is not None:
                try:
                    outcome = send(message)
                except BaseException:
                    gone = receiver.dropped + self._sender.placed + self._filtered + self._failed
                    if gone == receiver.received + self._added:
                        self._held = None  # a later frame of it failed, or its copy
                    raise
                if outcome == REFUSED:
                    self._held = list(message)  # a handler may use one list again
                    return FULL
                self._held = None
            messages += 1
        return LIMIT

    def _handle(self, frames: list[bytes]) -> list[bytes] | None:
        """What the handler makes of a message, or None if nothing is to be sent (counted)."""
        try:
            result = self._handler(frames)
        except Exception as error:  # noqa: BLE001 - whatever a user's handler raises concerns this one message
            self._fail(error)
            return None
        except BaseException:
            self._failed += 1  # such as KeyboardInterrupt: it is the loop's, but the message is accounted for
            raise
        if result is None:
            self._filtered += 1
            return None
        if type(result) is not list and isinstance(result, Iterator):
            self._rest = result
            return self._next(result, first=True)
        return self._checked(result)

    def _next(self, rest: Iterator[Message], *, first: bool) -> list[bytes] | None:
        """The next message of an iterator, or None (counted, if it is the first, or if the iterator raised)."""
        try:
            message = next(rest)
        except StopIteration:
            self._rest = None
            if first:
                self._filtered += 1
            return None
        except Exception as error:  # noqa: BLE001 - as above
            self._rest = None
            self._added += not first
            self._fail(error)
            return None
        except BaseException:
            self._rest = None
            self._added += not first
            self._failed += 1
            raise
        self._added += not first
        return self._checked(message)

    def _checked(self, message: Any) -> list[bytes] | None:
        """The message as a list, or None (counted) if it is none."""
        try:
            if is_message(message):
                return message if type(message) is list else list(message)
            found = reprlib.repr(message)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no message
            found = f"what raised {error!r}"
        self._fail(TypeError(f"a handler must give a non-empty sequence of bytes, or None; it gave {found}"))
        return None

    def _fail(self, error: Exception) -> None:
        self._failed += 1
        now_s = time.monotonic()
        if now_s - self._last_log_s >= _LOG_INTERVAL_S:
            self._last_log_s = now_s
            name = getattr(self._handler, "__qualname__", repr(self._handler))
            _logger.error("handler %s: a message was dropped (%d so far)", name, self._failed, exc_info=error)


def is_message(value: Any) -> TypeGuard[Message]:
    if type(value) is not list and (
        not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray, memoryview, str))
    ):
        return False
    for frame in value:
        if not isinstance(frame, bytes):
            return False
    return len(value) > 0
