"""How long is a round trip through one QUEUE, and how much longer with thousands of idle queues in the same process?

One REQ sends a request, waits for its reply, and sends the next; one REP answers. The idle queues are bound and have no
peers.
"""

from __future__ import annotations

from bench.peers.table import NATIVE, NONE, POLLER, PROXY, Peer
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.rig import Rig
from bench.work import Work

IDLE, QUICK_IDLE = (0, 1000, 4000), (0, 100)
FULL = Plan(rounds=5, warm_up_s=0.3, window_s=1.0, start_s=1.6)
QUICK = Plan(rounds=1, warm_up_s=0.1, window_s=0.2, start_s=0.6)
# The loop in Python asks every socket at every wake-up. One number of idle pairs is enough to show the cost of that.
POLLER_IDLE = 1000
# The value that `Engine` recommends if a round trip matters more than CPU time. The question `knobs` measures its cost.
SPIN_US = 100


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
    """One cell, in which all numbers of idle queues alternate, because they are compared with each other."""
    counts = QUICK_IDLE if quick else IDLE
    cases = [_case(peer, idle) for idle in counts for peer in (NATIVE, PROXY)]
    if not quick:
        cases += [_case(POLLER, idle) for idle in (0, POLLER_IDLE)]
        spinning = Work("round trip", engine={"spin_s": SPIN_US / 1e6})
        cases.append(Case(NATIVE, spinning, f"{NATIVE.name} spinning {SPIN_US} us, alone"))
    cases.append(Case.of(NONE, Work("round trip")))
    return (Cell("tcp 64 B", tuple(cases), QUICK if quick else FULL, _goals(counts)),)


def _goals(counts: tuple[int, ...]) -> tuple[Goal, ...]:
    alone, *beside = counts
    goals = [
        Goal(figure, _label(NATIVE, alone), _label(PROXY, alone), 1.0, at_least=False)
        for figure in ("p50_us", "p99_us")
    ]
    for idle in beside:
        goals.append(Goal("p50_us", _label(NATIVE, idle), _label(NATIVE, alone), 1.05, at_least=False))
        goals.append(Goal("p50_us", _label(NATIVE, idle), _label(PROXY, idle), 1.0, at_least=False))
    return tuple(goals)


def _case(peer: Peer, idle: int) -> Case:
    return Case(peer, Work("round trip", idle_pairs=idle), _label(peer, idle))


def _label(peer: Peer, idle: int) -> str:
    return f"{peer.name}, {idle:,} idle" if idle else f"{peer.name}, alone"


QUESTION = Question(
    name="round-trip",
    title="REQ through a QUEUE to REP in lockstep, idle queues beside it",
    figures=("p50_us", "p99_us", "p999_us", "resident_mib", "threads"),
    cells=cells,
    measure=measure,
)
