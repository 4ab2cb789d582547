"""The promises about the whole of a run: no message is lost beyond the counted, and the counters are true.

They are judged at the end of a complete path, for each port of a broker to which messages were sent. What is on its way
to a port comes from every route that has it as a sink, so these are judged together.
"""

from typing import NamedTuple

from pollbroker.statistics import Counters
from pollbroker.testing.invariants.delivery import named
from pollbroker.testing.invariants.legs import Leg, joined_at, legs_by_port, legs_of
from pollbroker.testing.trace import (
    Counted,
    FlowKey,
    Frames,
    Iterated,
    Left,
    Lost,
    Path,
    PortCounted,
    Trace,
    Wanted,
)
from pollbroker.testing.violation import InvariantViolation


class SinkCounters(NamedTuple):
    """What a broker says about the messages that were to be sent to one of its ports."""

    sent: int
    sent_frames: int
    sent_bytes: int
    dropped: int
    least_held: int
    most_held: int


def nothing_is_lost_beyond_the_counted(trace: Trace) -> None:
    """On a complete path every message has come out, except those that are held or were dropped by a rule that counts.

    A consumer that leaves may lose what it had not read: at most as many messages as can wait between it and its
    broker. Messages that libzmq itself drops at a publisher's high-water mark are not looked for.
    """
    final = trace.last_counted()
    _check_whose_messages_may_be_unroutable(trace, final)
    left = {event.peer: at for at, event in trace.of(Left)}
    for leg in legs_of(trace):
        if leg.sink is None and _is_over(trace, leg.path, final):
            _check_loss(leg.name, [leg], _not_passed_on(leg, final), (0, 0))
    for (broker, port), legs in legs_by_port(trace).items():
        if not all(_is_over(trace, leg.path, final) for leg in legs):
            continue
        if legs[0].to_many:
            for leg in legs:
                _check_every_subscriber_was_served(trace, leg, left)
            continue
        counters = _counters_of(trace, broker, port, legs, final)
        lost = _lost_with_leavers(trace, legs[0].path, port, left)
        counted = counters.dropped + sum(_not_passed_on(leg, final) for leg in legs)
        name = ", ".join(leg.name for leg in legs)
        _check_loss(name, legs, counted, (counters.least_held + lost[0], counters.most_held + lost[1]))


def _check_whose_messages_may_be_unroutable(trace: Trace, final: dict[FlowKey, Counted]) -> None:
    """What one peer has not taken before it left is given to another, unless it was for that peer alone."""
    for path in trace.paths.values():
        last = final.get(path.flows[-1])
        if last is not None and last.statistics.unroutable and not any(sink.is_addressed for sink in path.sinks):
            account = f"{path.flows[-1]}: {last.statistics.unroutable} were dropped that any other peer might have had"
            raise InvariantViolation("no loss beyond the counted", account)


def _is_over(trace: Trace, path: Path, final: dict[FlowKey, Counted]) -> bool:
    return path.name in trace.complete and all(flow in final for flow in path.flows)


def _check_loss(name: str, legs: list[Leg], counted: int, uncertain: tuple[int, int]) -> None:
    missing = []
    for leg in legs:
        received = set(leg.matches)
        missing += [one for place, one in enumerate(leg.inputs) if place not in received]
    least, most = uncertain
    if not counted + least <= len(missing) <= counted + most:
        given = sum(len(leg.inputs) for leg in legs)
        example = f"; {named(missing[0])} was sent by {missing[0].producer} @{missing[0].at}" if missing else ""
        also = f" and {least} to {most} were held, or lost with peers that left" if most else ""
        account = (
            f"{name}: {given} went in, {given - len(missing)} came out, {counted} were held or dropped by the engine's "
            f"own count{also}{example}"
        )
        raise InvariantViolation("no loss beyond the counted", account)


def _not_passed_on(leg: Leg, final: dict[FlowKey, Counted]) -> int:
    """How many messages of a leg have not come as far as its end, and did not have to."""
    if not leg.from_peers:
        return 0
    path = leg.path
    last = final[path.flows[-1]].statistics
    total = last.too_many_frames
    if leg.sink is not None:
        total += last.filtered + last.failed  # there are none, since there is no handler
    for flow in path.flows[:-1]:
        total += final[flow].statistics.held + final[flow].statistics.dropped
    if leg.inputs and path.from_publisher:
        # Messages to which nobody had subscribed.
        total += len(leg.inputs) - final[path.flows[0]].statistics.received
    return total


def _counters_of(trace: Trace, broker: str, port: str, legs: list[Leg], final: dict[FlowKey, Counted]) -> SinkCounters:
    flows = [final[leg.path.flows[-1]].statistics for leg in legs]
    held = [(flow.held, len(leg.path.sinks)) for flow, leg in zip(flows, legs, strict=True)]
    least = sum(max(0, number - sinks + 1) for number, sinks in held if not trace.queues or sinks == 1)
    most = sum(number if trace.queues else min(1, number) for number, _ in held)
    for _, event in trace.of(PortCounted):
        if (event.broker, event.port) == (broker, port):
            said = event.statistics
            return SinkCounters(said.sent, said.sent_frames, said.sent_bytes, said.dropped, least, most)
    total = sum(flows, Counters())
    dropped = total.unroutable + total.slow_peer + total.interrupted + total.long_subscription
    return SinkCounters(total.sent, total.sent_frames, total.sent_bytes, dropped, least, most)


def _lost_with_leavers(trace: Trace, path: Path, port: str, left: dict[str, int]) -> tuple[int, int]:
    """The least and the greatest number of messages that may be lost with consumers that left, as far as is known."""
    for _, lost in trace.of(Lost):
        if (lost.broker, lost.port) == (path.flows[-1].broker, port):
            return lost.messages, lost.messages
    return 0, len(joined_at(trace, path, port) & left.keys()) * (path.capacity or 1 << 40)


def _check_every_subscriber_was_served(trace: Trace, leg: Leg, left: dict[str, int]) -> None:
    assert leg.sink is not None
    if leg.sink.may_lose:
        return
    here = joined_at(trace, leg.path, leg.sink.port)
    gone = dict(left)
    for at, event in trace.of(Wanted):
        if not event.wanted:
            gone[event.peer] = max(at, gone.get(event.peer, -1))
    received = {(output.consumer, place) for output, place in zip(leg.outputs, leg.matches, strict=True)}
    for place, one in enumerate(leg.inputs):
        for peer in one.expected_at & here:
            if (peer, place) not in received and gone.get(peer, -1) < one.at:
                account = f"{leg.name}: {named(one)} was sent by {one.producer} @{one.at}, never seen by {peer}"
                raise InvariantViolation("no loss beyond the counted", f"{account}, who had subscribed to it before")


def counters_are_true(trace: Trace) -> None:
    """At the end of a complete path the counters say what the peers sent and received, at each port."""
    final = trace.last_counted()
    left = {event.peer for _, event in trace.of(Left)}
    for path in trace.paths.values():
        if _is_over(trace, path, final):
            _check_chain(path, final)
            _check_iterators(trace, path)
    for leg in legs_of(trace):
        if leg.from_peers and _is_over(trace, leg.path, final):
            _check_received(leg, final[leg.path.flows[0]].statistics)
    for (broker, port), legs in legs_by_port(trace).items():
        if all(_is_over(trace, leg.path, final) for leg in legs):
            counters = _counters_of(trace, broker, port, legs, final)
            _check_given(legs, counters, final)
            if not legs[0].to_many:
                _check_sent(legs, counters, exact=not joined_at(trace, legs[0].path, port) & left)


def _check_chain(path: Path, final: dict[FlowKey, Counted]) -> None:
    for one, other in zip(path.flows, path.flows[1:], strict=False):
        given, taken = final[one].statistics.sent, final[other].statistics.received
        if given < taken or (given > taken and not path.sinks[0].to_many and not path.upstream):
            account = f"{path.name}: {one} says that it sent {given}, and {other} that it received {taken}"
            raise InvariantViolation("counters are true", account)


def _check_iterators(trace: Trace, path: Path) -> None:
    ended = [event.ended for _, event in trace.of(Iterated) if event.path == path.name]
    if ended.count(False) != ended.count(True):
        account = (
            f"{path.name}: its handler gave {ended.count(False)} iterators of messages; "
            f"{ended.count(True)} were asked for all that they had"
        )
        raise InvariantViolation("counters are true", account)


def _check_received(leg: Leg, counters: Counters) -> None:
    true = _size([one.frames for one in leg.inputs])
    said = counters.received, counters.received_frames, counters.received_bytes
    fits = all(s <= t for s, t in zip(said, true, strict=True)) if leg.path.from_publisher else said == true
    if not fits:
        account = f"{leg.name}: {true} messages, frames and bytes were sent to it; it counts {said} as received"
        raise InvariantViolation("counters are true", account)


def _check_given(legs: list[Leg], counters: SinkCounters, final: dict[FlowKey, Counted]) -> None:
    """What was to be sent to a port was sent, dropped or held: once, even if other sinks had it at another time."""
    given = sum(len(leg.inputs) - _not_passed_on(leg, final) for leg in legs)
    placed = counters.sent + counters.dropped
    if any(len(leg.path.flows) > 1 and leg.to_many for leg in legs):
        return  # a broker in the middle of a chain does not receive that to which nobody has subscribed
    if not placed + counters.least_held <= given <= placed + counters.most_held:
        name = ", ".join(leg.name for leg in legs)
        account = (
            f"{name}: {given} messages were to be sent; it accounts for {placed} as sent or dropped, and for "
            f"{counters.most_held} as held"
        )
        raise InvariantViolation("counters are true", account)


def _check_sent(legs: list[Leg], counters: SinkCounters, *, exact: bool) -> None:
    whole = []
    for leg in legs:
        path = leg.path
        taken = 0 if path.prefix_is_added else len(path.prefix)
        added = path.prefix if path.prefix_is_added else ()
        whole += [(*added, *leg.inputs[place].frames)[taken:] for place in leg.matches if place is not None]
    true = _size(whole)
    said = counters.sent, counters.sent_frames, counters.sent_bytes
    if said != true if exact else any(s < t for s, t in zip(said, true, strict=True)):
        name = ", ".join(leg.name for leg in legs)
        account = f"{name}: {true} messages, frames and bytes came out of it; it counts {said} as sent"
        raise InvariantViolation("counters are true", account)


def _size(messages: list[Frames]) -> tuple[int, int, int]:
    """How many messages, frames and bytes these are."""
    return len(messages), sum(map(len, messages)), sum(len(frame) for one in messages for frame in one)
