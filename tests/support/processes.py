"""Scripts in processes of their own: for what would end, or spoil, the process that runs the tests."""

import os
import subprocess
import sys
import textwrap

from tests.support.commands import VARIABLES


def run_apart(script: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    """What a script prints that runs, and ends well, in a process of its own."""
    return run_apart_with_errors(script, *arguments, env=env).stdout


def run_apart_with_errors(
    script: str, *arguments: str, env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """The same, with what it writes to its standard error."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=(os.environ if env is None else env) | VARIABLES,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run
