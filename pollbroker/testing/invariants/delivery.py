"""The promises about messages: they arrive whole, unchanged, once, in order, at the right receiver, and none is
lost."""

from collections import defaultdict

from zmq import SocketType

from pollbroker.testing.invariants.legs import Input, Leg, Output, as_it_arrives, legs_of, shown
from pollbroker.testing.peers import mark_of
from pollbroker.testing.trace import Counted, FlowKey, Frames, Heard, Joined, Left, Lost, Path, Sent, Trace, Wanted
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
                if sent.path == leg.path.name and not _goes_astray(leg.path, sent, output):
                    account = (
                        f"{leg.name}: {sent.mark!r} was sent by {sent.peer} @{at} as {shown(sent.frames)}, "
                        f"seen by {output.consumer} @{output.at} as {shown(output.frames)}"
                    )
                    raise InvariantViolation("whole and unchanged", account)


def nothing_crosses(trace: Trace) -> None:
    """A message that comes out at the end of a path went in at the beginning of the same path."""
    for leg in legs_of(trace):
        for output, place in zip(leg.outputs, leg.matches, strict=True):
            origin = _origin(trace, output.frames) if place is None else None
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
        if not (leg.path.to_router and leg.last):
            continue
        for output in leg.outputs:
            origin = _origin(trace, output.frames)
            if origin is None:
                continue
            at, sent = origin
            wrong = not leg.path.handled and _goes_astray(leg.path, sent, output)
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
    """Each message comes out once; where subscribers receive copies, once at each subscriber."""
    for leg in legs_of(trace):
        seen: dict[tuple[str, int], Output] = {}
        for output, place in zip(leg.outputs, leg.matches, strict=True):
            if place is None:
                continue
            key = (output.consumer if leg.path.to_many else "", place)
            if key in seen:
                first, sent = seen[key], leg.inputs[place]
                account = (
                    f"{leg.name}: {_named(sent)} was sent by {sent.producer} once @{sent.at}, seen by {first.consumer} "
                    f"@{first.at} and by {output.consumer} @{output.at}"
                )
                raise InvariantViolation("no duplicate", account)
            seen[key] = output


def order_is_kept(trace: Trace) -> None:
    """The messages from one producer to one consumer come in the order in which they were sent."""
    for leg in legs_of(trace):
        latest: dict[tuple[str, str], tuple[int, Output]] = {}
        for output, place in zip(leg.outputs, leg.matches, strict=True):
            if place is None or place in leg.alike:
                continue
            sent = leg.inputs[place]
            key = sent.producer, output.consumer
            before = latest.get(key)
            if before is not None and place < before[0]:
                overtaker = leg.inputs[before[0]]
                account = (
                    f"{leg.name}: {sent.producer} sent {_named(sent)} @{sent.at} and then {_named(overtaker)} "
                    f"@{overtaker.at}; {output.consumer} saw them @{output.at} and @{before[1].at}, the later first"
                )
                raise InvariantViolation("order", account)
            latest[key] = place, output


def nothing_is_lost_beyond_the_counted(trace: Trace) -> None:
    """On a complete path every message has come out, except those that are held or were dropped by a rule that counts.

    A consumer that leaves may lose what it had not read: at most as many messages as can wait between it and its
    broker. Messages that libzmq itself drops at a publisher's high-water mark are not looked for.
    """
    final = trace.last_counted()
    left = {event.peer: at for at, event in trace.of(Left)}
    for leg in legs_of(trace):
        path = leg.path
        if path.name not in trace.complete or not all(flow in final for flow in path.flows):
            continue
        if path.to_many and leg.last:
            if not path.may_lose and not path.handled:
                _check_every_subscriber_was_served(trace, leg, left)
            continue
        received = set(leg.matches) - {None}
        missing = [one for place, one in enumerate(leg.inputs) if place not in received]
        counted = _counted(path, leg, final)
        if leg.inputs and path.from_publisher and (leg.last != path.handled):
            # Messages to which nobody had subscribed.
            counted += len(leg.inputs) - final[path.flows[0]].statistics.received
        least, most = _lost_with_leavers(trace, path, left) if leg.last else (0, 0)
        if not counted + least <= len(missing) <= counted + most:
            example = f"; {_named(missing[0])} was sent by {missing[0].producer} @{missing[0].at}" if missing else ""
            also = f" and {least} to {most} were lost with peers that left" if most else ""
            account = (
                f"{leg.name}: {len(leg.inputs)} went in, {len(received)} came out, {counted} were held or dropped by "
                f"the engine's own count{also}{example}"
            )
            raise InvariantViolation("no loss beyond the counted", account)


def _counted(path: Path, leg: Leg, final: dict[FlowKey, Counted]) -> int:
    """How many messages the flows of a leg hold or have dropped."""
    total = 0
    for flow in path.flows:
        counters = final[flow].statistics
        if not path.handled:
            total += counters.held + counters.dropped
        elif leg.last:
            total += counters.held + counters.unroutable + counters.slow_peer + counters.interrupted
    return total


def _lost_with_leavers(trace: Trace, path: Path, left: dict[str, int]) -> tuple[int, int]:
    """The least and the greatest number of messages that may be lost with consumers that left, as far as is known."""
    for _, lost in trace.of(Lost):
        if lost.flow == path.flows[-1]:
            return lost.messages, lost.messages
    leavers = sum(
        1 for _, one in trace.of(Joined) if one.line == path.line and one.side == path.sink and one.peer in left
    )
    return 0, leavers * (path.capacity or 1 << 40)


def _check_every_subscriber_was_served(trace: Trace, leg: Leg, left: dict[str, int]) -> None:
    gone = dict(left)
    for at, event in trace.of(Wanted):
        if not event.wanted:
            gone[event.peer] = max(at, gone.get(event.peer, -1))
    received = {(output.consumer, place) for output, place in zip(leg.outputs, leg.matches, strict=True)}
    for place, one in enumerate(leg.inputs):
        sent = trace.events[one.at]
        assert isinstance(sent, Sent)
        for peer in sent.expected_at or ():
            if (peer, place) not in received and gone.get(peer, -1) < one.at:
                account = f"{leg.name}: {_named(one)} was sent by {one.producer} @{one.at}, never seen by {peer}"
                raise InvariantViolation("no loss beyond the counted", f"{account}, who had subscribed to it before")


def subscriptions_travel_upstream(trace: Trace) -> None:
    """In the end every XPUB was told of exactly the topics to which subscribers are subscribed."""
    left = {event.peer for _, event in trace.of(Left)}
    for path in trace.paths.values():
        if not path.upstream or path.may_lose or path.name not in trace.complete:
            continue
        there = [event for _, event in trace.of(Joined) if event.line == path.line and event.peer not in left]
        wanted = _last_said(trace, Wanted, {one.peer for one in there})
        union = set().union(*wanted.values()) if wanted else set()
        heard = _last_said(trace, Heard, {one.peer for one in there})
        for publisher in there:
            topics = heard.get(publisher.peer, set())
            if publisher.kind is SocketType.XPUB and topics != union:
                account = (
                    f"{path.name}: {publisher.peer} was told of {sorted(topics)}; subscribed to are {sorted(union)}"
                )
                raise InvariantViolation("subscriptions travel upstream", account)


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


def _goes_astray(path: Path, sent: Sent, output: Output) -> bool:
    """Return True if an output differs from the message that was sent only in the receiver that it names."""
    expected = as_it_arrives(path, sent.frames)
    return path.to_router and not output.tail and expected[1:] == output.frames[1:] and expected != output.frames


def _named(message: Input) -> str:
    mark = mark_of(message.frames)
    return shown(message.frames) if mark is None else repr(mark)
