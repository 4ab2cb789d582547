"""A copy of the package with some lines changed, built anew, and the tests in a fresh process against that copy.

`breaking.py` replaces a function of the running engine. Native code cannot be replaced so: it is built, which takes
three seconds, and the tests are told to use it by where they are run. `tests/sanitize.py` builds its copy here too.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.mutants.native import Mutant
from tests.support.tree import TREE

PARTS: Final = (
    "tests/native/test_faults.py",
    "tests/pump/test_settling.py",
    "tests/pump/test_hub.py",
    "tests/waiting",
    "tests/pump",
    "tests/native",
)
"""The tests of the pump and of what carries it: those that call the native code directly, the fastest first."""

LIMIT_S: Final = 900
"""How long one run of the tests may take. Each test has a shorter limit of its own."""

_RUN: Final = """
import pathlib, sys
try:
    import pollbroker.pump.native as native
    assert pathlib.Path(native.__file__).is_relative_to(sys.argv[1]), native.__file__
except BaseException as error:
    sys.exit(f"the native code of the copy cannot be used: {error!r}")
import pytest
sys.exit(0 if pytest.main(sys.argv[2:]) == 0 else 99)
"""
"""Runs the tests, if it is the copy that they would run with. 99 says that the tests have failed, and nothing else."""

_FAILED: Final = 99


class Verdict(NamedTuple):
    """What the tests said of a copy."""

    failed: bool
    by: str
    """The first test that failed, or how the process ended."""
    output: str


class BuildError(Exception):
    """There is nothing to run: the copy could not be made, built or tested."""


def changed(text: str, mutant: Mutant) -> str:
    """The text with the mutant's lines replaced. Raises `BuildError` unless each of them stands in it once."""
    for old, new in mutant.edits:
        if text.count(old) != 1:
            raise BuildError(
                f"mutant {mutant.claim!r}: expected {old!r} once in {mutant.path}, not {text.count(old)} times"
            )
        text = text.replace(old, new)
    return text


def make_copy(directory: Path, *mutants: Mutant) -> None:
    """Copy what the tests need into a directory, with the lines of mutants replaced. What Python has compiled is copied
    too: it is used where the source has not changed."""
    for name in ("pollbroker", "tests", "bench"):
        shutil.copytree(TREE / name, directory / name, ignore=shutil.ignore_patterns("*.so", "native.c"))
    for name in ("pyproject.toml", "setup.py"):
        shutil.copy(TREE / name, directory)
    for mutant in mutants:
        path = directory / "pollbroker" / mutant.path
        path.write_text(changed(path.read_text(), mutant))


def build(directory: Path, *flags: str) -> None:
    """Build the native code of a copy, as `pip install` does but for the flags, which are the compiler's."""
    pump = directory / "pollbroker" / "pump"
    limited_api = re.search('LIMITED_API = "(.+)"', (directory / "setup.py").read_text())
    assert limited_api is not None
    compiler = os.environ.get("CC", "gcc").split()
    include = sysconfig.get_path("include")
    _run(sys.executable, "-m", "cython", "-3", str(pump / "native.pyx"), "-o", str(pump / "native.c"))
    flags = ("-shared", "-fPIC", "-pthread", *flags, f"-DPy_LIMITED_API={limited_api[1]}", f"-I{include}")
    _run(*compiler, *flags, str(pump / "native.c"), "-o", str(pump / "native.abi3.so"))


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    if result.returncode != 0:
        raise BuildError(f"{' '.join(command)}:\n{result.stdout}{result.stderr}")


def run_tests(
    directory: Path, selection: Sequence[str], *options: str, environment: dict[str, str] | None = None
) -> Verdict:
    """Run tests against a built copy, to the first that fails, in a fresh process."""
    command = [sys.executable, "-c", _RUN, str(directory), *selection, "-x", "-p", "no:cacheprovider", "-rfE"]
    # One process; and a time-out by a thread, since a signal would wait for native code that never returns.
    command += ["-n", "0", "--timeout-method=thread", *options]
    own = {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"}
    try:
        result = subprocess.run(
            command,
            cwd=directory,
            env=os.environ | own | (environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return Verdict(True, f"still running after {LIMIT_S} s", str(error.stdout))
    return _verdict(result.returncode, result.stdout)


def _verdict(code: int, output: str) -> Verdict:
    named = re.search(r"^(?:FAILED|ERROR) \S+?::(\w+)", output, re.MULTILINE)
    if code == 0:
        return Verdict(False, "", output)
    if code < 0:
        return Verdict(True, signal.Signals(-code).name, output)
    if report := re.search(
        r"==\d+==ERROR: (\w+Sanitizer: .*?)(?: on| \(|$)|(runtime error: .*)$", output, re.MULTILINE
    ):
        return Verdict(True, report[1] or report[2], output)
    if "+ Timeout +" in output:
        return Verdict(True, "a test that never ended", output)
    if code != _FAILED or named is None:
        raise BuildError(f"the tests could not be run (exit code {code}):\n{output}")
    return Verdict(True, f"`{named[1]}`", output)
