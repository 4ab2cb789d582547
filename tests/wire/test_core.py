"""The core of the wire: no bytes of a peer break it, what is sent arrives once, and no peer takes more than its share.

The harness is in C, beside the files of the corpus. `python -m tests.wire --seconds 600` fuzzes for longer.
"""

import subprocess
from pathlib import Path

import pytest

from tests.wire.building import MEASURED, SANITIZED, Build, compiler, corpus

pytestmark = pytest.mark.skipif(compiler() is None, reason="the harness is built with gcc, which is not there")

RUNS = 1_500


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Build(tmp_path_factory.mktemp("wire") / "sanitized", SANITIZED).program


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Build(tmp_path_factory.mktemp("wire") / "measured", MEASURED).program


def run(program: Path, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, cwd=program.parent, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_has_once_been_a_problem_is_none(sanitized: Path) -> None:
    run(sanitized, *corpus())


@pytest.mark.slow
def test_each_allocation_may_fail(sanitized: Path) -> None:
    run(sanitized, "--without-memory", "30", *corpus())


@pytest.mark.slow
@pytest.mark.parametrize("target", ["raw", "traffic", "login"])
def test_no_input_breaks_a_promise(sanitized: Path, target: str) -> None:
    run(sanitized, "--target", target, "--runs", str(RUNS), "--seed", "1")


@pytest.mark.slow
def test_memory_time_and_shares_are_bounded(measured: Path) -> None:
    print(run(measured, "--checks"))


def test_the_corpus_is_small() -> None:
    assert sum(Path(name).stat().st_size for name in corpus()) < 300 << 10
