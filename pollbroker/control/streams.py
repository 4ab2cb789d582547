"""Streams: what happens in an engine, or what passes a broker, for a client that follows it.

- `EVENTS` and `TAP` begin a stream, and answer with its id. `NEXT` with the id is answered with what has come since the
  last time, at once if there is something, and otherwise when there is, or after a second. So a client asks again and
  again, as fast as it can read; what is too much for it is lost and counted here, and nothing piles up on the way.
- A stream that nobody has asked for `LEASE_S` ends by itself, so that a client may simply leave.
- All of this is done in the engine's thread, in timers, and nothing waits.
"""

import json
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias

from pollbroker.control.arguments import as_text, find_broker, wrong_number
from pollbroker.control.replies import OK, Frames, shown
from pollbroker.control.steered import Steered
from pollbroker.errors import ControlError
from pollbroker.events import Event, EventReader
from pollbroker.taps import Tap, TappedMessage
from pollbroker.timers import Handle

Answer: TypeAlias = "Frames | Future[Frames]"
"""The frames of a reply, or a future for those of one that comes later. It is resolved in the engine's thread."""

LEASE_S: Final = 10.0
"""How long a stream stays when nobody asks for more."""

_WAIT_S: Final = 1.0
"""How long a NEXT waits for something, unless it says otherwise."""

_LONGEST_WAIT_S: Final = 5.0

_ANSWERS_APART_S: Final = 0.05
"""A client is answered no more often than this, so that one that follows busy traffic is given much at a time."""

_STREAMS_MOST: Final = 100

_EVENTS_KEPT: Final = 1000
_EVENTS_AT_ONCE: Final = 500
_MESSAGES_KEPT: Final = 200
_BODIES_KEPT: Final = 50
"""How many messages a tap keeps, with bodies and without. That is more in a second than anybody reads."""


class Source(Protocol):
    """What a stream is made of."""

    def take(self) -> tuple[list[dict[str, object]], int, str | None]:
        """What has come since the last time, how much was lost besides, and why the stream has ended, if it has."""

    def on_first(self, call: Callable[[], object]) -> None:
        """Have this called, in the engine's thread, when something has come where nothing was left."""

    def close(self) -> None: ...


@dataclass
class _Stream:
    source: Source
    lease: Handle
    next_answer_s: float = 0.0
    """When the client may be answered next."""
    waiting: "Future[Frames] | None" = None
    """The answer that the client waits for."""
    end_s: float = 0.0
    """Until when it waits, if there is nothing."""
    look: Handle | None = None
    """The timer for the next look whether there is something."""


class Streams:
    """The streams of one control socket. With `tap_bodies`, clients may be shown the bodies of messages."""

    def __init__(self, engine: Steered, *, tap_bodies: bool) -> None:
        self._engine = engine
        self._tap_bodies = tap_bodies
        self._streams: dict[bytes, _Stream] = {}
        self.commands: Mapping[bytes, Callable[[Frames], Answer]] = {
            b"EVENTS": self._begin_events,
            b"TAP": self._begin_tap,
            b"NEXT": self._next,
            b"END": self._end,
        }
        """What is called with the frames behind each command."""

    def close(self) -> None:
        """End all streams."""
        for number in list(self._streams):
            self._drop(number)

    # -- the commands -------------------------------------------------------------------------------------------------

    def _begin_events(self, arguments: Frames) -> Frames:
        if len(arguments) > 1:
            raise wrong_number("EVENTS", arguments, "the command and a broker's name")
        name = find_broker(self._engine, "EVENTS", arguments[0]) if arguments else None
        return self._begin(lambda: EventsSource(self._engine.events(_EVENTS_KEPT), name))

    def _begin_tap(self, arguments: Frames) -> Frames:
        if not 1 <= len(arguments) <= 3:
            expected = "the command, a broker's name, and if need be a port's name and BODIES"
            raise wrong_number("TAP", arguments, expected)
        name = find_broker(self._engine, "TAP", arguments[0])
        port, bodies = (*(as_text("TAP", one) for one in arguments[1:]), "", "")[:2]
        if bodies not in ("", "BODIES"):
            raise ControlError(f"TAP: {bodies!r}: expected BODIES, or nothing")
        if bodies and not self._tap_bodies:
            raise ControlError("TAP: bodies are not shown here; tap_bodies = true under [engine] of a daemon allows it")
        most = _BODIES_KEPT if bodies else _MESSAGES_KEPT
        return self._begin(
            lambda: TapSource(self._engine.tap(name, port=port or None, bodies=bool(bodies), most=most), name)
        )

    def _begin(self, make: Callable[[], Source]) -> Frames:
        if len(self._streams) >= _STREAMS_MOST:
            raise ControlError(f"{_STREAMS_MOST} streams are followed already; expected fewer")
        source = make()
        number = secrets.token_hex(8).encode()
        stream = _Stream(source, self._engine.call_later(LEASE_S, self._drop, number))
        self._streams[number] = stream
        source.on_first(partial(self._look_soon, number, stream))
        return [OK, number]

    def _next(self, arguments: Frames) -> "Future[Frames]":
        number, stream = self._find(b"NEXT", arguments[:1])
        wait_s = _seconds(arguments[1:])
        if stream.waiting is not None:
            self._answer(number, stream, stream.waiting, [], 0, None)  # its client has asked anew
        answer: Future[Frames] = Future()
        stream.waiting, stream.end_s = answer, time.monotonic() + wait_s
        stream.lease.cancel()
        self._look(number, stream)
        return answer

    def _end(self, arguments: Frames) -> Frames:
        number, stream = self._find(b"END", arguments)
        if stream.waiting is not None:
            self._answer(number, stream, stream.waiting, [], 0, "END has ended it")
        self._drop(number)
        return [b""]

    def _find(self, verb: bytes, arguments: Frames) -> tuple[bytes, _Stream]:
        if len(arguments) != 1:
            raise ControlError(f"{verb.decode()}: expected the id of a stream, which EVENTS or TAP has answered")
        stream = self._streams.get(arguments[0])
        if stream is None:
            raise ControlError(
                f"{verb.decode()}: {shown(arguments[0])} is not a stream: it has ended, or nobody has asked for more "
                f"within {LEASE_S:g} s"
            )
        return arguments[0], stream

    # -- one stream ---------------------------------------------------------------------------------------------------

    def _look(self, number: bytes, stream: _Stream) -> None:
        """Answer if there is something, or if the time is over; otherwise look again when it is."""
        stream.look = None
        if stream.waiting is None:
            return
        now_s = time.monotonic()
        if now_s < stream.next_answer_s:
            self._look_at(stream.next_answer_s, number, stream)
            return
        items, lost, ended = stream.source.take()
        if items or lost or ended or now_s >= stream.end_s:
            self._answer(number, stream, stream.waiting, items, lost, ended)
        else:
            self._look_at(stream.end_s, number, stream)

    def _look_soon(self, number: bytes, stream: _Stream) -> None:
        """Something has come: look as soon as the client may be answered. It is not looked at once, since what has come
        is being passed on just now."""
        if stream.waiting is not None:
            self._look_at(stream.next_answer_s, number, stream)

    def _look_at(self, time_s: float, number: bytes, stream: _Stream) -> None:
        if stream.look is not None:
            stream.look.cancel()
        stream.look = self._engine.call_later(max(0.0, time_s - time.monotonic()), self._look, number, stream)

    def _answer(
        self,
        number: bytes,
        stream: _Stream,
        answer: "Future[Frames]",
        items: list[dict[str, object]],
        lost: int,
        ended: str | None,
    ) -> None:
        if stream.look is not None:
            stream.look.cancel()
        stream.waiting, stream.look = None, None
        stream.next_answer_s = time.monotonic() + _ANSWERS_APART_S
        if ended is None:
            stream.lease.cancel()
            stream.lease = self._engine.call_later(LEASE_S, self._drop, number)
        else:
            self._drop(number)
        answer.set_result([OK, json.dumps({"items": items, "lost": lost, "ended": ended}).encode()])

    def _drop(self, number: bytes) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.lease.cancel()
            if stream.look is not None:
                stream.look.cancel()
            stream.source.close()


class EventsSource:
    """Events, of all brokers or of one."""

    def __init__(self, reader: EventReader, broker: str | None) -> None:
        self._reader = reader
        self._broker = broker
        self.close = reader.close

    def on_first(self, call: Callable[[], object]) -> None:
        """See `Source`."""
        self._reader.on_first = call

    def take(self) -> tuple[list[dict[str, object]], int, str | None]:
        """See `Source`. An event says where some are lost, so that nothing is counted here."""
        items: list[dict[str, object]] = []
        while len(items) < _EVENTS_AT_ONCE and (event := self._reader.read(0)) is not None:
            if self._broker in (None, event.broker) or not event.broker:
                items.append(event_as_json(event))
        return items, 0, None


class TapSource:
    """The messages that pass a broker."""

    def __init__(self, tap: Tap, broker: str) -> None:
        self._tap = tap
        self._broker = broker
        self._told = 0
        self.close = tap.close

    def on_first(self, call: Callable[[], object]) -> None:
        """See `Source`."""
        self._tap.on_first = call

    def take(self) -> tuple[list[dict[str, object]], int, str | None]:
        """See `Source`."""
        ended = f"brokers.{self._broker}: {self._tap.why_ended}" if self._tap.ended else None
        items = [message_as_json(message, bodies=self._tap.bodies) for message in self._tap.take()]
        lost, self._told = self._tap.lost - self._told, self._tap.lost
        return items, lost, ended


def event_as_json(event: Event) -> dict[str, object]:
    """The fields of an event."""
    return vars(event).copy()


def message_as_json(message: TappedMessage, *, bodies: bool) -> dict[str, object]:
    """The fields of a message. What is not printable text is told in hexadecimal digits."""
    told = vars(message) | {"routing_id": printable(message.routing_id), "topic": printable(message.topic)}
    del told["bodies"]
    return told | {"bodies": list(map(printable, message.bodies))} if bodies else told


def printable(some: bytes) -> str:
    """Bytes as text, or in hexadecimal digits if they are not printable."""
    try:
        text = some.decode()
    except UnicodeDecodeError:
        return f"0x{some.hex()}"
    return text if text.isprintable() else f"0x{some.hex()}"


def _seconds(arguments: Frames) -> float:
    try:
        wait_s = float(arguments[0]) if arguments else _WAIT_S
    except ValueError:
        wait_s = -1.0
    if len(arguments) > 1 or not 0 <= wait_s <= _LONGEST_WAIT_S:
        raise ControlError(f"NEXT: expected the id of a stream, and seconds to wait, 0 to {_LONGEST_WAIT_S:g}")
    return wait_s
