"""What does a broker cost while messages wait in it and there is no consumer?

libzmq's proxy spins, because its frontend is readable and its backend is not writable. After the window a consumer
connects. If not every message reaches it, the sample fails, because a broker that had lost the messages would be idle
too.
"""

from __future__ import annotations

from bench.peers.table import NATIVE, POLLER, PROXY, PYTHON
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.rig import Rig
from bench.work import Work

QUEUED = 100
FULL = Plan(rounds=5, warm_up_s=0.5, window_s=3.0)
QUICK = Plan(rounds=1, warm_up_s=0.3, window_s=1.0)


def measure(case: Case, plan: Plan) -> Sample:
    """CPU of the broker's process in percent of a core, with `QUEUED` messages in it and no consumer."""
    with Rig(case.peer, case.work) as rig:
        rig.start_broker()
        rig.start_load("frontend")
        rig.wait_for_messages("frontend", QUEUED)
        window = rig.window(plan.warm_up_s, plan.window_s)
        rig.start_load("backend")
        rig.wait_for_messages("backend", QUEUED)
    return {"cpu_percent": 100 * window.cpu_share}


def cells(quick: bool) -> tuple[Cell, ...]:
    """One STREAMER over tcp."""
    work = Work("streamer", limit=QUEUED)
    goals = tuple(Goal("cpu_percent", peer.name, None, 1.0, at_least=False) for peer in (NATIVE, PYTHON))
    cases = tuple(Case.of(peer, work) for peer in (NATIVE, PYTHON, PROXY, POLLER))
    return (Cell("tcp 64 B", cases, QUICK if quick else FULL, goals),)


QUESTION = Question(
    name="consumer-away",
    title=f"One STREAMER, {QUEUED} messages queued, no consumer",
    figures=("cpu_percent",),
    cells=cells,
    measure=measure,
    start_s=0.6,
)
