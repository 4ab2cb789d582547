"""How long does it take to add one more broker to thousands, and to remove it?

The time is taken inside the broker's process, in the thread of the caller, while the other brokers are idle
(`bench/growth.py`). With `zmq.proxy`, an addition is two bound sockets and a thread, and cannot be removed. Over tcp
most of the time is spent in the kernel, which searches for a free port among thousands; over ipc it is spent in the
broker.
"""

from __future__ import annotations

import statistics

from bench.peers.table import GROWING, PROXY
from bench.question import Case, Cell, Plan, Question, Sample
from bench.rig import Rig
from bench.work import Work

TIMES = 50
COUNTS, QUICK_COUNTS = (1, 4000), (100,)
FULL = Plan(rounds=3, warm_up_s=0.0, window_s=0.0, start_s=2.7)
QUICK = Plan(rounds=1, warm_up_s=0.0, window_s=0.0, start_s=0.4)


def measure(case: Case, _plan: Plan) -> Sample:
    """The median and the worst of `TIMES` additions, and of as many removals."""
    with Rig(case.peer, case.work) as rig:
        started = rig.start_broker(growth=TIMES)
    sample = {"p50_ms": statistics.median(started.added_ms), "worst_ms": max(started.added_ms)}
    if started.removed_ms:
        sample["removed_p50_ms"] = statistics.median(started.removed_ms)
        sample["removed_worst_ms"] = max(started.removed_ms)
    return sample


def cells(quick: bool) -> tuple[Cell, ...]:
    """Few and many brokers alternate in one cell, so that adding to many is compared with adding to few."""
    counts = QUICK_COUNTS if quick else COUNTS
    return tuple(
        Cell(
            transport,
            tuple(
                Case(peer, Work("queue", transport=transport, pairs=count), f"{peer.name}, {count:,} there")
                for count in counts
                for peer in (GROWING, PROXY)
            ),
            QUICK if quick else FULL,
        )
        for transport in ("tcp", "ipc")
    )


QUESTION = Question(
    name="growth",
    title=f"One more queue, {TIMES} times",
    figures=("p50_ms", "worst_ms", "removed_p50_ms", "removed_worst_ms"),
    cells=cells,
    measure=measure,
)
