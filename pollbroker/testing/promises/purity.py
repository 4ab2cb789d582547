"""The promise that a handler is pure: what it gives depends on what it is given, and on nothing else."""

from collections.abc import Iterable, Iterator
from itertools import islice

from pollbroker.pump import Handler
from pollbroker.testing.handlers import as_the_engine_takes_it, is_iterator
from pollbroker.testing.promises.calls import Call, calls_of, gave
from pollbroker.testing.trace import Failed, Frames, Returned, Trace
from pollbroker.testing.violation import InvariantViolation


def pure(trace: Trace) -> None:
    """The handler gives the same for the same frames, whatever it was given before: the same messages for the same
    sinks in the same order, and where it failed it fails again.

    At the end of a run the handler is given each message once more, in a list of its own. It may change that list and
    return it, as it may in a broker: nobody else has the list, and what the handler gives is sent or copied before the
    handler is called again. A change matters, and is found, if it shows in what a later call gives.
    """
    for call in calls_of(trace):
        again = _call_again(trace.handlers[call.path.name], call)
        if _comparable(again) != _comparable(call.outcomes):
            raise InvariantViolation("pure", f"{call}, and given the same again it {gave(again)}")


def _call_again(handler: Handler, call: Call) -> list[Returned | Failed]:
    """What a handler gives for the message of a call: of an iterator that the run had not read to its end, only as many
    results as were read."""
    path = call.path
    sinks = tuple(sink.port for sink in path.sinks)
    outcomes: list[Returned | Failed] = []
    try:
        result = handler(list(call.frames))
        results: Iterator[object] = result if is_iterator(result) else iter(() if result is None else (result,))
        for one in islice(results, len(call.outcomes) + call.ended):
            given = as_the_engine_takes_it(one, sinks)
            if isinstance(given, str):
                outcomes.append(Failed(path.name, call.flow, given))
            else:
                outcomes.append(Returned(path.name, call.flow, given.frames, given.port))
    except Exception as error:  # noqa: BLE001 - any error of a handler is a failure
        outcomes.append(Failed(path.name, call.flow, f"raised {error!r}"))
    return outcomes


def _comparable(outcomes: Iterable[Returned | Failed]) -> list[tuple[str | None, Frames] | None]:
    """What must be the same in another call: an error may say another thing each time."""
    return [(one.port, one.frames) if isinstance(one, Returned) else None for one in outcomes]
