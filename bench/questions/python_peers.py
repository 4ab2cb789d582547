"""How far ahead of a relay in Python is pollbroker, whichever way one would write or find it?

`zmq.devices` runs C or Cython in its threads: it stands in the table and has no part in the goal. The two-thread relay
of a QUEUE uses sockets from two threads at once, which libzmq forbids: what it does is shown, and nothing is divided by
it.
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
    """As in the rate questions, but a relay that cannot be relied on may end in the middle."""
    if not _unsound(case):
        return rates.measure(case, plan)
    with Rig(case.peer, case.work) as rig:
        rig.start_broker()
        try:
            rig.start_load("backend")
            rig.start_load("frontend")
            rig.wait_for_messages("frontend", 1)
            window = rig.window(plan.warm_up_s, plan.window_s)
        except ChildError:  # it was bound, so it could be started; it did not stay alive
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
