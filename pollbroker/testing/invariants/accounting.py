"""The promises about the counters and the captures: the account of each flow balances, and the counters are true."""

from collections import defaultdict

from pollbroker.statistics import Counters
from pollbroker.testing.invariants.legs import Leg, legs_of, shown
from pollbroker.testing.trace import Copied, Counted, FlowKey, Frames, Iterated, Left, Path, Returned, Trace
from pollbroker.testing.violation import InvariantViolation


def accounts_balance(trace: Trace) -> None:
    """At every moment received + added = sent + held + dropped, at most one message is held, and no count goes back."""
    before: dict[FlowKey, Counters] = {}
    for at, event in trace.of(Counted):
        now = event.statistics
        if now.received + now.added != now.sent + now.held + now.dropped or now.held not in (0, 1):
            account = (
                f"{event.flow} @{at}: received {now.received} + added {now.added} is not sent {now.sent} + "
                f"held {now.held} + dropped {now.dropped}"
            )
            raise InvariantViolation("the account balances", account)
        last = before.get(event.flow, now)
        for name in ("received", "received_frames", "received_bytes", "sent", "sent_frames", "sent_bytes", "dropped"):
            if getattr(now, name) < getattr(last, name):
                account = f"{event.flow} @{at}: {name} went back from {getattr(last, name)} to {getattr(now, name)}"
                raise InvariantViolation("the account balances", account)
        before[event.flow] = now


def counters_are_true(trace: Trace) -> None:
    """At the end of a complete path the counters say what the peers sent and received."""
    final = trace.last_counted()
    leavers = {event.peer for _, event in trace.of(Left)}
    for leg in legs_of(trace):
        path = leg.path
        if path.name not in trace.complete or not all(flow in final for flow in path.flows):
            continue
        if leg.last != path.handled:  # the leg that begins at peers
            _check_received(leg, final[path.flows[0]].statistics)
        if leg.last and not path.to_many:
            gone = any(_is_of(path, peer) for peer in leavers)
            _check_sent(trace, leg, final[path.flows[-1]].statistics, exact=not gone)
        for one, other in zip(path.flows, path.flows[1:], strict=False):
            given, taken = final[one].statistics.sent, final[other].statistics.received
            if given != taken if not path.to_many else given < taken:
                account = f"{path.name}: {one} says that it sent {given}, and {other} that it received {taken}"
                raise InvariantViolation("counters are true", account)


def _is_of(path: Path, peer: str) -> bool:
    return peer.startswith(f"{path.line}{path.sink[0]}")


def _check_received(leg: Leg, counters: Counters) -> None:
    frames = [one.frames for one in leg.inputs]
    true = len(frames), sum(map(len, frames)), sum(len(frame) for one in frames for frame in one)
    said = counters.received, counters.received_frames, counters.received_bytes
    fits = all(s <= t for s, t in zip(said, true, strict=True)) if leg.path.from_publisher else said == true
    if not fits:
        account = f"{leg.name}: {true} messages, frames and bytes were sent to it; it counts {said} as received"
        raise InvariantViolation("counters are true", account)


def _check_sent(trace: Trace, leg: Leg, counters: Counters, *, exact: bool) -> None:
    path = leg.path
    came = [leg.inputs[place].frames for place in leg.matches if place is not None]
    taken = 0 if path.prefix_is_added else len(path.prefix)
    added = path.prefix if path.prefix_is_added else ()
    whole = [(*added, *frames)[taken:] for frames in came]
    true = len(whole), sum(map(len, whole)), sum(len(frame) for one in whole for frame in one)
    said = counters.sent, counters.sent_frames, counters.sent_bytes
    if said != true if exact else any(s < t for s, t in zip(said, true, strict=True)):
        account = f"{leg.name}: {true} messages, frames and bytes came out of it; it counts {said} as sent"
        raise InvariantViolation("counters are true", account)
    if path.handled:
        iterators = [event.ended for _, event in trace.of(Iterated) if event.path == path.name]
        if iterators.count(False) != iterators.count(True):
            account = (
                f"{path.name}: its handler gave {iterators.count(False)} iterators of messages; "
                f"{iterators.count(True)} were asked for all that they had"
            )
            raise InvariantViolation("counters are true", account)
        given = sum(1 for _, event in trace.of(Returned) if event.path == path.name)
        placed = counters.sent + counters.held + counters.unroutable + counters.slow_peer + counters.interrupted
        if given != placed:
            account = f"{path.name}: its handler gave {given} messages to send; it accounts for {placed}"
            raise InvariantViolation("counters are true", account)


def captures_are_faithful(trace: Trace) -> None:
    """The capture socket gives a copy of each message that was sent on, whole and in that order. Missing copies were
    counted."""
    copies: dict[str, list[tuple[int, Frames]]] = defaultdict(list)
    for at, event in trace.of(Copied):
        copies[event.broker].append((at, event.frames))
    final = trace.last_counted()
    for broker in trace.captured:
        flows = [
            (path, place) for path in trace.paths.values() for place, f in enumerate(path.flows) if f.broker == broker
        ]
        known = [_passing(trace, path, place) for path, place in flows]
        came: list[list[int]] = [[] for _ in flows]
        for at, frames in copies[broker]:
            came_from = _source_of(trace, frames, flows, known)
            if came_from is None:
                account = f"{broker}: its capture gave {shown(frames)} @{at}, of which nothing like it was sent on"
                raise InvariantViolation("capture fidelity", account)
            flow, alike = came_from
            if not alike:
                account = f"{broker}: its capture gave {shown(frames)} @{at} twice"
                raise InvariantViolation("capture fidelity", account)
            came[flow].append(alike[0] if flows[flow][0].upstream else alike.pop(0))
        for (path, place), order in zip(flows, came, strict=True):
            if not path.upstream:
                _check_order_of_copies(trace, path, place, order)
            if path.name in trace.complete and path.flows[place] in final:
                counters = final[path.flows[place]].statistics
                if counters.captured + counters.capture_dropped != counters.sent or counters.captured != len(order):
                    account = (
                        f"{path.flows[place]}: it sent {counters.sent}, and counts {counters.captured} copies as taken "
                        f"and {counters.capture_dropped} as lost; {len(order)} came"
                    )
                    raise InvariantViolation("capture fidelity", account)


def _passing(trace: Trace, path: Path, place: int) -> dict[Frames, list[int]]:
    """The messages in the form in which a flow passes them on, each with the numbers of the inputs that have that form.

    Arguments:
        place: the place of the flow on the path, counted from 0.
    """
    messages = next((leg.inputs for leg in legs_of(trace) if leg.path is path and leg.last), [])
    if path.prefix_is_added:
        added, cut = path.prefix[len(path.prefix) - place :], 0
    else:
        added, cut = (), place if path.prefix else 0
    passing: dict[Frames, list[int]] = defaultdict(list)
    for number, one in enumerate(messages):
        passing[added + one.frames[cut:]].append(number)
    return passing


def _source_of(
    trace: Trace, frames: Frames, flows: list[tuple[Path, int]], known: list[dict[Frames, list[int]]]
) -> tuple[int, list[int]] | None:
    """Return the number of the flow that a copy comes from and the messages of which it may be a copy; None if no flow
    sent such a message. For a subscription the messages are [-1]."""
    for number, (path, place) in enumerate(flows):
        prefix = trace.prefixes.get(path.flows[place])
        rest = frames
        if prefix is not None:
            if frames[:1] != (prefix,):
                continue
            rest = frames[1:]
        if path.upstream:
            if len(rest) == 1 and rest[0][:1] in (b"\0", b"\1"):
                return number, [-1]
        elif rest in known[number]:
            return number, known[number][rest]
    return None


def _check_order_of_copies(trace: Trace, path: Path, place: int, order: list[int]) -> None:
    """Copies come in the order in which each producer sent the originals and each consumer received them."""
    ranks = {message: rank for rank, message in enumerate(order)}
    for leg in legs_of(trace):
        if leg.path is not path or not leg.last:
            continue
        latest: dict[str, int] = {}
        for message in order:
            if message in leg.alike:
                continue
            producer = leg.inputs[message].producer
            if message < latest.get(producer, -1):
                account = f"{path.flows[place]}: copies of what {producer} sent came in another order"
                raise InvariantViolation("capture fidelity", account)
            latest[producer] = message
        if place == len(path.flows) - 1:
            seen: dict[str, int] = {}
            for output, matched in zip(leg.outputs, leg.matches, strict=True):
                rank = -1 if matched is None or matched in leg.alike else ranks.get(matched, -1)
                if 0 <= rank < seen.get(output.consumer, -1):
                    account = (
                        f"{path.flows[place]}: copies came in another order than {output.consumer} got the originals"
                    )
                    raise InvariantViolation("capture fidelity", account)
                seen[output.consumer] = max(rank, seen.get(output.consumer, -1))
