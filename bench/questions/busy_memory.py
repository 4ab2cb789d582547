"""Does a broker that decides grow while a million requests pass, and there are always more than its workers can take?

The resident memory is read when a tenth of the requests are answered, by when every queue has been full and every
worker busy, and again after the last one.
"""

from __future__ import annotations

from bench.peers.table import NATIVE
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.questions.guide_brokers import BROKERS, CLIENTS, WINDOW
from bench.rig import Rig
from bench.work import TRAFFIC, Work

# The more workers there are, the more requests it takes until the queues of libzmq have grown to their size.
REQUESTS, WORKERS = 1_000_000, 100
QUICK_REQUESTS, QUICK_WORKERS = 20_000, 10
BOUND_MIB = 1.0
# A sample is as long as the requests take.
FULL = Plan(rounds=3, warm_up_s=0.0, window_s=0.0, start_s=40.0)
QUICK = Plan(rounds=1, warm_up_s=0.0, window_s=0.0, start_s=1.2)
DEADLINE_S = 600.0


def measure(case: Case, _plan: Plan) -> Sample:
    """The resident memory after the last request, and by how much it grew since a tenth of them had been answered."""
    counter, requests = TRAFFIC[case.work.traffic].counter, case.work.limit
    with Rig(case.peer, case.work) as rig:
        rig.start()
        rig.wait_for_messages(counter, requests // 10, DEADLINE_S)
        before = rig.sample_broker()
        rig.wait_for_messages(counter, requests, DEADLINE_S)
        after = rig.sample_broker()
    return {
        "resident_mib": after.resident_kib / 1024,
        "grown_mib": (after.resident_kib - before.resident_kib) / 1024,
    }


def cells(quick: bool) -> tuple[Cell, ...]:
    """Both brokers over tcp. Quick: with fewer requests and workers."""
    requests, workers = (QUICK_REQUESTS, QUICK_WORKERS) if quick else (REQUESTS, WORKERS)
    return tuple(
        Cell(
            f"{broker}, {requests:,} requests, tcp 64 B",
            (Case.of(NATIVE, Work(traffic, peers=CLIENTS, window=WINDOW, workers=workers, limit=requests)),),
            QUICK if quick else FULL,
            (Goal("grown_mib", NATIVE.name, None, BOUND_MIB, at_least=False),),
        )
        for broker, traffic in BROKERS.items()
    )


QUESTION = Question(
    name="busy-memory",
    title="The memory of BALANCER and MAJORDOMO under full load",
    figures=("resident_mib", "grown_mib"),
    cells=cells,
    measure=measure,
)
