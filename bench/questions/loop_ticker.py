"""How long does a busy engine keep the other tasks of its loop waiting?

A task beside the engine sleeps for a millisecond again and again, and measures how late it runs each time
(`bench/ticks.py`). In each sample this is measured before there is any traffic, and then under full traffic. The
difference is what the traffic costs the task. It includes what the load takes, whose processes share the cores with the
loop. With a hundred pairs the loop's thread never sleeps, and on two cores the kernel gives them to the load for
milliseconds. So that cell has no goal.
"""

from __future__ import annotations

import time

from bench.child import ChildError
from bench.peers.table import ON_ASYNCIO, ON_GEVENT, ON_UVLOOP, installed, left_out
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.rig import Rig
from bench.work import TRAFFIC, Work

PAIRS = (1, 100)
BOUND_MS = 2.0
# There is a window without traffic, and another one with traffic. The estimate of the time counts only one.
FULL = Plan(rounds=5, warm_up_s=0.4, window_s=2.0, start_s=3.2)
QUICK = Plan(rounds=1, warm_up_s=0.1, window_s=0.5, start_s=1.4)
LOOPS = (ON_ASYNCIO, ON_UVLOOP, ON_GEVENT)


def measure(case: Case, plan: Plan) -> Sample:
    """Percentiles of how late the ticks were without and with traffic, and the rate of the traffic."""
    with Rig(case.peer, case.work) as rig:
        rig.start_broker()
        time.sleep(plan.warm_up_s)
        rig.sample_broker()
        time.sleep(plan.window_s)
        idle = rig.sample_broker().late_ms
        rig.start_load("backend")
        rig.start_load("frontend")
        rig.wait_for_messages(TRAFFIC[case.work.traffic].counter, 1)
        window = rig.window(plan.warm_up_s, plan.window_s)
    busy = {} if window.broker is None else window.broker.late_ms
    if not (idle and busy):
        raise ChildError(f"{case.peer.name}: fewer than two ticks in {plan.window_s} s")
    return {
        "rate_per_s": window.rate_per_s,
        "idle_late_p99_ms": idle["p99"],
        "late_p50_ms": busy["p50"],
        "late_p99_ms": busy["p99"],
        "late_more_p99_ms": busy["p99"] - idle["p99"],
    }


def cells(quick: bool) -> tuple[Cell, ...]:
    """One busy STREAMER, and a hundred, in each loop. Quick: one, in asyncio's."""
    peers = installed(LOOPS[:1] if quick else LOOPS)
    goals = tuple(Goal("late_more_p99_ms", peer.name, None, BOUND_MS, at_least=False) for peer in peers)
    return tuple(
        Cell(
            f"{pairs} busy streamer{'s' if pairs > 1 else ''}",
            tuple(Case.of(peer, Work("streamer", pairs=pairs, shared=True, ticking=True)) for peer in peers),
            QUICK if quick else FULL,
            goals if pairs == 1 else (),
        )
        for pairs in (PAIRS[:1] if quick else PAIRS)
    )


QUESTION = Question(
    name="loop-ticker",
    title="A task that sleeps 1 ms again and again, beside an engine under full load, tcp 64 B",
    figures=("idle_late_p99_ms", "late_p50_ms", "late_p99_ms", "late_more_p99_ms", "rate_per_s"),
    cells=cells,
    measure=measure,
    note=" ".join(left_out(LOOPS)),
)
