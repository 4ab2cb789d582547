"""How long is a round trip through one QUEUE, and how much longer with a thousand idle queues in the same process?

One REQ sends a request, waits for its reply, and sends the next; one REP answers. The idle queues are bound and have no
peers.
"""

from __future__ import annotations

from bench.peers.table import NATIVE, PROXY, Peer
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.rig import Rig
from bench.work import Work

FEW, MANY = 1, 1000
FULL = Plan(rounds=5, warm_up_s=0.5, window_s=2.0)
QUICK = Plan(rounds=2, warm_up_s=0.2, window_s=0.6)


def measure(case: Case, plan: Plan) -> Sample:
    """Percentiles of the round trips in the window, and what the broker's process holds."""
    with Rig(case.peer, case.work) as rig:
        rig.start()
        window = rig.window(plan.warm_up_s, plan.window_s)
    sample = {"rate_per_s": window.rate_per_s, **window.counted.round_trips_us}
    if window.broker is not None:
        sample["resident_mib"] = window.broker.resident_kib / 1024
        if window.broker.threads:
            sample["threads"] = window.broker.threads
    return sample


def cells(quick: bool) -> tuple[Cell, ...]:
    """Few and many idle queues, each of pollbroker and of zmq.proxy."""
    goals = tuple(
        Goal(figure, _label(NATIVE, MANY), _label(NATIVE, FEW), 1.1, at_least=False) for figure in ("p50_us", "p99_us")
    )
    cases = tuple(
        Case(peer, Work("round trip", idle_pairs=idle), _label(peer, idle))
        for peer in (NATIVE, PROXY)
        for idle in (FEW, MANY)
    )
    return (Cell("tcp 64 B", cases, QUICK if quick else FULL, goals),)


def _label(peer: Peer, idle: int) -> str:
    return f"{peer.name}, {idle} idle"


QUESTION = Question(
    name="round-trip",
    title="REQ through a QUEUE to REP in lockstep, idle queues beside it",
    figures=("p50_us", "p99_us", "resident_mib", "threads"),
    cells=cells,
    measure=measure,
    start_s=0.8,
)
