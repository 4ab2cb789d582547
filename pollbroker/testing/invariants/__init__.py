"""The invariants: pure functions over a recorded trace, one for each promise."""

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
from pollbroker.testing.invariants.table import INVARIANTS, Invariant, check_trace

__all__ = [
    "INVARIANTS",
    "Invariant",
    "accounts_balance",
    "brokers_stay_alive",
    "bursts_are_bounded",
    "captures_are_faithful",
    "check_trace",
    "counters_are_true",
    "messages_arrive_whole_and_unchanged",
    "nothing_crosses",
    "nothing_is_doubled",
    "nothing_is_lost_beyond_the_counted",
    "order_is_kept",
    "paused_brokers_move_nothing",
    "replies_reach_their_requesters",
    "subscriptions_travel_upstream",
    "whatever_can_move_moves",
]
