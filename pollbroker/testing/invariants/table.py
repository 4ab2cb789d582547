"""The table of the invariants, in the order in which they are checked: those that explain most come first."""

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from pollbroker.testing.invariants.accounting import accounts_balance
from pollbroker.testing.invariants.captures import captures_are_faithful
from pollbroker.testing.invariants.delivery import (
    messages_arrive_whole_and_unchanged,
    nothing_crosses,
    nothing_is_doubled,
    order_is_kept,
    replies_reach_their_requesters,
    subscriptions_travel_upstream,
)
from pollbroker.testing.invariants.liveness import (
    brokers_stay_alive,
    bursts_are_bounded,
    paused_brokers_move_nothing,
    whatever_can_move_moves,
)
from pollbroker.testing.invariants.losses import counters_are_true, nothing_is_lost_beyond_the_counted
from pollbroker.testing.trace import Trace

Invariant: TypeAlias = Callable[[Trace], None]
"""Raises `InvariantViolation` if a trace shows that a promise was not kept."""

INVARIANTS: Final[tuple[Invariant, ...]] = (
    brokers_stay_alive,
    messages_arrive_whole_and_unchanged,
    nothing_crosses,
    replies_reach_their_requesters,
    nothing_is_doubled,
    order_is_kept,
    paused_brokers_move_nothing,
    accounts_balance,
    whatever_can_move_moves,
    bursts_are_bounded,
    nothing_is_lost_beyond_the_counted,
    counters_are_true,
    captures_are_faithful,
    subscriptions_travel_upstream,
)


def check_trace(trace: Trace, invariants: Iterable[Invariant] = INVARIANTS) -> None:
    """Raise `InvariantViolation` for the first promise that was not kept."""
    for invariant in invariants:
        invariant(trace)
