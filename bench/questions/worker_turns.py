"""How long does a worker that is ready wait for its next request, and does that grow with the number of workers?

All workers are busy, and requests wait. One worker answers, with which it is ready again; its next request is timed,
and then the next worker answers. So exactly one worker is ready at any time, and what grows with the number of workers
is the time that the broker, or libzmq, takes for each of them.
"""

from __future__ import annotations

from bench.peers.table import GUIDE_IN_C, GUIDE_IN_PYTHON, NATIVE, WIRE, Peer, installed, left_out
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.questions import rates
from bench.rig import Rig
from bench.work import Work

WORKERS = (1, 10, 1000)
# More requests than the most workers have in hand are on the way.
CLIENTS, WINDOW = 10, 200
BROKERS = {"balancer": "balanced turns", "majordomo": "majordomo turns"}
GUIDES = (GUIDE_IN_PYTHON, GUIDE_IN_C)
# A thousand workers in turn find nothing of theirs in the caches of the processor, nor do the kernel's connections.
BOUND = 1.25
FULL = Plan(rounds=5, warm_up_s=0.4, window_s=1.0, start_s=1.0)
QUICK = Plan(rounds=1, warm_up_s=0.1, window_s=0.2, start_s=0.9)


def measure(case: Case, plan: Plan) -> Sample:
    """Percentiles of the time from a worker's reply to its next request, and the CPU time of the broker for each."""
    with Rig(case.peer, case.work) as rig:
        rig.start()
        # Each worker has had its turn: every connection and queue has been used.
        rig.wait_for_messages("backend", case.work.workers)
        window = rig.window(plan.warm_up_s, plan.window_s)
    return {**rates.figures_of(window, case.work), **window.counted.round_trips_us}


def cells(quick: bool) -> tuple[Cell, ...]:
    """A cell for each broker, in which all numbers of workers alternate, because they are compared with each other.
    Quick: one broker, without the guide's."""
    few, *more = WORKERS
    peers = (NATIVE,) if quick else installed((NATIVE, WIRE, *GUIDES))
    goals = tuple(
        Goal(figure, _label(ours, workers), _label(ours, few), BOUND, at_least=False)
        for ours in (NATIVE, WIRE)
        if ours in peers
        for workers in more
        for figure in ("p50_us", "p99_us", "cpu_ns")
    )
    return tuple(
        Cell(
            f"{broker}, tcp 64 B",
            tuple(
                Case(peer, Work(traffic, peers=CLIENTS, window=WINDOW, workers=workers), _label(peer, workers))
                for workers in WORKERS
                for peer in peers
            ),
            QUICK if quick else FULL,
            goals,
        )
        for broker, traffic in tuple(BROKERS.items())[: 1 if quick else None]
    )


def _label(peer: Peer, workers: int) -> str:
    return f"{peer.name}, {workers:,} worker{'s' if workers > 1 else ''}"


QUESTION = Question(
    name="worker-turns",
    title="From a worker's reply, with which it is ready again, to its next request",
    figures=("p50_us", "p99_us", "p999_us", "cpu_ns"),
    cells=cells,
    measure=measure,
    note=" ".join(left_out(GUIDES)),
)
