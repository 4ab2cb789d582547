"""What every pump promises, whichever it is.

A pump is given two open sockets and moves whole messages from one to the other, never waiting. That they are open still
is the caller's to see to before each call. `tests/test_pump.py` holds every pump to this page.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeAlias

import zmq

from pollbroker.statistics import Counters

Socket: TypeAlias = zmq.Socket[Any]

Message: TypeAlias = Sequence[bytes]
"""What a handler may return or yield: one or more frames. It is given a `list[bytes]`."""

Handler: TypeAlias = Callable[[list[bytes]], Message | Iterator[Message] | None]

# Why `move` came back: plain integers, since they are compared once for every burst.
EMPTY: Final = 0
"""The source has nothing more."""
FULL: Final = 1
"""The sink refused a first frame, which the pump holds."""
LIMIT: Final = 2
"""The budget is spent; there may be more."""


class Pump(Protocol):
    """Moves whole messages from a source to a sink: until the source is empty, the sink full, or the budget spent."""

    @property
    def received(self) -> int:
        """Messages taken from the source so far."""

    @property
    def sent(self) -> int:
        """Messages that the sink has accepted so far."""

    @property
    def held(self) -> int:
        """Messages (0 or 1) taken from the source that the sink has not accepted."""

    def counters(self) -> Counters:
        """A snapshot of all counters."""

    def move(self, limit_messages: int, limit_bytes: int, /) -> int:
        """Move messages, beginning with the one that is held, and say why it ended: EMPTY, FULL or LIMIT.

        A dropped message counts against the limits like one that was sent. The message that exceeds `limit_bytes` is
        still moved whole.

        Raises `zmq.ZMQError` for what neither EAGAIN, EINTR nor EHOSTUNREACH explains; a first frame that could not be
        offered for that reason is still held.
        """


class PumpFactory(Protocol):
    """Makes a pump from `source` to `sink`."""

    def __call__(
        self,
        source: Socket,
        sink: Socket,
        /,
        *,
        capture: Socket | None = None,
        prefix: bytes | None = None,
        drop_slow_peer: bool = True,
    ) -> Pump:
        """Arguments: a `capture` socket for copies of what was sent, which a `prefix` frame precedes if there is one;
        `drop_slow_peer`: whether a message for a ROUTER's one full peer is dropped (counted), or held."""


class EventReaderFactory(Protocol):
    """Makes a function that reads a socket's ZMQ_EVENTS, and so processes its pending commands."""

    def __call__(self, socket: Socket, /) -> Callable[[], int]:
        """The function raises `zmq.ZMQError` if the socket is closed or its context terminated."""
