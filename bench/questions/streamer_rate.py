"""How many messages a second does one STREAMER move, and what does one message cost?"""

from __future__ import annotations

from bench.peers.table import BARE, NATIVE, PROXY
from bench.question import Cell, Goal, Question
from bench.questions import rates

GOALS = (
    Goal("rate_per_s", NATIVE.name, PROXY.name, 1.8, at_least=True),
    Goal("cpu_ns", NATIVE.name, PROXY.name, 0.5, at_least=False),
)


def cells(quick: bool) -> tuple[Cell, ...]:
    """PUSH to PULL through one pair, with messages of one frame. The headline cell also has the bare C loop."""
    return rates.grid("streamer", GOALS, quick=quick, headline_peers=(*rates.PEERS, BARE))


QUESTION = Question(
    name="streamer-rate",
    title="One STREAMER, PUSH to PULL, messages of one frame",
    figures=rates.FIGURES,
    cells=cells,
    measure=rates.measure,
    note=rates.NOTE,
)
