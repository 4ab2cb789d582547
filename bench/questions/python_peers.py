"""How much faster is pollbroker than relays that are written in Python?

`zmq.devices` runs C or Cython in its threads, so it is in the table without a goal. The two-thread relay of a QUEUE
uses sockets from two threads at once, which libzmq forbids. Its rate is shown, but no ratio to it is a goal.
"""

from __future__ import annotations

from bench.child import ChildError
from bench.peers.table import (
    ASYNCIO,
    GREEN,
    MONITORED_QUEUE,
    NATIVE,
    POLLER,
    POLLER_SINGLE,
    PYTHON,
    THREAD_PROXY,
    TWO_THREADS,
    installed,
    left_out,
)
from bench.question import Case, Cell, Goal, Plan, Question, Sample
from bench.questions import rates
from bench.rig import Rig
from bench.work import Work

FULL = Plan(rounds=5, warm_up_s=0.3, window_s=0.7)
QUICK = Plan(rounds=1, warm_up_s=0.2, window_s=0.3)
IN_PYTHON = (POLLER, POLLER_SINGLE, TWO_THREADS, GREEN, ASYNCIO)
IN_C = (THREAD_PROXY, MONITORED_QUEUE)
TRAFFICS = ("streamer", "queue")
GOAL = 8.0
NOTE = "queue, two-thread relay: 0 messages are a hang, or an abort of its process."


def measure(case: Case, plan: Plan) -> Sample:
    """As in the rate questions, except that the two-thread relay of a QUEUE may end or hang in the middle."""
    if not _unsound(case):
        return rates.measure(case, plan)
    with Rig(case.peer, case.work) as rig:
        rig.start_broker()
        try:
            rig.start_load("backend")
            rig.start_load("frontend")
            rig.wait_for_messages("frontend", 1)
            window = rig.window(plan.warm_up_s, plan.window_s)
        except ChildError:  # the relay has started, because it was bound, but has ended or hangs
            return {"rate_per_s": 0.0, "megabytes_per_s": 0.0}
    return rates.figures_of(window, case.work)


def cells(quick: bool) -> tuple[Cell, ...]:
    """A STREAMER and a QUEUE over tcp, 64 B in one frame. Quick: the STREAMER, and only those that the goal names."""
    peers = installed((NATIVE, *IN_PYTHON) if quick else (NATIVE, PYTHON, *IN_PYTHON, *IN_C))
    cells = []
    for traffic in TRAFFICS[:1] if quick else TRAFFICS:
        cases = tuple(Case.of(peer, Work(traffic)) for peer in peers)
        goals = tuple(
            Goal("rate_per_s", NATIVE.name, case.peer.name, GOAL, at_least=True)
            for case in cases
            if case.peer in IN_PYTHON and not _unsound(case)
        )
        cells.append(Cell(f"{traffic}, tcp 64 B", cases, QUICK if quick else FULL, goals))
    return tuple(cells)


def _unsound(case: Case) -> bool:
    return case.peer is TWO_THREADS and case.work.traffic == "queue"


QUESTION = Question(
    name="python-peers",
    title="pollbroker and the relays that run in Python",
    figures=rates.FIGURES,
    cells=cells,
    measure=measure,
    note=" ".join([NOTE, *left_out(IN_PYTHON)]),
)
