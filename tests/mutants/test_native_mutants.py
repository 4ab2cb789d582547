"""The commands that look for faults of the native code: what they change is there, and they see what they are to see.

All mutants are looked for by `python -m tests.mutants --native`, a step of CI (docs/mutation.md).
"""

import re
from pathlib import PurePath

import pytest

from tests.mutants import native
from tests.mutants.__main__ import judge
from tests.mutants.building import BuildError, changed, run_tests
from tests.sanitize import sanitize, sanitized_copy
from tests.support.tree import TREE

IDS = [mutant.claim.replace(" ", "_") for mutant in native.MUTANTS]


@pytest.mark.parametrize("mutant", native.MUTANTS, ids=IDS)
def test_what_a_mutant_changes_is_in_the_source(mutant: native.Mutant) -> None:
    text = (TREE / "pollbroker" / mutant.path).read_text()
    assert changed(text, mutant) != text


@pytest.mark.parametrize("mutant", native.MUTANTS, ids=IDS)
def test_the_test_that_finds_a_mutant_is_there(mutant: native.Mutant) -> None:
    path, _, name = mutant.test.partition("::")
    assert not mutant.test or f"def {name}(" in (TREE / path).read_text()


def test_a_mutant_that_applies_no_longer_says_so() -> None:
    gone = native.Mutant("gone", native.HUB, (("what is not there", "anything"),))
    with pytest.raises(BuildError, match=r"'gone': expected 'what is not there' once in pump/hub\.pxi, not 0 times"):
        changed("", gone)


def test_claims_of_mutants_are_unique() -> None:
    assert len(set(IDS)) == len(IDS)


def test_page_has_each_mutant_and_its_file() -> None:
    _, _, section = (TREE / "docs/mutation.md").read_text().partition("\n## Mutants of the native code\n")
    rows = re.findall(r"^\| (.+?) \| `(.+?)` \| .+ \|$", section, re.MULTILINE)
    assert sorted(rows) == sorted((mutant.claim, PurePath(mutant.path).name) for mutant in native.MUTANTS)
    assert f"All {len(rows)} are found" in section


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


# One build has all three: the test for each meets its own fault first, and ends with it.
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sanitizers_find_what_was_planted() -> None:
    with sanitized_copy(native.OVERFLOW, native.READ_AFTER_CLOSE, native.FREED_TWICE) as directory:
        for test, found in (
            (native.OVERFLOW.test, "AddressSanitizer: heap-buffer-overflow"),
            (native.READ_AFTER_CLOSE.test, "AddressSanitizer: heap-use-after-free"),
            (native.FREED_TWICE.test, "AddressSanitizer: attempting double-free"),
        ):
            verdict = sanitize(directory, (test, "-k", "native"))
            assert verdict.failed
            assert verdict.by == found, verdict.output


def test_tests_that_cannot_be_run_find_nothing(tmp_path: object) -> None:
    with pytest.raises(BuildError, match="the tests could not be run"):
        run_tests(TREE, ("tests/there_is_no_such_file.py",))
