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

import zmq

from pollbroker.pump.contract import EMPTY, FULL, LIMIT, Handler, Message, Socket
from pollbroker.pump.sending import DONTWAIT, REFUSED, SENT, Sending
from pollbroker.statistics import Counters

_logger = logging.getLogger("pollbroker")

_LOG_INTERVAL_S: Final = 1.0


class HandlerPump:
    """Moves messages from `source` through `handler` to `sink`; see `pollbroker.pump.contract`."""

    def __init__(
        self,
        source: Socket,
        sink: Socket,
        handler: Handler,
        *,
        capture: Socket | None = None,
        prefix: bytes | None = None,
        drop_slow_peer: bool = True,
    ) -> None:
        self._source = source
        self._handler = handler
        self._sending = Sending(sink, capture, prefix, drop_slow_peer)
        self._held: Message | None = None
        self._rest: Iterator[Message] | None = None
        self._last_log_s = float("-inf")
        self._received = 0
        self._received_frames = 0
        self._received_bytes = 0
        self._added = 0
        self._filtered = 0
        self._failed = 0

    @property
    def received(self) -> int:
        return self._received

    @property
    def sent(self) -> int:
        return self._sending.sent

    @property
    def held(self) -> int:
        return 0 if self._held is None else 1

    def counters(self) -> Counters:
        return self._sending.add_to(
            Counters(
                received=self._received,
                received_frames=self._received_frames,
                received_bytes=self._received_bytes,
                held=self.held,
                added=self._added,
                filtered=self._filtered,
                failed=self._failed,
            )
        )

    def move(self, limit_messages: int, limit_bytes: int, /) -> int:
        messages = moved_bytes = 0
        while messages < limit_messages and moved_bytes < limit_bytes:
            if self._held is None:
                if self._rest is not None:
                    self._held = self._next(self._rest, first=False)
                else:
                    frames = self._receive()
                    if frames is None:
                        return EMPTY
                    moved_bytes += sum(map(len, frames))
                    self._held = self._handle(frames)
            if self._held is not None:
                if self._send(self._held) == REFUSED:
                    return FULL
                self._held = None
            messages += 1
        return LIMIT

    def _receive(self) -> list[bytes] | None:
        try:
            frames = self._source.recv_multipart(DONTWAIT)
        except zmq.Again:
            return None
        self._received += 1
        self._received_frames += len(frames)
        self._received_bytes += sum(map(len, frames))
        return frames

    def _handle(self, frames: list[bytes]) -> Message | None:
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
        if isinstance(result, Iterator):
            self._rest = result
            return self._next(result, first=True)
        return self._checked(result)

    def _next(self, rest: Iterator[Message], *, first: bool) -> Message | None:
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

    def _checked(self, message: Any) -> Message | None:
        """The message as a list of its own, since a handler may use one list again; or None (counted) if it is none."""
        try:
            if _is_message(message):
                return list(message)
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

    def _send(self, message: Message) -> int:
        last = len(message) - 1
        outcome = self._sending.offer(message[0], last > 0)
        if outcome == SENT:
            for i in range(1, last + 1):
                self._sending.follow(message[i], i < last)
        return outcome


def _is_message(value: Any) -> TypeGuard[Message]:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, (bytes, bytearray, memoryview, str))
        and len(value) > 0
        and all(isinstance(frame, bytes) for frame in value)
    )
