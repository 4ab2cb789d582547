"""Where the native pump cannot be built, is the Python pump at least as fast as a `zmq.Poller` loop in Python?"""

from __future__ import annotations

from bench.peers.table import POLLER, POLLER_SINGLE, PYTHON
from bench.question import Case, Cell, Goal, Question
from bench.questions import rates
from bench.work import Work


def cells(quick: bool) -> tuple[Cell, ...]:
    """A STREAMER and a QUEUE over tcp."""
    goal = Goal("rate_per_s", PYTHON.name, POLLER.name, 1.0, at_least=True)
    return tuple(
        Cell(
            f"{traffic}, tcp 64 B",
            tuple(Case.of(peer, Work(traffic)) for peer in (PYTHON, POLLER, POLLER_SINGLE)),
            rates.QUICK if quick else rates.HEADLINE,
            (goal,),
        )
        for traffic in ("streamer", "queue")
    )


QUESTION = Question(
    name="python-pump",
    title="The Python pump and a plain Poller loop",
    figures=rates.FIGURES,
    cells=cells,
    measure=rates.measure,
)
