"""Taps: watching the messages that pass a broker, without holding them up.

A sender shows each message that its sink has accepted to a `TapPoint`, which passes it on to the taps of the broker. A
tap keeps a number of messages until somebody takes them. What comes while it is full is counted, and not looked at. A
broker that nobody taps has no points, and its messages cost nothing more.

Bodies are kept only if they were asked for. Otherwise no byte of a message is kept but the routing id at a ROUTER, and
the topic at a PUB or XPUB, if it is a frame of its own.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

import zmq

from pollbroker.errors import ConfigError

ADDRESS_MAX_BYTES: Final = 255
"""How much of a routing id or a topic is kept. A routing id is never longer."""

BODY_MAX_BYTES: Final = 1024
"""How much of each frame is kept if bodies were asked for. It is to be looked at, and not to be stored."""

BODIES_MAX_BYTES: Final = 64 << 10
"""A tap that has kept so much of bodies is full, however few the messages are, so that they are told quickly."""


@dataclass(frozen=True)
class TappedMessage:
    """A message that a sink has accepted."""

    time_s: float
    """When: seconds since 1970, as `time.time()` gives them."""
    source: str
    """The port that it came from; empty where a behaviour has sent it."""
    sink: str
    """The port that has accepted it."""
    frames: int
    size: int
    """The bytes of all frames."""
    sizes: tuple[int, ...]
    """The bytes of each frame, up to the 64th."""
    routing_id: bytes = b""
    """Where one of the ports is a ROUTER: the peer that the message is from, or for."""
    topic: bytes = b""
    """Where the sink is a PUB or XPUB, and the topic is a frame of its own: the topic. Where it is an XSUB: what is
    subscribed to, or no longer. Up to 255 bytes."""
    bodies: tuple[bytes, ...] = ()
    """If bodies were asked for: up to 1,024 bytes of each frame, up to the 64th."""


class Tap:
    """Watches the messages that pass a broker; `Engine.tap` makes one. Any thread may take what it has seen.

    Use it as a context, or call `close` in the end.
    """

    def __init__(self, *, port: str | None, bodies: bool, most: int) -> None:
        if not isinstance(most, int) or most < 1:
            raise ConfigError(f"most: {most!r}: expected 1 message or more")
        self.port = port
        """The port that messages come from or go to that are watched; None for all."""
        self.bodies = bodies
        """True if bodies are kept."""
        self.lost = 0
        """How many messages were not looked at so far, because the tap was full."""
        self.ended = False
        """True if the broker was removed, or has ended or failed. If another broker has taken its place
        (`Engine.add`, `replaces`), that one is watched."""
        self.why_ended = ""
        """Why: such as `it was removed`."""
        self.cancel: Callable[[], object] = lambda: None
        """What the engine is asked to do when the tap is closed."""
        self.on_first: Callable[[], object] = lambda: None
        """Called in the engine's thread when there is something to take, and was nothing before, and at the end."""
        self._most = most
        self._messages: deque[TappedMessage] = deque()
        self._bytes = 0
        """How much of bodies is kept."""
        self._lock = threading.Lock()

    @property
    def full(self) -> bool:
        """True if no message can be kept until some are taken."""
        return len(self._messages) >= self._most or self._bytes >= BODIES_MAX_BYTES

    def keep(self, message: TappedMessage) -> None:
        """Keep a message until it is taken."""
        with self._lock:
            self._messages.append(message)
            self._bytes += sum(map(len, message.bodies))
            is_first = len(self._messages) == 1
        if is_first:
            self.on_first()

    def end(self, why: str) -> None:
        """Note that no more messages come, in the engine's thread."""
        self.ended, self.why_ended = True, why
        self.on_first()

    def take(self) -> list[TappedMessage]:
        """Return the messages that were seen since the last time, in the order in which sinks accepted them."""
        with self._lock:
            messages = list(self._messages)
            self._messages.clear()
            self._bytes = 0
        return messages

    def close(self) -> None:
        """Watch no more. Closing again does nothing."""
        self.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TapPoint:
    """Passes on what one sink of a flow has accepted to several taps; see `pollbroker.pump.contract`."""

    def __init__(
        self, source: str, source_type: zmq.SocketType | None, sink: str, sink_type: zmq.SocketType, taps: Iterable[Tap]
    ) -> None:
        self._source = source
        self._sink = sink
        self._taps = tuple(taps)
        self._has_routing_id = zmq.ROUTER in (source_type, sink_type)
        self._has_topic = not self._has_routing_id and sink_type in (zmq.PUB, zmq.XPUB)
        self._subscribes = not self._has_routing_id and sink_type == zmq.XSUB
        addressed = self._has_routing_id or self._has_topic or self._subscribes
        self.keep = BODY_MAX_BYTES if any(tap.bodies for tap in self._taps) else 0
        self.keep_first = max(self.keep, ADDRESS_MAX_BYTES + 1 if addressed else 0)

    def has_room(self) -> bool:
        return not all(tap.full for tap in self._taps)

    def lose(self, messages: int, /) -> None:
        for tap in self._taps:
            tap.lost += messages

    def note(self, frames: int, size: int, sizes: list[int], starts: list[bytes], /) -> None:
        routing_id = topic = b""
        if self._has_routing_id:
            routing_id = starts[0][:ADDRESS_MAX_BYTES]
        elif self._has_topic and frames > 1:
            topic = starts[0][:ADDRESS_MAX_BYTES]
        elif self._subscribes and frames == 1 and starts[0][:1] in (b"\0", b"\1"):
            topic = starts[0][1:]
        seen = (time.time(), self._source, self._sink, frames, size, tuple(sizes), routing_id, topic)
        for tap in self._taps:
            if tap.full:
                tap.lost += 1
            else:
                bodies = tuple(start[:BODY_MAX_BYTES] for start in starts) if tap.bodies else ()
                tap.keep(TappedMessage(*seen, bodies))
