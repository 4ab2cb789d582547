"""How long does a control command wait for its answer while the broker is under full load?

A REQ in a process of its own sends STATISTICS, waits for the reply, pauses for 2 ms, and sends it again. The peer is
libzmq's steerable proxy, which has the same command. Of a hundred pairs it steers one; an engine steers all. "Control
apart" is a control socket in a context of its own, which does not share libzmq's I/O thread with the traffic.
"""

from __future__ import annotations

from bench.child import ChildError
from bench.peers.table import NATIVE, OWN_CONTROL, STEERABLE
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.rig import Rig
from bench.work import Work

PAIRS = (1, 100)
BOUND_MS = 10.0
FULL = Plan(rounds=5, warm_up_s=0.4, window_s=2.0, start_s=0.8)
QUICK = Plan(rounds=1, warm_up_s=0.1, window_s=0.3, start_s=0.9)


def measure(case: Case, plan: Plan) -> Sample:
    """Percentiles of the time to a reply, the number of replies in the window, and the rate of the traffic meanwhile.

    If no command was answered in the window, the number is 0 and there are no times.
    """
    with Rig(case.peer, case.work) as rig:
        rig.start()
        rig.start_commander()
        window = rig.window(plan.warm_up_s, plan.window_s)
    if window.control is None:
        raise ChildError(f"{case.peer.name}: nothing asked at the control socket")
    times_us = window.control.round_trips_us
    sample = {"rate_per_s": window.rate_per_s, "answered": float(window.answered)}
    for name in ("p50", "p99", "worst"):
        if times_us:
            sample[f"{name}_ms"] = times_us[f"{name}_us"] / 1000
    return sample


def cells(quick: bool) -> tuple[Cell, ...]:
    """One busy STREAMER, and a hundred."""
    goal = Goal("p99_ms", NATIVE.name, None, BOUND_MS, at_least=False)
    return tuple(
        Cell(
            f"{pairs} busy streamer{'s' if pairs > 1 else ''}",
            tuple(
                Case.of(peer, Work("streamer", pairs=pairs, shared=True, controlled=True))
                for peer in (NATIVE, OWN_CONTROL, STEERABLE)
            ),
            QUICK if quick else FULL,
            (goal,),
        )
        for pairs in (PAIRS[:1] if quick else PAIRS)
    )


QUESTION = Question(
    name="control",
    title="STATISTICS at the control socket under full load, tcp 64 B",
    figures=("p50_ms", "p99_ms", "worst_ms", "answered", "rate_per_s"),
    cells=cells,
    measure=measure,
)
