"""The promises about messages: they arrive whole, unchanged, once, in order, at the right receiver, and none is
lost."""

from collections import defaultdict

from zmq import SocketType

from pollbroker.testing.invariants.legs import (
    Input,
    Leg,
    Output,
    as_it_arrives,
    legs_of,
    may_have_been_another_s,
    shown,
)
from pollbroker.testing.peers import mark_of
from pollbroker.testing.trace import Frames, Heard, Joined, Left, Path, Returned, Sent, Trace, Wanted
from pollbroker.testing.violation import InvariantViolation


def messages_arrive_whole_and_unchanged(trace: Trace) -> None:
    """A message that comes out has exactly the frames of one message that went in."""
    for leg in legs_of(trace):
        for output, place in zip(leg.outputs, leg.matches, strict=True):
            if place is None:
                origin = _origin(trace, output.frames)
                if origin is None:
                    account = (
                        f"{leg.name}: {output.consumer} got {shown(output.frames)} @{output.at}, which nobody sent"
                    )
                    raise InvariantViolation("whole and unchanged", account)
                at, sent = origin
                if _goes_astray(leg, sent, output) or _sink_expecting(trace, leg, output):
                    continue  # other promises say what is wrong with it
                if sent.path == leg.path.name:
                    account = (
                        f"{leg.name}: {sent.mark!r} was sent by {sent.peer} @{at} as {shown(sent.frames)}, "
                        f"seen by {output.consumer} @{output.at} as {shown(output.frames)}"
                    )
                    raise InvariantViolation("whole and unchanged", account)


def nothing_crosses(trace: Trace) -> None:
    """A message that comes out at the end of a path went in at the beginning of the same path, and was for that end."""
    for leg in legs_of(trace):
        for output, place in zip(leg.outputs, leg.matches, strict=True):
            origin = _origin(trace, output.frames) if place is None else None
            other = _sink_expecting(trace, leg, output) if place is None else None
            if other is not None:
                account = f"{leg.name}: {shown(output.frames)} was for {other}, seen by {output.consumer} @{output.at}"
                raise InvariantViolation("nothing crosses", account)
            if origin is not None and origin[1].path != leg.path.name:
                at, sent = origin
                account = (
                    f"{sent.mark!r} was sent by {sent.peer} on {sent.path} @{at}, "
                    f"seen by {output.consumer} on {leg.path.name} @{output.at}"
                )
                raise InvariantViolation("nothing crosses", account)


def replies_reach_their_requesters(trace: Trace) -> None:
    """At a ROUTER each message goes to the peer whose routing id it names, and a reply to the peer that had asked."""
    requests = {sent.mark: sent for _, sent in trace.of(Sent)}
    ids = {joined.peer: joined.routing_id for _, joined in trace.of(Joined)}
    for leg in legs_of(trace):
        if not leg.to_router:
            continue
        for output in leg.outputs:
            origin = _origin(trace, output.frames)
            if origin is None:
                continue
            at, sent = origin
            wrong = not leg.path.handled and _goes_astray(leg, sent, output)
            request = requests.get(sent.answers) if sent.answers else None
            if request is not None and ids.get(request.peer) != output.frames[0]:
                wrong = True
            if wrong:
                asked = "" if request is None else f", in reply to {request.mark!r} of {request.peer},"
                addressee = sent.frames[: 1 + len(leg.path.prefix)][-1]
                account = (
                    f"{leg.name}: {sent.mark!r}{asked} was sent by {sent.peer} @{at} to {addressee!r}, "
                    f"seen by {output.consumer} @{output.at}"
                )
                raise InvariantViolation("reply to its requester", account)


def nothing_is_doubled(trace: Trace) -> None:
    """Each message comes out once at each end that it is for; where subscribers receive copies, once at each
    subscriber."""
    for leg in legs_of(trace):
        seen: dict[tuple[str, int], Output] = {}
        for output, place in zip(leg.outputs, leg.matches, strict=True):
            if place is None:
                continue
            key = (output.consumer if leg.to_many else "", place)
            if key in seen:
                first, sent = seen[key], leg.inputs[place]
                account = (
                    f"{leg.name}: {named(sent)} was sent by {sent.producer} once @{sent.at}, seen by {first.consumer} "
                    f"@{first.at} and by {output.consumer} @{output.at}"
                )
                raise InvariantViolation("no duplicate", account)
            seen[key] = output


def order_is_kept(trace: Trace) -> None:
    """The messages from one producer to one consumer come in the order in which they were sent.

    Where ports have queues of their own, a consumer may be given what was queued for another one that has left, behind
    later messages that it has had itself.
    """
    for leg in legs_of(trace):
        latest: dict[tuple[str, str], tuple[int, Output]] = {}
        for output, place in zip(leg.outputs, leg.matches, strict=True):
            if place is None or place in leg.alike:
                continue
            sent = leg.inputs[place]
            key = sent.producer, output.consumer
            before = latest.get(key)
            if before is not None and place < before[0] and not may_have_been_another_s(trace, leg, output):
                overtaker = leg.inputs[before[0]]
                account = (
                    f"{leg.name}: {sent.producer} sent {named(sent)} @{sent.at} and then {named(overtaker)} "
                    f"@{overtaker.at}; {output.consumer} saw them @{output.at} and @{before[1].at}, the later first"
                )
                raise InvariantViolation("order", account)
            latest[key] = place, output


def subscriptions_travel_upstream(trace: Trace) -> None:
    """In the end every XPUB was told of exactly the topics to which subscribers are subscribed, at all the ports from
    which subscriptions lead to it. If a handler is on the way, its results are the subscriptions."""
    left = {event.peer for _, event in trace.of(Left)}
    there = [event for _, event in trace.of(Joined) if event.peer not in left]
    heard = _last_said(trace, Heard, {one.peer for one in there})
    leading: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in trace.paths.values():
        for sink in path.sinks if path.upstream else ():
            leading[path.line, sink.port].append(path)
    for (line, port), paths in leading.items():
        may_lose = any(sink.may_lose for path in paths for sink in path.sinks)
        if may_lose or any(path.name not in trace.complete for path in paths):
            continue
        union = {topic for path in paths for topic in _subscribed(trace, path, port, there)}
        for publisher in there:
            topics = heard.get(publisher.peer, set())
            is_told = publisher.kind is SocketType.XPUB and (publisher.line, publisher.side) == (line, port)
            if is_told and topics != union:
                account = (
                    f"{paths[0].name}: {publisher.peer} was told of {sorted(topics)}; subscribed to are {sorted(union)}"
                )
                raise InvariantViolation("subscriptions travel upstream", account)


def _subscribed(trace: Trace, path: Path, port: str, there: list[Joined]) -> set[bytes]:
    """The topics to which a path brings subscriptions at one of its ends."""
    if path.handled:
        topics: set[bytes] = set()
        for _, event in trace.of(Returned):
            if event.path == path.name and event.port in (None, port):
                for frame in event.frames:  # an XSUB takes every frame that begins so for a subscription, or its end
                    if frame[:1] in (b"\0", b"\1"):
                        (topics.add if frame[:1] == b"\1" else topics.discard)(frame[1:])
        return topics
    peers = {one.peer for one in there if (one.line, one.side) == (path.line, path.flows[0].source)}
    return set().union(*_last_said(trace, Wanted, peers).values())


def _last_said(trace: Trace, kind: type[Wanted] | type[Heard], peers: set[str]) -> dict[str, set[bytes]]:
    topics: dict[str, set[bytes]] = defaultdict(set)
    for _, event in trace.of(kind):
        if event.peer in peers:
            (topics[event.peer].add if event.wanted else topics[event.peer].discard)(event.topic)
    return topics


def _origin(trace: Trace, frames: Frames) -> tuple[int, Sent] | None:
    """The place in the trace and the message whose mark is among these frames; None if there is no such message."""
    known, by_mark = trace.memory.get("marks", (-1, {}))
    if known != len(trace.events):
        by_mark = {sent.mark: (at, sent) for at, sent in trace.of(Sent)}
        trace.memory["marks"] = len(trace.events), by_mark
    origin: tuple[int, Sent] | None = by_mark.get(mark_of(frames) or b"")
    return origin


def _goes_astray(leg: Leg, sent: Sent, output: Output) -> bool:
    """Return True if an output differs from the message that was sent only in the receiver that it names."""
    expected = as_it_arrives(leg.path, sent.frames)
    return leg.to_router and not output.tail and expected[1:] == output.frames[1:] and expected != output.frames


def _sink_expecting(trace: Trace, leg: Leg, output: Output) -> str | None:
    """The other sink of the path for which there was a message with these frames, or None."""
    for other in legs_of(trace):
        if other.path is leg.path and other.sink is not None and other is not leg and other.places_of(output):
            return other.sink.port
    return None


def named(message: Input) -> str:
    """A message as text for an error message: its mark, or its frames."""
    mark = mark_of(message.frames)
    return shown(message.frames) if mark is None else repr(mark)
