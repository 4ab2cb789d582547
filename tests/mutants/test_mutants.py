"""The kit finds every engine that is broken on purpose."""

import gc

import pytest

from tests.mutants.breaking import broken, find
from tests.mutants.table import MUTANTS, Mutant

MOST_SEEDS = 8000
"""Most take less than a hundred; docs/testing.md has the table."""


# A broken engine may leave sockets and generators behind when it ends in the middle.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.claim.replace(" ", "_") for mutant in MUTANTS])
def test_mutant_is_found(mutant: Mutant) -> None:
    found = find(mutant, MOST_SEEDS, first=mutant.found_by)
    gc.collect()  # here, and not in the test that comes next
    assert found is not None, "no seed finds it"


def test_a_mutant_that_applies_no_longer_says_so() -> None:
    with pytest.raises(ValueError, match="'gone': expected 'return 2'"):
        broken(find, (("return 2", "return 3"),), "gone")
