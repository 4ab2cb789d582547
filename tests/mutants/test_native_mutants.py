"""The commands that look for faults of the native code: what they change is there, and they see what they are to see.

All mutants are looked for by `python -m tests.mutants --native`, a step of CI (docs/mutation.md).
"""

import pytest

from tests.mutants import native
from tests.mutants.__main__ import judge
from tests.mutants.building import BuildError, changed, run_tests
from tests.sanitize import sanitize
from tests.support.tree import TREE

IDS = [mutant.claim.replace(" ", "_") for mutant in native.MUTANTS]


@pytest.mark.parametrize("mutant", native.MUTANTS, ids=IDS)
def test_what_a_mutant_changes_is_in_the_source(mutant: native.Mutant) -> None:
    text = (TREE / "pollbroker" / mutant.path).read_text()
    assert changed(text, mutant) != text


def test_a_mutant_that_applies_no_longer_says_so() -> None:
    gone = native.Mutant("gone", native.HUB, (("what is not there", "anything"),))
    with pytest.raises(BuildError, match=r"'gone': expected 'what is not there' once in pump/hub\.pxi, not 0 times"):
        changed("", gone)


def test_claims_of_mutants_are_unique() -> None:
    assert len(set(IDS)) == len(IDS)


@pytest.mark.slow
def test_a_mutant_that_changes_nothing_is_not_found() -> None:
    nothing = native.Mutant(
        "nothing", native.HUB, (("cdef readonly Pump pump\n", "cdef readonly Pump pump  # same\n"),)
    )
    verdict = judge(nothing, ("tests/pump/test_hub.py", "tests/pump/test_settling.py", "tests/pump/test_waking.py"))
    assert not verdict.failed, verdict.output


@pytest.mark.slow
def test_a_mutant_is_found_by_a_test() -> None:
    mutant = next(mutant for mutant in native.MUTANTS if mutant.claim == "only the first socket is checked to be open")
    verdict = judge(mutant, ("tests/pump/test_hub.py",))
    assert (verdict.failed, verdict.by) == (True, "`test_every_socket_is_checked_to_be_open`")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mutant", "selection", "found"),
    [
        (native.OVERFLOW, "tests/waiting/test_nested.py", "AddressSanitizer: heap-buffer-overflow"),
        (native.READ_AFTER_CLOSE, "tests/native/test_sizes.py", "AddressSanitizer: heap-use-after-free"),
        (native.FREED_TWICE, "tests/native/test_live_frames.py", "AddressSanitizer: attempting double-free"),
    ],
    ids=["overflow", "read_after_close", "freed_twice"],
)
def test_sanitizers_find_what_was_planted(mutant: native.Mutant, selection: str, found: str) -> None:
    verdict = sanitize((selection, "-k", "native"), mutant)
    assert verdict.failed
    assert verdict.by == found, verdict.output


def test_tests_that_cannot_be_run_find_nothing(tmp_path: object) -> None:
    with pytest.raises(BuildError, match="the tests could not be run"):
        run_tests(TREE, ("tests/there_is_no_such_file.py",))
