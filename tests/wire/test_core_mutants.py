"""The harness finds faults: each mutant of the core breaks a promise in a bounded number of runs."""

import subprocess
from pathlib import Path

import pytest

from tests.wire.building import MEASURED, SANITIZED, WIRE, Build, compiler, corpus
from tests.wire.mutants import MUTANTS, Mutant

IDS = [mutant.claim.replace(" ", "_") for mutant in MUTANTS]

RUNS = 20_000
"""How many inputs are tried at most, after those of the corpus. Most mutants are found in the corpus."""


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Build]:
    directory = tmp_path_factory.mktemp("mutants")
    return {True: Build(directory / "sanitized", SANITIZED), False: Build(directory / "measured", MEASURED)}


@pytest.mark.parametrize("mutant", MUTANTS, ids=IDS)
def test_what_a_mutant_changes_is_in_the_source(mutant: Mutant) -> None:
    text = (WIRE / mutant.file).read_text()
    assert mutant.applied_to(text) != text


def test_claims_of_mutants_are_unique() -> None:
    assert len(set(IDS)) == len(IDS)


@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="the harness is built with gcc, which is not there")
@pytest.mark.parametrize("mutant", MUTANTS, ids=IDS)
def test_mutant_is_found(mutant: Mutant, builds: dict[bool, Build], tmp_path: Path) -> None:
    program = builds[not mutant.check].with_mutant(mutant, tmp_path / "mutant")
    arguments = ["--checks", mutant.check] if mutant.check else ["--runs", str(RUNS), *corpus()]
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=300)
    except subprocess.TimeoutExpired:
        return  # it does not end, which is a fault, too
    assert done.returncode != 0, f"{mutant.claim}: not found\n{done.stdout}"
