"""What does it cost to copy every message to a capture socket, compared with pyzmq's broker that is made for this?

Both copy to a PUB, with a prefix frame that says where the message came from. A native SUB in a process of its own
takes as many copies as it can. The PUB drops the others, so the copies that arrived are shown beside the rate. In a
QUEUE, a request and its reply are two copies.
"""

from __future__ import annotations

from bench.peers.table import MONITORED_QUEUE, NATIVE
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.questions import rates
from bench.rig import Rig
from bench.work import Work

FULL = Plan(rounds=5, warm_up_s=0.3, window_s=0.7)
QUICK = Plan(rounds=1, warm_up_s=0.2, window_s=0.3)
TRAFFICS = ("streamer", "queue")


def measure(case: Case, plan: Plan) -> Sample:
    """Messages per second where they end, copies per second at the capture, and CPU of the broker's process."""
    with Rig(case.peer, case.work) as rig:
        rig.start()
        rig.wait_for_messages("capture", 1)
        window = rig.window(plan.warm_up_s, plan.window_s)
    return rates.figures_of(window, case.work) | {"captured_per_s": window.captured_per_s}


def cells(quick: bool) -> tuple[Cell, ...]:
    """A STREAMER and a QUEUE over tcp. Quick: the STREAMER."""
    # A broker that loses copies moves messages faster, so the rate of copies has the same goal.
    goals = tuple(
        Goal(figure, NATIVE.name, MONITORED_QUEUE.name, 1.0, at_least=True)
        for figure in ("rate_per_s", "captured_per_s")
    )
    return tuple(
        Cell(
            f"{traffic}, tcp 64 B",
            tuple(Case.of(peer, Work(traffic, captured=True)) for peer in (NATIVE, MONITORED_QUEUE)),
            QUICK if quick else FULL,
            goals,
        )
        for traffic in (TRAFFICS[:1] if quick else TRAFFICS)
    )


QUESTION = Question(
    name="capture",
    title="A broker with a capture, and MonitoredQueue",
    figures=("rate_per_s", "captured_per_s", "cpu_ns"),
    cells=cells,
    measure=measure,
)
