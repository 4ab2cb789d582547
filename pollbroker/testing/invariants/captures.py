"""The promise about captures: a copy of each message that was sent on, whole and in that order."""

from collections import defaultdict

from pollbroker.statistics import Counters, FlowStatistics
from pollbroker.testing.invariants.legs import Input, legs_of, may_have_been_another_s, shown
from pollbroker.testing.trace import Copied, Frames, Path, Trace
from pollbroker.testing.violation import InvariantViolation


def captures_are_faithful(trace: Trace) -> None:
    """The capture socket gives a copy of each message that was sent on, one for each sink that accepted it, whole and
    in that order. Missing copies were counted."""
    copies: dict[str, list[tuple[int, Frames]]] = defaultdict(list)
    for at, event in trace.of(Copied):
        copies[event.broker].append((at, event.frames))
    final = trace.last_counted()
    for broker in trace.captured:
        passages = [
            Passage(trace, path, place)
            for path in trace.paths.values()
            for place, flow in enumerate(path.flows)
            if flow.broker == broker
        ]
        for at, frames in copies[broker]:
            possible = [one for one in passages if one.may_have_sent(frames)]
            if not possible:
                account = f"{broker}: its capture gave {shown(frames)} @{at}, of which nothing like it was sent on"
                raise InvariantViolation("capture fidelity", account)
            if not any(one.take(frames) for one in possible):
                account = f"{broker}: its capture gave {shown(frames)} @{at} twice"
                raise InvariantViolation("capture fidelity", account)
        for one in passages:
            _check_order_of_copies(trace, one)
        over = [one for one in passages if one.path.name in trace.complete and one.flow in final]
        for group in [[one] for one in over] if _can_be_told_apart(passages) else [over]:
            _check_number_of_copies(group, [final[one.flow].statistics for one in group], queues=trace.queues)


class Passage:
    """The messages that one flow of a path passes on, and the copies of them that its broker's capture gave.

    Arguments:
        place: the place of the flow on the path, counted from 0.
    """

    def __init__(self, trace: Trace, path: Path, place: int) -> None:
        self.path = path
        self.flow = path.flows[place]
        self.is_last = place == len(path.flows) - 1
        self.order: list[int] = []
        """The messages of which copies have come, in order, by their places in the trace; -1 for a subscription."""
        self.legs = [leg for leg in legs_of(trace) if leg.path is path and leg.sink is not None]
        self.messages: dict[int, Input] = {one.at: one for leg in self.legs for one in leg.inputs}
        """The messages by their places in the trace."""
        self._prefix = trace.prefixes.get(self.flow)
        if path.prefix_is_added:
            added, cut = path.prefix[len(path.prefix) - place :], 0
        else:
            added, cut = (), place if path.prefix else 0
        self.frames: dict[Frames, list[int]] = defaultdict(list)
        """For the frames of each message, as this flow passes it on, the places of those of which no copy has come. One
        that is for several sinks is there once for each."""
        for at, one in sorted((one.at, one) for leg in self.legs for one in leg.inputs):
            self.frames[added + one.frames[cut:]].append(at)
        self.alike = {at for places in self.frames.values() if len(set(places)) > 1 for at in places}
        """The messages of which a copy cannot be told from that of another, such as one that a handler gave to a second
        sink later."""

    @property
    def is_prefixed(self) -> bool:
        """Return True if a prefix says that a copy is of this flow."""
        return self._prefix is not None

    def may_have_sent(self, copy: Frames) -> bool:
        """Return True if a copy is of a message of this flow."""
        if self._prefix is not None and copy[:1] != (self._prefix,):
            return False
        frames = self._without_prefix(copy)
        if self.path.upstream:
            return len(frames) == 1 and frames[0][:1] in (b"\0", b"\1")
        return frames in self.frames

    def take(self, copy: Frames) -> bool:
        """Note that a copy has come. Return False if as many have come already as messages were sent."""
        if self.path.upstream:
            self.order.append(-1)
            return True
        waiting = self.frames[self._without_prefix(copy)]
        if not waiting:
            return False
        self.order.append(waiting.pop(0))
        return True

    def _without_prefix(self, copy: Frames) -> Frames:
        return copy if self._prefix is None else copy[1:]


def _can_be_told_apart(passages: list[Passage]) -> bool:
    """Return True if each copy can be of one flow only."""
    seen: set[Frames] = set()
    for one in passages:
        if not one.is_prefixed and not seen.isdisjoint(one.frames):
            return False
        seen |= one.frames.keys()
    return sum(one.path.upstream and not one.is_prefixed for one in passages) < 2


def _check_number_of_copies(passages: list[Passage], counted: list[FlowStatistics], *, queues: bool) -> None:
    total = sum(counted, Counters())
    came = sum(len(one.order) for one in passages)
    # Where ports have queues, a copy is taken of what they accept. What is queued for a leaver may be dropped.
    passed_on = [(one, one.sent + (one.held + one.interrupted + one.unroutable if queues else 0)) for one in counted]
    wrong = any(not one.sent <= one.captured + one.capture_dropped <= most for one, most in passed_on)
    if wrong or total.captured != came:
        account = (
            f"{', '.join(str(one.flow) for one in passages)}: it sent {total.sent}, and counts {total.captured} copies "
            f"as taken and {total.capture_dropped} as lost; {came} came"
        )
        raise InvariantViolation("capture fidelity", account)


def _check_order_of_copies(trace: Trace, passage: Passage) -> None:
    """Copies come in the order in which each producer sent the originals and each consumer received them."""
    if passage.path.upstream:
        return
    order = passage.order
    alike = passage.alike | {leg.inputs[place].at for leg in passage.legs for place in leg.alike}
    latest: dict[str, int] = {}
    for message in order:
        if message in alike:
            continue
        producer = passage.messages[message].producer
        if message < latest.get(producer, -1):
            account = f"{passage.flow}: copies of what {producer} sent came in another order"
            raise InvariantViolation("capture fidelity", account)
        latest[producer] = message
    if not passage.is_last:
        return
    ranks = {message: rank for rank, message in enumerate(order)}
    for leg in passage.legs:
        seen: dict[str, int] = {}
        for output, place in zip(leg.outputs, leg.matches, strict=True):
            message = -1 if place is None else leg.inputs[place].at
            rank = -1 if message in alike else ranks.get(message, -1)
            late = 0 <= rank < seen.get(output.consumer, -1)
            if late and not may_have_been_another_s(trace, leg, output):
                account = f"{passage.flow}: copies came in another order than {output.consumer} got the originals"
                raise InvariantViolation("capture fidelity", account)
            seen[output.consumer] = max(rank, seen.get(output.consumer, -1))
