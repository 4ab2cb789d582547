"""The invariants, each with a trace that breaks it."""

import pickle
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker.statistics import FlowStatistics, PortStatistics
from pollbroker.testing import InvariantViolation, Trace, check_trace
from pollbroker.testing.trace import (
    Copied,
    Counted,
    FlowKey,
    Got,
    Handled,
    Heard,
    Iterated,
    Joined,
    Left,
    Lost,
    Path,
    PortCounted,
    Returned,
    Sent,
    Sink,
    Slept,
    Steered,
    Turned,
    Wanted,
)

FLOW = FlowKey("b", "frontend")

PATH = Path("p", "line", (Sink("backend"),), (FLOW,))

ADDRESSED = replace(PATH, sinks=(Sink("backend", is_addressed=True),))

ONE = (b"#a/1#", b"x", b"y")

TWO = (b"#a/2#", b"z")

OF_ANOTHER = (b"#w/1#", b"z")


def sent(frames: tuple[bytes, ...], path: str = "p", peer: str = "a", **more: Any) -> Sent:
    mark = next(frame for frame in frames if frame.startswith(b"#"))
    return Sent(path, peer, mark, frames, **more)


def got(frames: tuple[bytes, ...], peer: str = "c", path: str = "p", tail: bool = False, port: str = "") -> Got:
    return Got(path, peer, frames, tail, port)


def counted(flow: FlowKey = FLOW, state: str = "running", **counters: Any) -> Counted:
    return Counted(flow, state, FlowStatistics(state=counters.pop("flow_state", "waiting"), **counters))


def size(*messages: tuple[bytes, ...]) -> dict[str, Any]:
    frames, total = sum(map(len, messages)), sum(len(frame) for message in messages for frame in message)
    return {
        f"{what}{unit}": value
        for what in ("received", "sent")
        for unit, value in (("", len(messages)), ("_frames", frames), ("_bytes", total))
    }


DROPPED = {name: value for name, value in size(ONE).items() if name.startswith("received")} | {"unroutable": 1}
"""The counters of a flow that has received a message, and has dropped it since its peer was gone."""


def trace_of(*events: Any, paths: tuple[Path, ...] = (PATH,), **more: Any) -> Trace:
    return Trace(paths={path.name: path for path in paths}, events=list(events), **more)


ROUTED = replace(PATH, sinks=(Sink("backend", to_router=True),))

MANY = replace(PATH, sinks=(Sink("backend", to_many=True),))

HANDLED = replace(PATH, handled=True)

UPSTREAM = replace(PATH, upstream=True)

OTHER = Path("q", "other", (Sink("backend"),), (FlowKey("d", "frontend"),))

GONE = (Joined("c", "line", "backend", zmq.SocketType.PULL), Left("c"))

COMPLETE: dict[str, Any] = {"complete": {"p"}}

PUBLISHER = Joined("a", "line", "backend", zmq.SocketType.XPUB)

TEE = replace(PATH, sinks=(Sink("x"), Sink("y")))

FANNED = replace(TEE, handled=True)

TO_X = Returned("p", FLOW, ONE, "x")


def port_counted(port: str, *messages: tuple[bytes, ...]) -> PortCounted:
    counters = {name: count for name, count in size(*messages).items() if name.startswith("sent")}
    return PortCounted("b", port, PortStatistics("PUSH", (), **counters))


def teed(one: int, sent: int, held: int = 0) -> Counted:
    """The counters of a tee after one message of this size, of which so many copies were sent and held."""
    counters = size(ONE) | {"sent": sent, "sent_frames": 3 * sent, "sent_bytes": one * sent}
    return counted(**counters, held=held, added=1, sinks=("x", "y"))


BROKEN: dict[str, tuple[str, Trace]] = {
    "a frame is missing": ("whole and unchanged", trace_of(sent(ONE), got(ONE[:2]))),
    "frames that nobody sent": ("whole and unchanged", trace_of(sent(ONE), got((b"x", b"y")))),
    "frames of two messages": ("whole and unchanged", trace_of(sent(ONE), sent(TWO), got(ONE + TWO))),
    "frames swapped": ("whole and unchanged", trace_of(sent(ONE), got((b"#a/1#", b"y", b"x")))),
    "a handler was shown half": (
        "whole and unchanged",
        trace_of(sent(ONE), Handled("p", FLOW, ONE[:2]), paths=(HANDLED,)),
    ),
    "another line's message": ("nothing crosses", trace_of(sent(ONE), got(ONE, path="q"), paths=(PATH, OTHER))),
    "to the wrong peer": (
        "reply to its requester",
        trace_of(sent((b"A", b"#w/1#")), got((b"B", b"#w/1#")), paths=(ROUTED,)),
    ),
    "an answer to who did not ask": (
        "reply to its requester",
        trace_of(
            Joined("a", "line", "frontend", zmq.SocketType.DEALER, b"A"),
            sent((b"A", b"#a/1#"), path="q"),
            sent((b"B", b"#w/1#"), answers=b"#a/1#"),
            got((b"B", b"#w/1#")),
            paths=(ROUTED, OTHER),
        ),
    ),
    "twice": ("no duplicate", trace_of(sent(ONE), got(ONE), got(ONE, "d"))),
    "a subscriber twice": ("no duplicate", trace_of(sent(ONE), got(ONE), got(ONE, "d"), got(ONE), paths=(MANY,))),
    "the later first": ("order", trace_of(sent(ONE), sent(TWO), got(TWO), got(ONE))),
    "the later first, and a leaver without a queue": (
        "order",
        trace_of(sent(ONE), sent(TWO), *GONE, got(TWO), got(ONE)),
    ),
    "the later first, and nobody has left before": (
        "order",
        trace_of(sent(ONE), sent(TWO), got(TWO), got(ONE), *GONE, queues=True),
    ),
    "moved while paused": (
        "nothing moves while paused",
        trace_of(counted(), Steered("b", "paused"), counted(received=1, held=1)),
    ),
    "held a second time": ("the account balances", trace_of(counted(received=2, sent=1, held=2))),
    "a count too many": ("the account balances", trace_of(counted(received=1, sent=1, held=1))),
    "a count went back": (
        "the account balances",
        trace_of(counted(received=2, sent=2), counted(received=1, sent=1)),
    ),
    "asleep": ("progress", trace_of(Slept(frozenset({FLOW})))),
    "passed over": ("progress", trace_of(*[Turned(frozenset({FLOW})), counted()] * 4, patience=2)),
    "a burst too long": (
        "fairness",
        trace_of(counted(), Turned(), counted(received=3, sent=3), burst_messages=2, burst_bytes=100),
    ),
    "a burst too large": (
        "fairness",
        trace_of(
            counted(), Turned(), counted(received=2, sent=2, received_bytes=500), burst_messages=2, burst_bytes=100
        ),
    ),
    "lost": ("no loss beyond the counted", trace_of(sent(ONE), counted(received=1, sent=1), **COMPLETE)),
    "dropped where any other peer would do": (
        "no loss beyond the counted",
        trace_of(sent(ONE), counted(**DROPPED), **COMPLETE),
    ),
    "lost with a leaver who had less room": (
        "no loss beyond the counted",
        trace_of(
            *(sent((b"#a/%d" % number,)) for number in range(3)),
            Joined("lineb0", "line", "backend", zmq.SocketType.PULL),
            Left("lineb0"),
            counted(received=3, sent=3),
            paths=(replace(PATH, capacity=2),),
            **COMPLETE,
        ),
    ),
    "lost though no leaver had it": (
        "no loss beyond the counted",
        trace_of(sent(ONE), counted(received=1, sent=1), Lost("b", "backend", 0), *GONE, **COMPLETE),
    ),
    "a subscriber without": (
        "no loss beyond the counted",
        trace_of(
            Joined("c", "line", "backend", zmq.SocketType.SUB),
            sent(ONE, expected_at=frozenset({"c"})),
            counted(**size(ONE)),
            paths=(MANY,),
            **COMPLETE,
        ),
    ),
    "counted frames for messages": (
        "counters are true",
        trace_of(sent(ONE), got(ONE), counted(**size(ONE) | {"received": 3, "sent": 3}), **COMPLETE),
    ),
    "bytes left out": (
        "counters are true",
        trace_of(sent(ONE), got(ONE), counted(**size(ONE) | {"sent_bytes": 1}), **COMPLETE),
    ),
    "an iterator left": (
        "counters are true",
        trace_of(
            sent(ONE),
            Handled("p", FLOW, ONE),
            Iterated("p", False),
            Returned("p", FLOW, ONE),
            got(ONE),
            counted(**size(ONE)),
            paths=(HANDLED,),
            **COMPLETE,
        ),
    ),
    "a copy of nothing": (
        "capture fidelity",
        trace_of(sent(ONE), Copied("b", ONE[:1]), captured={"b"}),
    ),
    "a copy twice": ("capture fidelity", trace_of(sent(ONE), Copied("b", ONE), Copied("b", ONE), captured={"b"})),
    "copies in another order": (
        "capture fidelity",
        trace_of(sent(ONE), sent(TWO), Copied("b", TWO), Copied("b", ONE), captured={"b"}),
    ),
    "copies in another order than their consumer got the originals": (
        "capture fidelity",
        trace_of(
            sent(ONE),
            sent(OF_ANOTHER, peer="w"),
            Copied("b", ONE),
            Copied("b", OF_ANOTHER),
            got(OF_ANOTHER),
            got(ONE),
            captured={"b"},
        ),
    ),
    "a copy that nobody counted": (
        "capture fidelity",
        trace_of(sent(ONE), got(ONE), counted(**size(ONE), captured=0), captured={"b"}, **COMPLETE),
    ),
    "a copy without its prefix": (
        "capture fidelity",
        trace_of(sent(ONE), Copied("b", ONE), captured={"b"}, prefixes={FLOW: b"in"}),
    ),
    "a subscription that did not travel": (
        "subscriptions travel upstream",
        trace_of(
            PUBLISHER,
            Joined("c", "line", "frontend", zmq.SocketType.SUB),
            Wanted("c", b"t", True),
            paths=(UPSTREAM,),
            **COMPLETE,
        ),
    ),
    "a subscription that did not end": (
        "subscriptions travel upstream",
        trace_of(PUBLISHER, Heard("a", b"t", True), paths=(UPSTREAM,), **COMPLETE),
    ),
    "a copy of a tee lost": (
        "no loss beyond the counted",
        trace_of(
            sent(ONE),
            got(ONE, port="x"),
            teed(6, 2),
            port_counted("x", ONE),
            port_counted("y", ONE),
            paths=(TEE,),
            **COMPLETE,
        ),
    ),
    "a copy of a tee twice": (
        "no duplicate",
        trace_of(sent(ONE), got(ONE, port="x"), got(ONE, port="x"), got(ONE, port="y"), paths=(TEE,)),
    ),
    "copies of a tee in another order": (
        "order",
        trace_of(
            sent(ONE), sent(TWO), got(ONE, port="x"), got(TWO, "d", port="y"), got(ONE, "d", port="y"), paths=(TEE,)
        ),
    ),
    "at a sink that a To does not name": (
        "nothing crosses",
        trace_of(sent(ONE), Handled("p", FLOW, ONE), TO_X, got(ONE, port="y"), paths=(FANNED,)),
    ),
    "more held than there are sinks": (
        "the account balances",
        trace_of(counted(received=3, held=3, sinks=("x", "y"))),
    ),
    "counted at another sink": (
        "counters are true",
        trace_of(
            sent(ONE),
            Handled("p", FLOW, ONE),
            TO_X,
            got(ONE, port="x"),
            counted(**size(ONE), sinks=("x", "y")),
            port_counted("x", ONE),
            port_counted("y", ONE),
            paths=(FANNED,),
            **COMPLETE,
        ),
    ),
    "a subscriber without what a handler returned": (
        "no loss beyond the counted",
        trace_of(
            Joined("c", "line", "backend", zmq.SocketType.SUB),
            sent(ONE),
            Handled("p", FLOW, ONE),
            Returned("p", FLOW, ONE, None, frozenset({"c"})),
            counted(**size(ONE)),
            paths=(replace(MANY, handled=True),),
            **COMPLETE,
        ),
    ),
    "a copy too many at the capture": (
        "capture fidelity",
        trace_of(sent(ONE), *[Copied("b", ONE)] * 3, captured={"b"}, paths=(TEE,)),
    ),
    "a broker that failed": ("brokers stay alive", trace_of(counted(state="failed"))),
    "a broker that ended by itself": ("brokers stay alive", trace_of(counted(state="ended"))),
    "a broker that did not end": ("brokers stay alive", trace_of(Steered("b", "ended"), counted())),
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_invariant_tells_what_went_wrong(what: str) -> None:
    invariant, trace = BROKEN[what]
    with pytest.raises(InvariantViolation) as caught:
        check_trace(trace)
    assert caught.value.invariant == invariant
    assert len(caught.value.account) < 300


WHOLE: dict[str, Trace] = {
    "nothing": trace_of(**COMPLETE),
    "one message": trace_of(sent(ONE), got(ONE), counted(**size(ONE)), **COMPLETE),
    "two to two": trace_of(sent(ONE), sent(TWO), got(TWO, "d"), got(ONE), counted(**size(ONE, TWO)), **COMPLETE),
    "one for each subscriber": trace_of(sent(ONE), got(ONE), got(ONE, "d"), paths=(MANY,)),
    "the tail of an envelope": trace_of(sent((b"A", b"", *ONE)), got(ONE, tail=True)),
    "held": trace_of(
        sent(ONE), counted(**size(ONE) | {"held": 1, "sent": 0, "sent_frames": 0, "sent_bytes": 0}), **COMPLETE
    ),
    "lost with a leaver": trace_of(sent(ONE), counted(**size(ONE)), Lost("b", "backend", 1), *GONE, **COMPLETE),
    "dropped with the only peer that it was for": trace_of(
        sent(ONE), counted(**DROPPED), paths=(ADDRESSED,), **COMPLETE
    ),
    "what was queued for a leaver behind what is later": trace_of(
        sent(ONE), sent(TWO), got(TWO), *GONE, got(ONE), queues=True
    ),
    "copies in order, while what was queued for a leaver came late": trace_of(
        sent(ONE),
        sent(TWO),
        Copied("b", ONE),
        Copied("b", TWO),
        got(TWO),
        *GONE,
        got(ONE),
        captured={"b"},
        queues=True,
    ),
    "removed while paused": trace_of(
        counted(), Steered("b", "paused"), Steered("b", "removed"), counted(received=1, sent=1)
    ),
    "a tee": trace_of(
        sent(ONE),
        got(ONE, port="x"),
        got(ONE, "d", port="y"),
        Copied("b", ONE),
        Copied("b", ONE),
        teed(6, 2),
        port_counted("x", ONE),
        port_counted("y", ONE),
        paths=(TEE,),
    ),
    "a tee that holds a copy": trace_of(
        sent(ONE),
        got(ONE, port="x"),
        teed(6, 1, 1),
        port_counted("x", ONE),
        port_counted("y"),
        paths=(TEE,),
        **COMPLETE,
    ),
    "To one sink": trace_of(
        sent(ONE),
        Handled("p", FLOW, ONE),
        TO_X,
        got(ONE, port="x"),
        counted(**size(ONE), sinks=("x", "y")),
        port_counted("x", ONE),
        port_counted("y"),
        paths=(FANNED,),
        **COMPLETE,
    ),
    "retrying": trace_of(*[Turned(frozenset({FLOW})), counted(flow_state="retrying")] * 9, patience=2),
}


@pytest.mark.parametrize("what", WHOLE)
def test_what_is_right_is_no_violation(what: str) -> None:
    check_trace(WHOLE[what])


def test_a_violation_travels_between_processes() -> None:
    violation = pickle.loads(pickle.dumps(InvariantViolation("order", "a before b")))
    assert (violation.invariant, violation.account, str(violation)) == ("order", "a before b", "order: a before b")
