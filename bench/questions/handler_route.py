"""How fast is pollbroker with a Python function on every route, compared with a `zmq.Poller` loop in Python?"""

from __future__ import annotations

from bench.peers.table import HANDLER, NATIVE, POLLER, POLLER_SINGLE
from bench.question import Case, Cell, Goal, Plan, Question
from bench.questions import rates
from bench.work import Work

FULL = Plan(rounds=5, warm_up_s=0.3, window_s=0.7)
QUICK = Plan(rounds=1, warm_up_s=0.2, window_s=0.3)
TRAFFICS = ("streamer", "queue")


def cells(quick: bool) -> tuple[Cell, ...]:
    """A STREAMER and a QUEUE over tcp; the handler gives back what it is given. Quick: the STREAMER."""
    peers = (HANDLER, POLLER) if quick else (HANDLER, POLLER, POLLER_SINGLE, NATIVE)
    goal = Goal("rate_per_s", HANDLER.name, POLLER.name, 1.3, at_least=True)
    return tuple(
        Cell(
            f"{traffic}, tcp 64 B",
            tuple(Case.of(peer, Work(traffic)) for peer in peers),
            QUICK if quick else FULL,
            (goal,),
        )
        for traffic in (TRAFFICS[:1] if quick else TRAFFICS)
    )


QUESTION = Question(
    name="handler-route",
    title="A Python handler on every route, and a plain Poller loop",
    figures=rates.FIGURES,
    cells=cells,
    measure=rates.measure,
)
