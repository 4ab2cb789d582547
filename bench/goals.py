"""The goals over several questions. Those of one cell stand with the question that measures it."""

from __future__ import annotations

from bench.peers.table import NATIVE, PROXY
from bench.question import OverallGoal

GRID = ("streamer-rate", "queue-requests", "queue-rate", "forwarder-rate")

OVERALL_GOALS = (OverallGoal(GRID, "rate_per_s", NATIVE.name, PROXY.name, 1.4, at_least=True),)
