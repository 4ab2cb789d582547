"""The promises that most handlers keep, ready-made: a handler loses nothing, keeps order and envelopes, and doubles
nothing.

Each is judged by the calls of the handlers alone. That what a handler gave arrives, and arrives once, is a promise of
the engine, which is in `INVARIANTS`.
"""

from typing import NoReturn

from pollbroker.errors import DeviceError
from pollbroker.testing.invariants.legs import shown
from pollbroker.testing.promises.calls import Call, Origins, calls_of
from pollbroker.testing.trace import FlowKey, Trace
from pollbroker.testing.violation import InvariantViolation


def loses_nothing(trace: Trace) -> None:
    """Each message that the handler is given leaves in the same call, at least once.

    Returning None breaks the promise, and so does yielding nothing, raising, and giving what cannot be sent: the
    messages that the engine counts as `filtered` and `failed` are those that the handler dropped. What the engine drops
    by a rule of its own, under another name, does not break it. A handler that keeps a message back until a later call
    breaks it, since nobody may ever make that call.
    """
    calls = calls_of(trace)
    origins = Origins(calls)
    for call in calls:
        if call.ended and not any(call in origins.of(call, result) for result in call.results):
            raise InvariantViolation("loses_nothing", f"{call}; the message is lost")


def one_to_one(trace: Trace) -> None:
    """The handler gives exactly one message for each message, in the same call.

    The one message may go to several sinks. Two `To` are two messages.
    """
    calls = calls_of(trace)
    origins = Origins(calls)
    for call in calls:
        expected = 1 if call.ended else min(1, len(call.results))
        if len(call.results) != expected:
            raise InvariantViolation("one_to_one", f"{call}: {len(call.results)} messages for one")
        for result in call.results:
            if call not in origins.of(call, result):
                raise InvariantViolation("one_to_one", f"{call}, which is another message")


def keeps_order(trace: Trace) -> None:
    """The messages from one source leave at each sink in the order in which they came; from a ROUTER, those of each
    peer.

    A message may leave several times, and it may be dropped. Raises `DeviceError` if no result of a call has a mark by
    which the kit could tell which message it was.
    """
    calls = calls_of(trace)
    origins = Origins(calls)
    places = {call: place for place, call in enumerate(calls)}
    latest: dict[tuple[FlowKey, str, bytes], Call] = {}
    for call in calls:
        if call.results and not any(origins.has_mark(call, result) for result in call.results):
            _refuse_without_marks(call)
        for result in call.results:
            for sink in call.path.sinks:
                if result.port not in (None, sink.port):
                    continue
                carried = sorted(origins.of(call, result), key=places.__getitem__)
                for one in carried:
                    before = latest.get((one.flow, sink.port, _peer(one)))
                    if before is not None and places[one] < places[before]:
                        raise InvariantViolation(
                            "keeps_order",
                            f"{one.route}: {shown(one.frames)} came before {shown(before.frames)} and left behind it "
                            f"at {sink.port}",
                        )
                latest |= {(one.flow, sink.port, _peer(one)): one for one in carried}


def _peer(call: Call) -> bytes:
    """The peer that sent a message, as far as the handler can tell: only a ROUTER says who it was."""
    return call.frames[0] if call.path.from_router else b""


def _refuse_without_marks(call: Call) -> NoReturn:
    raise DeviceError(
        f"{call.route}: keeps_order cannot be judged: given {shown(call.frames)}, the handler gave "
        f"{shown(call.results[0].frames)}, in which the mark {call.mark!r} can no longer be read; expected a handler "
        "that leaves it readable, or a promise of your own"
    )


def keeps_envelope(trace: Trace) -> None:
    """The routing frames in front of a message leave unchanged and in front: up to and with the empty delimiter, or the
    routing id alone if the peer sends no delimiter.

    It can be judged if the route begins at a ROUTER, or leads to one.
    """
    calls = calls_of(trace)
    origins = Origins(calls)
    for call in calls:
        for result in call.results:
            carried = origins.of(call, result)
            if carried and not any(result.frames[: len(one.envelope)] == one.envelope for one in carried):
                raise InvariantViolation(
                    "keeps_envelope",
                    f"{call}; expected the envelope {shown(carried[0].envelope)} in front",
                )
