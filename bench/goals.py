"""The goals over several questions. The goals of a single cell are in the module of its question."""

from __future__ import annotations

from bench.peers.table import NATIVE, PROXY, WIRE
from bench.question import OverallGoal

GRID = ("streamer-rate", "queue-requests", "queue-rate", "forwarder-rate")

OVERALL_GOALS = (
    OverallGoal(GRID, "rate_per_s", NATIVE.name, PROXY.name, 1.4, at_least=True),
    OverallGoal(("wire-grid",), "rate_per_s", WIRE.name, PROXY.name, 1.6, at_least=True),
)
