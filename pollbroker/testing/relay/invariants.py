"""The invariants for relays: what any relay should do and can be observed from outside. Pure functions over a trace."""

from collections.abc import Callable
from typing import Final

from pollbroker.testing.invariants import (
    messages_arrive_whole_and_unchanged,
    nothing_crosses,
    nothing_is_doubled,
    order_is_kept,
    replies_reach_their_requesters,
)
from pollbroker.testing.invariants.legs import Leg, legs_of
from pollbroker.testing.relay.trace import RelayTrace
from pollbroker.testing.trace import Joined, Left, Sent
from pollbroker.testing.violation import InvariantViolation

SPINNING: Final = 0.2
"""A relay spins if its busiest thread has a greater activity than this while it has nothing to do (`activity_of`). A
thread that spins comes to 1, less what Linux has not counted yet of its last wait for a core. A thread that sleeps
comes to nearly 0."""


def relay_survives(trace: RelayTrace) -> None:
    """Nothing that a peer does ends the relay."""
    if trace.early_end is not None:
        at = len(trace.events)
        raise InvariantViolation("survives", f"the relay {trace.early_end} by @{at}; its context was still there")


def relay_serves_who_is_there(trace: RelayTrace) -> None:
    """A peer that reads is served although another peer does not read, and each direction goes on without the other."""
    for peer, waited_for, meanwhile in trace.unserved:
        account = f"{peer} waited {trace.deadline_s:g} s in vain for {waited_for}, while {meanwhile}"
        raise InvariantViolation("progress", account)


def relay_does_not_block_for_ever(trace: RelayTrace) -> None:
    """When every peer reads what comes, every message that waits moves on."""
    for peer, count in trace.unsent.items():
        account = f"{peer} could not send {count} messages, although nothing moved for {trace.deadline_s:g} s"
        raise InvariantViolation("does not block for ever", account)
    for leg in legs_of(trace):
        missing = _missing(trace, leg)
        if leg.path.name in trace.complete and missing and leg.path.name not in trace.alive:
            account = (
                f"{leg.name}: {len(missing)} messages have not come, {missing[0]} the first, nor has anything that was "
                f"sent later; nothing moved for {trace.deadline_s:g} s"
            )
            if len(missing) > trace.dropped + _allowance_for_leavers(trace, leg):
                raise InvariantViolation("does not block for ever", account)


def relay_loses_nothing_in_silence(trace: RelayTrace) -> None:
    """Every message that the relay's sockets accepted comes out, except those that the relay has counted as dropped and
    those that peers which left had not read."""
    unexplained = 0
    for leg in legs_of(trace):
        missing, allowance = _missing(trace, leg), _allowance_for_leavers(trace, leg)
        if leg.path.name in trace.complete:
            unexplained += max(0, len(missing) - allowance)
        if unexplained > trace.dropped:
            counted = f"it has counted {trace.dropped} in all directions" if trace.dropped else "nobody has counted any"
            also = f", and up to {allowance} went with peers that left" if allowance else ""
            account = (
                f"{leg.name}: {len(leg.inputs)} went in, {len(missing)} never came out, {missing[0]} the first; "
                f"{counted}{also}"
            )
            raise InvariantViolation("no loss in silence", account)


def relay_does_not_spin(trace: RelayTrace) -> None:
    """The relay sleeps while messages wait and no peer takes them."""
    if trace.activity is not None and trace.activity > SPINNING:
        account = (
            f"a thread ran for {trace.activity:.0%} of the time in which it did not wait for a core, while messages "
            "waited and nobody was there to take them"
        )
        raise InvariantViolation("does not spin", account)


def relay_ends_with_its_context(trace: RelayTrace) -> None:
    """When its context ends the relay returns, or raises `ContextTerminated`."""
    if trace.late:
        account = f"it ran on for {trace.deadline_s:g} s after its context had ended"
        raise InvariantViolation("ends with its context", account)
    if trace.last_error is not None:
        raise InvariantViolation("ends with its context", f"its context ended, and it raised {trace.last_error}")


RELAY_INVARIANTS: Final[tuple[Callable[[RelayTrace], None], ...]] = (
    messages_arrive_whole_and_unchanged,
    nothing_crosses,
    replies_reach_their_requesters,
    nothing_is_doubled,
    order_is_kept,
    relay_survives,
    relay_serves_who_is_there,
    relay_does_not_block_for_ever,
    relay_loses_nothing_in_silence,
    relay_does_not_spin,
    relay_ends_with_its_context,
)
"""The invariants of a relay, in the order in which they are checked: those that explain most come first."""


def _missing(trace: RelayTrace, leg: Leg) -> list[str]:
    """The messages that should have come out at the end of a leg and have not, each described for an error message."""
    left = {event.peer for _, event in trace.of(Left)}
    gone_ids = {joined.routing_id for _, joined in trace.of(Joined) if joined.peer in left}
    received = {
        (output.consumer if leg.to_many else "", place) for output, place in zip(leg.outputs, leg.matches, strict=True)
    }
    missing = []
    for place, one in enumerate(leg.inputs):
        sent = trace.events[one.at]
        assert isinstance(sent, Sent)
        if one.producer in left or (leg.to_router and one.frames[0] in gone_ids):
            continue
        for consumer in (sent.expected_at or frozenset()) - left if leg.to_many else ("",):
            if (consumer, place) not in received:
                missing.append(f"{sent.mark!r}, sent by {sent.peer} @{one.at}")
    return missing


def _allowance_for_leavers(trace: RelayTrace, leg: Leg) -> int:
    """How many messages may be lost with each consumer that left: those it had not read, and one that was half sent.

    At a ROUTER, and where each subscriber has a copy, the receiver of a message is known. There a message to a peer
    that left does not count as missing.
    """
    if leg.to_router or leg.to_many:
        return 0
    left = {event.peer for _, event in trace.of(Left)}
    leavers = sum(1 for _, one in trace.of(Joined) if one.side == leg.path.only_sink.port and one.peer in left)
    return leavers * (leg.path.capacity + 1)
