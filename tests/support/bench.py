"""What tests of the bench share."""

from bench.question import Plan

PLAN = Plan(rounds=2, warm_up_s=0.1, window_s=0.2)
"""The least that can be called a run."""
