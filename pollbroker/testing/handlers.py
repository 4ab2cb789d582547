"""Handlers for scenarios: one that misbehaves by plan, and one that records the messages of another handler."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from types import CellType, FunctionType
from typing import Any, NamedTuple, TypeGuard, cast

from pollbroker.pump import Handler, Message, To
from pollbroker.pump.message import HandlerResult, is_message
from pollbroker.testing.trace import Event, Failed, FlowKey, Frames, Handled, Iterated, Path, Returned


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


def fresh_copy(handler: Handler, copies: dict[int, Any]) -> Handler:
    """Return a copy of a handler that shares no memory with it, so that a scenario runs the same whatever ran before.

    What a handler remembers is copied where it is a part of the handler: the object that the handler is or is a method
    of, and a function's default arguments and the variables that it closes over. Global variables are not copied. A
    handler that cannot be copied, because it has a lock for example, is returned as it is.

    Arguments:
        copies: what has been copied for this scenario, by identity, so that handlers that share memory still share it.
    """
    try:
        return _copied_function(handler, copies) if isinstance(handler, FunctionType) else deepcopy(handler, copies)
    except Exception:  # noqa: BLE001 - deepcopy raises what the objects that it copies raise
        return handler


def _copied_function(function: FunctionType, copies: dict[int, Any]) -> Handler:
    if id(function) in copies:
        copied: FunctionType = copies[id(function)]
        return copied
    for cell in function.__closure__ or ():
        if id(cell) not in copies:
            copies[id(cell)] = CellType(deepcopy(cell.cell_contents, copies))
    copied = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        deepcopy(function.__defaults__, copies),
        tuple(copies[id(cell)] for cell in function.__closure__ or ()),
    )
    copied.__kwdefaults__ = deepcopy(function.__kwdefaults__, copies)
    copied.__qualname__ = function.__qualname__
    copies[id(function)] = copied
    return copied


class Given(NamedTuple):
    """A message that a handler gave."""

    port: str | None
    """The sink that it is for; None for every sink."""
    frames: Frames


def as_the_engine_takes_it(result: object, sinks: tuple[str, ...]) -> Given | str:
    """One result of a handler: the message that the engine sends, or the reason why the engine cannot send it.

    Arguments:
        sinks: the sinks of the route.
    """
    port, message = (result.port, result.frames) if isinstance(result, To) else (None, result)
    if not is_message(message):
        return f"gave an object of type {type(message).__name__}, which is not a message"
    if port is not None and port not in sinks:
        return f"gave a message to {port!r}, which is not a sink of the route"
    return Given(port, tuple(message))


def is_iterator(result: object) -> TypeGuard[Iterator[Any]]:
    """Return True if the engine takes the result of a handler for several messages."""
    return not isinstance(result, list) and isinstance(result, Iterator)


def recording_handler(
    handler: Handler,
    record: Callable[[Event], object],
    path: Path,
    flow: FlowKey,
    subscribers: Callable[[str | None, Frames], frozenset[str]],
) -> Handler:
    """Return the same handler, with each message that it is given and each message that it returns recorded.

    Arguments:
        handler: the handler to call.
        record: called with each event.
        path: the path that leads through the handler.
        flow: the flow that has the handler.
        subscribers: returns the subscribers that are to receive a message, given its frames and the port that it is
            for (None: every sink).
    """
    name = path.name
    sinks = tuple(sink.port for sink in path.sinks)

    def record_result(result: object) -> None:
        given = as_the_engine_takes_it(result, sinks)
        if isinstance(given, str):
            record(Failed(name, flow, given))
        else:
            record(Returned(name, flow, given.frames, given.port, subscribers(given.port, given.frames)))

    def recorded_results(results: Iterator[Message | To]) -> Iterator[Message | To]:
        record(Iterated(name, False, flow))
        try:
            for result in results:
                record_result(result)
                yield result
        except Exception as error:
            record(Failed(name, flow, f"raised {error!r}"))
            record(Iterated(name, True, flow))
            raise
        record(Iterated(name, True, flow))

    function = cast(Callable[[list[bytes]], HandlerResult], handler)  # no coroutine function comes this far

    def handle(frames: list[bytes]) -> HandlerResult:
        record(Handled(name, flow, tuple(frames)))
        try:
            result = function(frames)
        except Exception as error:
            record(Failed(name, flow, f"raised {error!r}"))
            raise
        if is_iterator(result):
            return recorded_results(result)
        if result is not None:
            record_result(result)
        return result

    return handle
