"""Devices whose handlers keep the promises of the kit, and devices whose handlers break them.

They are variables of a module, so that what the kit prints of them can be run as it is.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import zmq

from pollbroker import Device, Route, To
from pollbroker.testing import keeps_envelope, keeps_order, loses_nothing, one_to_one, pure
from pollbroker.testing.invariants import Invariant

Result = list[bytes] | To | Iterator[list[bytes] | To] | None


def pipe(handler: Callable[..., Any]) -> Device:
    return Device("pipe", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=handler),))


def fan(handler: Callable[..., Any]) -> Device:
    ports = {"intake": zmq.PULL, "a": zmq.PUSH, "b": zmq.PUSH}
    return Device("fan", ports=ports, routes=(Route("intake", ("a", "b"), via=handler),))


def desk(there: Callable[..., Any], back: Callable[..., Any] | None = None) -> Device:
    """A QUEUE with handlers."""
    routes = (Route("frontend", "backend", via=there), Route("backend", "frontend", via=back))
    return Device("desk", zmq.ROUTER, zmq.DEALER, routes, {"router_mandatory": 1})


def news(handler: Callable[..., Any]) -> Device:
    route = Route("frontend", "backend", via=handler)
    return Device("news", zmq.SUB, zmq.PUB, (route,), {"subscribe": b""})


# -- handlers that keep a promise --------------------------------------------------------------------------------------


def unchanged(message: list[bytes]) -> list[bytes]:
    return message


def nothing(message: list[bytes]) -> None:
    return None


def stamped(message: list[bytes]) -> list[bytes]:
    message.append(b"stamp")
    return message


def in_json(message: list[bytes]) -> list[bytes]:
    return [json.dumps([frame.decode("latin-1") for frame in message]).encode()]


def in_capitals(message: list[bytes]) -> list[bytes]:
    return [frame.upper() for frame in message]


def counted(message: list[bytes]) -> list[bytes]:
    """Nothing of the message is left, not even its mark."""
    return [b"%d frames" % len(message)]


def twice(message: list[bytes]) -> Iterator[list[bytes]]:
    yield message
    yield [*message, b"again"]


def short_ones(message: list[bytes]) -> list[bytes] | None:
    return message if len(message) < 4 else None


def stamped_behind_the_envelope(message: list[bytes]) -> list[bytes]:
    end = 2 if message[1:2] == [b""] else 1
    return [*message[:end], b"stamp", *message[end:]]


def to_one_or_all(message: list[bytes]) -> list[bytes] | To:
    return To("a", message) if len(message) % 2 else message


def to_each(message: list[bytes]) -> Iterator[To]:
    yield To("b", message)
    yield To("a", [*message, b"copy"])


def later_at_b(message: list[bytes]) -> Iterator[list[bytes] | To]:
    yield To("a", message)
    yield message


def refusing_long_ones(message: list[bytes]) -> list[bytes]:
    if len(message) > 3:
        raise ValueError(message)
    return message


class Across:
    """Lets a message overtake that of another peer, and no message of its own peer."""

    def __init__(self) -> None:
        self.held: list[bytes] | None = None

    def __call__(self, message: list[bytes]) -> Iterator[list[bytes]]:
        held, self.held = self.held, None
        if held is None:
            self.held = message
        elif held[0] == message[0]:
            yield held
            yield message
        else:
            yield message
            yield held


class LateAtB:
    """Gives a message to `a` at once, and the one before it to `b`: each sink gets them in order."""

    def __init__(self) -> None:
        self.held: list[bytes] | None = None

    def __call__(self, message: list[bytes]) -> Iterator[To]:
        held, self.held = self.held, message
        yield To("a", message)
        if held is not None:
            yield To("b", held)


# -- handlers that break a promise -------------------------------------------------------------------------------------


def short_bodies(message: list[bytes]) -> list[bytes] | None:
    return message if len(message[-1]) < 20 else None


def by_a_frame_that_may_be_missing(message: list[bytes]) -> list[bytes]:
    return [*message, message[2]]


def only_while_there_is_a_body(message: list[bytes]) -> Iterator[list[bytes]]:
    for frame in message[1:2]:
        yield [*message, frame]


def raising_behind_the_first_frame(message: list[bytes]) -> Iterator[list[bytes]]:
    if len(message) > 1:
        raise ValueError(message)
    yield message


def to_nowhere(message: list[bytes]) -> To:
    return To("a" if len(message) < 4 else "c", message)


def doubled(message: list[bytes]) -> Iterator[list[bytes]]:
    yield message
    if len(message) > 3:
        yield message


def doubled_at_a(message: list[bytes]) -> Iterator[list[bytes] | To]:
    yield message
    if len(message) > 3:
        yield To("a", message)


def without_routing_id(message: list[bytes]) -> list[bytes]:
    return message[1:]


def without_delimiter(message: list[bytes]) -> list[bytes]:
    return [message[0], *(frame for frame in message[1:] if frame)]


def behind_a_stamp(message: list[bytes]) -> list[bytes]:
    return [b"stamp", *message]


def to_somebody_else(message: list[bytes]) -> list[bytes]:
    return [b"somebody", *message[1:]]


def swapping() -> Callable[[list[bytes]], Iterator[list[bytes]]]:
    """Return a handler that remembers in a variable of this function."""
    held: list[list[bytes]] = []

    def swapped(message: list[bytes]) -> Iterator[list[bytes]]:
        held.append(message)
        if len(held) == 2:
            yield from reversed(held)
            held.clear()

    return swapped


class Late:
    """Gives each message a call too late."""

    def __init__(self) -> None:
        self.held: list[bytes] | None = None

    def __call__(self, message: list[bytes]) -> list[bytes] | None:
        held, self.held = self.held, message
        return held


class Repeating:
    """Gives the first message again and again."""

    def __init__(self) -> None:
        self.first: list[bytes] = []

    def __call__(self, message: list[bytes]) -> list[bytes]:
        self.first = self.first or message
        return self.first


class Numbering:
    def __init__(self) -> None:
        self.number = 0

    def handle(self, message: list[bytes]) -> list[bytes]:
        self.number += 1
        return [*message, b"%d" % self.number]


class EverySecond(Numbering):
    def handle(self, message: list[bytes]) -> list[bytes] | None:  # type: ignore[override]
        self.number += 1
        return message if self.number % 2 else None


class Alternating(Numbering):
    def handle(self, message: list[bytes]) -> To:  # type: ignore[override]
        self.number += 1
        return To("ab"[self.number % 2], message)


class Keeping:
    """Keeps the lists that it is given, changes them, and gives them again: a change that matters."""

    def __init__(self) -> None:
        self.known: dict[tuple[bytes, ...], list[bytes]] = {}

    def __call__(self, message: list[bytes]) -> list[bytes]:
        known = self.known.setdefault(tuple(message), message)
        known.append(b"seen")
        return known


UNCHANGED = pipe(unchanged)
STAMPED = pipe(stamped)
IN_JSON = pipe(in_json)
IN_CAPITALS = pipe(in_capitals)
COUNTED = pipe(counted)
TWICE = pipe(twice)
SHORT_ONES = pipe(short_ones)
REFUSING_LONG_ONES = pipe(refusing_long_ones)
TO_ONE_OR_ALL = fan(to_one_or_all)
TO_EACH = fan(to_each)
LATER_AT_B = fan(later_at_b)
LATE_AT_B = fan(LateAtB())
ACROSS = desk(Across(), unchanged)
STAMPED_BOTH_WAYS = desk(stamped_behind_the_envelope, stamped_behind_the_envelope)
NEWS_IN_CAPITALS = news(in_capitals)

SHORT_BODIES = pipe(short_bodies)
BY_A_FRAME = pipe(by_a_frame_that_may_be_missing)
WHILE_THERE_IS_A_BODY = pipe(only_while_there_is_a_body)
RAISING = pipe(raising_behind_the_first_frame)
TO_NOWHERE = fan(to_nowhere)
LATE = pipe(Late())
SWAPPED = pipe(swapping())
SWAPPED_AT_A_ROUTER = desk(swapping())
SWAPPED_BACK = desk(unchanged, swapping())
ACROSS_AT_A_PULL = pipe(Across())
REPEATING = pipe(Repeating())
NEWS_SWAPPED = news(swapping())
DOUBLED = pipe(doubled)
DOUBLED_AT_A = fan(doubled_at_a)
WITHOUT_ROUTING_ID = desk(without_routing_id)
WITHOUT_DELIMITER = desk(without_delimiter)
BEHIND_A_STAMP = desk(behind_a_stamp)
TO_SOMEBODY_ELSE = desk(unchanged, to_somebody_else)
NUMBERING = pipe(Numbering().handle)
EVERY_SECOND = pipe(EverySecond().handle)
ALTERNATING = fan(Alternating().handle)
KEEPING = pipe(Keeping())

KEPT: Final[tuple[tuple[Invariant, Device], ...]] = (
    *((loses_nothing, device) for device in (STAMPED, TWICE, IN_JSON, COUNTED, TO_ONE_OR_ALL, TO_EACH)),
    *((keeps_order, device) for device in (SHORT_ONES, TWICE, IN_JSON, IN_CAPITALS, LATE, LATER_AT_B, ACROSS)),
    *((keeps_order, device) for device in (REFUSING_LONG_ONES, NEWS_IN_CAPITALS, LATE_AT_B)),
    *((keeps_envelope, device) for device in (STAMPED_BOTH_WAYS, ACROSS)),
    *((one_to_one, device) for device in (STAMPED, IN_JSON, COUNTED, TO_ONE_OR_ALL)),
    *((pure, device) for device in (STAMPED, TWICE, SHORT_ONES, TO_EACH, REFUSING_LONG_ONES)),
)
"""Promises, each with devices that keep it."""

BROKEN: Final[tuple[tuple[Invariant, Device], ...]] = (
    *((loses_nothing, device) for device in (SHORT_BODIES, BY_A_FRAME, WHILE_THERE_IS_A_BODY, TO_NOWHERE)),
    *((loses_nothing, device) for device in (LATE, REPEATING, EVERY_SECOND, RAISING)),
    *((keeps_order, device) for device in (SWAPPED, SWAPPED_AT_A_ROUTER, SWAPPED_BACK, ACROSS_AT_A_PULL)),
    *((keeps_order, device) for device in (NEWS_SWAPPED,)),
    *((keeps_envelope, device) for device in (WITHOUT_ROUTING_ID, WITHOUT_DELIMITER, BEHIND_A_STAMP)),
    *((keeps_envelope, device) for device in (TO_SOMEBODY_ELSE,)),
    *((one_to_one, device) for device in (DOUBLED, DOUBLED_AT_A, SHORT_BODIES, TO_NOWHERE, LATE, REPEATING)),
    *((pure, device) for device in (NUMBERING, EVERY_SECOND, ALTERNATING, KEEPING, LATE, SWAPPED)),
)
"""Promises, each with devices that break it."""
