"""How many requests a second does one QUEUE carry to an echo worker and back, and what does one cost?"""

from __future__ import annotations

from bench.peers.table import NATIVE, PROXY
from bench.question import Cell, Goal, Question
from bench.questions import rates

GOALS = (Goal("rate_per_s", NATIVE.name, PROXY.name, 1.2, at_least=True),)


def cells(quick: bool) -> tuple[Cell, ...]:
    """Pipelined requests: the broker sees three frames, both ways: the routing id, an empty one and the body."""
    return rates.grid("queue", GOALS, quick=quick)


QUESTION = Question(
    name="queue-rate",
    title="One QUEUE, pipelined requests to an echo worker; a message is a request and its reply",
    figures=rates.FIGURES,
    cells=cells,
    measure=rates.measure,
    note=rates.NOTE,
)
