"""The calls of the handlers in a run, and whose message each result carries.

A message is known by its mark, the frame that is in no other message (`peers.py`). A result carries the message whose
mark is in one of its frames, alone or among other bytes, in capitals or not. A result without a mark carries the
message of the call that gave it: the handler has made it from that message, as far as anyone can tell.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from pollbroker.testing.invariants.legs import shown
from pollbroker.testing.peers import mark_of
from pollbroker.testing.trace import Failed, FlowKey, Frames, Handled, Iterated, Path, Returned, Trace

_MARK: Final = re.compile(rb"#[^/#]+/\d+#")
"""A mark among other bytes, as it is in a frame of JSON."""

_MOST_SHOWN: Final = 3
"""How many results of a call an error message shows."""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a handler: the message that it was given, and all that it gave back.

    As a string it is the route, the message and the results, for the error of a promise.
    """

    path: Path
    """The path that leads through the handler."""
    flow: FlowKey
    """The flow that called the handler."""
    frames: Frames
    """The message that the handler was given."""
    outcomes: tuple[Returned | Failed, ...]
    """What it gave, in order: messages, and failures, each of which is a message that the engine dropped."""
    ended: bool
    """False if the handler returned an iterator that had not been read to its end when the run was over."""

    @property
    def results(self) -> tuple[Returned, ...]:
        """The messages that the handler gave, in order."""
        return tuple(one for one in self.outcomes if isinstance(one, Returned))

    @property
    def source(self) -> str:
        """The port at which the route begins."""
        return self.flow.source

    @property
    def route(self) -> str:
        """The route, as text."""
        return route_of(self.path)

    @property
    def mark(self) -> bytes | None:
        """The mark of the message; None for a subscription, which has none."""
        return mark_of(self.frames)

    @property
    def envelope(self) -> Frames:
        """The frames before the mark: the routing id, the empty delimiter, or the topic, as far as the message has
        them."""
        return self.frames[: self.frames.index(self.mark)] if self.mark is not None else ()

    def __str__(self) -> str:
        return f"{self.route}: given {shown(self.frames)}, the handler {gave(self.outcomes)}"


def route_of(path: Path) -> str:
    """The route of a path, as an error of its device names it."""
    return f"route {path.flows[0].source} -> {', '.join(sink.port for sink in path.sinks)}"


def gave(outcomes: Iterable[Returned | Failed]) -> str:
    """What a handler gave, as text for an error message."""
    texts = [_gave_one(one) for one in outcomes]
    more = f", and {len(texts) - _MOST_SHOWN} more" if len(texts) > _MOST_SHOWN else ""
    return ", then ".join(texts[:_MOST_SHOWN] or ["gave nothing"]) + more


def _gave_one(outcome: Returned | Failed) -> str:
    if isinstance(outcome, Failed):
        return outcome.reason
    return f"gave {shown(outcome.frames)}" + (f" for {outcome.port}" if outcome.port is not None else "")


def calls_of(trace: Trace) -> list[Call]:
    """The calls of handlers in a run, in the order in which they were made."""
    known: int
    calls: list[Call]
    known, calls = trace.memory.get("calls", (-1, []))
    if known != len(trace.events):
        calls = _read_calls(trace)
        trace.memory["calls"] = len(trace.events), calls
    return calls


def _read_calls(trace: Trace) -> list[Call]:
    given: list[Handled] = []
    outcomes: list[list[Returned | Failed]] = []
    ended: list[bool] = []
    latest: dict[FlowKey | None, int] = {}
    for event in trace.events:
        if isinstance(event, Handled):
            latest[event.flow] = len(given)
            given.append(event)
            outcomes.append([])
            ended.append(True)
        elif isinstance(event, (Returned, Failed)):
            outcomes[latest[event.flow]].append(event)
        elif isinstance(event, Iterated):
            ended[latest[event.flow]] = event.ended
    return [
        Call(trace.paths[one.path], one.flow, one.frames, tuple(several), over)
        for one, several, over in zip(given, outcomes, ended, strict=True)
    ]


class Origins:
    """Whose message each result carries."""

    def __init__(self, calls: Iterable[Call]) -> None:
        self._calls = {(call.flow, call.mark.lower()): call for call in calls if call.mark is not None}
        self._marks = {(flow.source, mark) for flow, mark in self._calls}

    def has_mark(self, call: Call, result: Returned) -> bool:
        """Return True if the mark of a message that this route has brought to a handler is in the result."""
        return bool(self._marks_in(call, result))

    def of(self, call: Call, result: Returned) -> list[Call]:
        """The calls whose messages a result carries.

        There is none if the result carries messages that another broker had given to this handler.
        """
        marks = self._marks_in(call, result)
        if not marks:
            return [call]
        return [self._calls[call.flow, mark] for mark in marks if (call.flow, mark) in self._calls]

    def _marks_in(self, call: Call, result: Returned) -> set[bytes]:
        found = {mark for frame in result.frames if b"#" in frame for mark in _MARK.findall(frame.lower())}
        return {mark for mark in found if (call.source, mark) in self._marks}
