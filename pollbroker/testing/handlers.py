"""Handlers for scenarios: one that misbehaves by plan, and one that records the messages of another handler."""

from collections.abc import Callable, Iterator
from typing import Any

from pollbroker.pump import Handler, Message, To
from pollbroker.pump.message import is_message
from pollbroker.testing.trace import Event, FlowKey, Frames, Handled, Iterated, Returned


class DeliberateError(Exception):
    """Raised by a handler whose plan says that it raises."""


def scripted_handler(behaviour: tuple[int | str, ...]) -> Handler:
    """Return a handler that repeats the given actions, one for each message; see `LinePlan.behaviour`."""
    calls = 0

    def handle(frames: list[bytes]) -> Any:
        nonlocal calls
        action = behaviour[calls % len(behaviour)]
        calls += 1
        if action == "raise":
            raise DeliberateError
        if action == "nonsense":
            return "no message"
        if action == "one":
            return frames
        assert isinstance(action, int)
        return _copies(frames, action)

    return handle


def _copies(frames: list[bytes], count: int) -> Iterator[list[bytes]]:
    for number in range(count):
        yield [*frames, b"copy %d" % number]


def recording_handler(
    handler: Handler,
    record: Callable[[Event], object],
    path: str,
    flow: FlowKey,
    subscribers: Callable[[str | None, Frames], frozenset[str]],
) -> Handler:
    """Return the same handler, with each message that it is given and each message that it returns recorded.

    Arguments:
        handler: the handler to call.
        record: called with each event.
        path: the name of the path that leads through the handler.
        flow: the flow that has the handler.
        subscribers: returns the subscribers that are to receive a message, given its frames and the port that it is
            for (None: every sink).
    """

    def record_result(result: object) -> None:
        port, message = (result.port, result.frames) if isinstance(result, To) else (None, result)
        if is_message(message):
            frames = tuple(message)
            record(Returned(path, flow, frames, port, subscribers(port, frames)))

    def recorded_results(results: Iterator[Message | To]) -> Iterator[Message | To]:
        record(Iterated(path, False))
        try:
            for result in results:
                record_result(result)
                yield result
        except Exception:
            record(Iterated(path, True))
            raise
        record(Iterated(path, True))

    def handle(frames: list[bytes]) -> Message | To | Iterator[Message | To] | None:
        given: Frames = tuple(frames)
        record(Handled(path, flow, given))
        result: Any = handler(frames)  # a coroutine handler is refused before it comes here
        if type(result) is not list and isinstance(result, Iterator):
            return recorded_results(result)
        record_result(result)
        return result

    return handle
