"""How many three-frame messages a second does one QUEUE carry from clients to workers, and what does one cost?"""

from __future__ import annotations

from bench.peers.table import NATIVE, PROXY
from bench.question import Cell, Goal, Question
from bench.questions import rates

GOALS = (Goal("rate_per_s", NATIVE.name, PROXY.name, 1.2, at_least=True),)


def cells(quick: bool) -> tuple[Cell, ...]:
    """Requests without replies, so that the broker limits the rate, and not the round trip."""
    return rates.grid("requests", GOALS, quick=quick)


QUESTION = Question(
    name="queue-requests",
    title="One QUEUE, requests one way: three frames (routing id, empty, body) from a ROUTER to a DEALER",
    figures=rates.FIGURES,
    cells=cells,
    measure=rates.measure,
    note=rates.NOTE,
)
