"""Scripts in processes of their own: for what would end, or spoil, the process that runs the tests."""

import subprocess
import sys
import textwrap


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
        env=env,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run
