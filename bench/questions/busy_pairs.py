"""Does a message cost more with more pairs beside it, all of them busy?

One source and one sink, each a single socket connected to every pair, drive all pairs. libzmq takes turns among the
connections, without a cost for connections that have nothing. So the cost of the load does not grow with the number of
pairs, and that of the broker may. The source sends to the pairs in turn, so all are equally busy. For queues there is
one requester and one worker; the worker is a REP, which sends each reply to the broker that the request came from.
"""

from __future__ import annotations

import resource

from bench.peers.table import NATIVE, NONE, PROXY, Peer
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.rig import Rig
from bench.work import TRAFFIC, Work

DEVICES = (("streamer", "streamer"), ("queue", "replies"))  # each with the traffic through it
PAIRS, MOST = (1, 10, 100, 1000), 4000
# The numbers of pairs with goals, at which the rate without a broker is measured too.
GOAL_PAIRS = (100, 1000)
# How many descriptors each pair takes in the broker's process (two sockets with a mailbox, a listener and a connection
# each), and how many are left for the rest of the process.
DESCRIPTORS_PER_PAIR, SPARED_DESCRIPTORS = 6, 200

# How many messages must have passed for each pair before the warm-up begins. Then every connection has been made and
# used.
SETTLED = 10

FULL = Plan(rounds=5, warm_up_s=0.3, window_s=0.9, start_s=0.5)
THOUSAND = Plan(rounds=5, warm_up_s=0.8, window_s=1.0, start_s=1.4)
# Thousands of connections take seconds to carry their full rate.
THOUSANDS = Plan(rounds=3, warm_up_s=2.5, window_s=1.5, start_s=5.0)
QUICK = Plan(rounds=1, warm_up_s=0.2, window_s=0.4, start_s=0.6)
QUICK_PAIRS = 100


def measure(case: Case, plan: Plan) -> Sample:
    """Messages per second through all pairs together; CPU time, memory and threads of the broker's process."""
    with Rig(case.peer, case.work) as rig:
        rig.start()
        rig.wait_for_messages(TRAFFIC[case.work.traffic].counter, SETTLED * case.work.pairs)
        window = rig.window(plan.warm_up_s, plan.window_s)
    sample = {"rate_per_s": window.rate_per_s}
    if window.broker is not None:
        if window.rate_per_s:
            sample["cpu_ns"] = window.cpu_share / window.rate_per_s * 1e9
        sample["resident_mib"] = window.broker.resident_kib / 1024
        if window.broker.threads:
            sample["threads"] = window.broker.threads
    return sample


def cells(quick: bool) -> tuple[Cell, ...]:
    """Cells for a STREAMER and a QUEUE at each number of pairs, at the greatest only a STREAMER; quick: one STREAMER
    cell."""
    most = _most_pairs()
    counts = (QUICK_PAIRS,) if quick else (*(pairs for pairs in PAIRS if pairs < most), most)
    return tuple(
        Cell(
            f"{device}, {pairs:,} pair{'s' if pairs > 1 else ''}",
            tuple(Case.of(peer, Work(traffic, pairs=pairs, shared=True)) for peer in _peers(pairs)),
            QUICK if quick else FULL if pairs < 1000 else THOUSAND if pairs == 1000 else THOUSANDS,
            _goals() if pairs in GOAL_PAIRS else (),
        )
        for device, traffic in DEVICES[: 1 if quick else None]
        for pairs in counts
        if device == "streamer" or pairs <= PAIRS[-1]  # a queue of thousands would take another minute
    )


def _peers(pairs: int) -> tuple[Peer, ...]:
    return (NATIVE, PROXY, NONE) if pairs in GOAL_PAIRS else (NATIVE, PROXY)


def _goals() -> tuple[Goal, ...]:
    return (
        Goal("rate_per_s", NATIVE.name, PROXY.name, 1.3, at_least=True),
        Goal("cpu_ns", NATIVE.name, PROXY.name, 0.7, at_least=False),
    )


def _most_pairs() -> int:
    """The greatest number of pairs, in hundreds, that the limit of descriptors allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return MOST
    return min(MOST, (hard - SPARED_DESCRIPTORS) // DESCRIPTORS_PER_PAIR // 100 * 100)


QUESTION = Question(
    name="busy-pairs",
    title="Many pairs, all busy, tcp 64 B; of a queue, a message is a request and its reply",
    figures=("rate_per_s", "cpu_ns", "resident_mib", "threads"),
    cells=cells,
    measure=measure,
    note=f"{MOST:,} pairs take {MOST * DESCRIPTORS_PER_PAIR + SPARED_DESCRIPTORS:,} descriptors in one process "
    "(ulimit -Hn); where there are fewer, as many pairs as they allow.",
)
