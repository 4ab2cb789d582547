"""Handlers for scenarios: one that misbehaves by plan, and one that writes down what another is given and gives."""

from collections.abc import Callable, Iterator
from typing import Any

from pollbroker.pump import Handler, Message, To
from pollbroker.pump.message import is_message
from pollbroker.testing.trace import Event, FlowKey, Frames, Handled, Iterated, Returned


class DeliberateError(Exception):
    """What a handler raises that is to raise."""


def scripted_handler(behaviour: tuple[int | str, ...]) -> Handler:
    """A handler that does one thing after the other, over and over; see `LinePlan.behaviour`."""
    calls = 0

    def handle(frames: list[bytes]) -> Any:
        nonlocal calls
        what = behaviour[calls % len(behaviour)]
        calls += 1
        if what == "raise":
            raise DeliberateError
        if what == "nonsense":
            return "no message"
        if what == "one":
            return frames
        assert isinstance(what, int)
        return _copies(frames, what)

    return handle


def _copies(frames: list[bytes], count: int) -> Iterator[list[bytes]]:
    for number in range(count):
        yield [*frames, b"copy %d" % number]


def recording_handler(handler: Handler, record: Callable[[Event], object], path: str, flow: FlowKey) -> Handler:
    """The same handler, of which a record is made: each message that it is given, each that it gives."""

    def note(result: object) -> None:
        message = result.frames if isinstance(result, To) else result
        if is_message(message):
            record(Returned(path, flow, tuple(message)))

    def pulled(results: Iterator[Message | To]) -> Iterator[Message | To]:
        record(Iterated(path, False))
        try:
            for result in results:
                note(result)
                yield result
        except Exception:
            record(Iterated(path, True))
            raise
        record(Iterated(path, True))

    def handle(frames: list[bytes]) -> Message | To | Iterator[Message | To] | None:
        given: Frames = tuple(frames)
        record(Handled(path, flow, given))
        result = handler(frames)
        if type(result) is not list and isinstance(result, Iterator):
            return pulled(result)
        note(result)
        return result

    return handle
