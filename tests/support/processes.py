"""Scripts in processes of their own: for what would end, or spoil, the process that runs the tests."""

import subprocess
import sys
import textwrap


def run_apart(script: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    """What a script prints that runs, and ends well, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments],
        capture_output=True, text=True, timeout=100, check=False, env=env,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout
