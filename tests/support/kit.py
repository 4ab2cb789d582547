"""What tests of the kit share."""

from hypothesis import HealthCheck, settings

from tests.mutants.table import MUTANTS

few = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def shouted(frames: list[bytes]) -> list[bytes] | None:
    """A handler that changes messages, and drops those that have nothing to say."""
    return [frame.upper() for frame in frames] if len(frames) > 1 else None


FORGETFUL = next(mutant for mutant in MUTANTS if mutant.claim == "held message forgotten")
