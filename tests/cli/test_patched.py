"""`pollbroker patched` runs another program, in which pollbroker's devices are in pyzmq's place."""

import sys

import pytest

import pollbroker.devices
from tests.support.commands import Run, invoke


def test_program_runs_on_pollbroker_in_the_process_of_the_command(run: Run) -> None:
    script = "import os, sys, zmq; print(zmq.proxy.__module__, os.getpid(), *sys.argv[1:]); sys.exit(7)"
    command = run("patched", sys.executable, "-c", script, "--help", "-x", "--", "last")
    code, lines, stderr = command.end()
    patched = pollbroker.devices.proxy.__module__
    assert (code, lines, stderr) == (7, [f"{patched} {command.process.pid} --help -x -- last"], "")


def test_program_is_found_by_its_name(run: Run) -> None:
    assert run("patched", "sh", "-c", "echo $PYTHONPATH").end()[1][0].endswith("at_start")


def test_program_is_ended_by_a_pipe_that_is_cut_off(run: Run) -> None:
    code, _, stderr = run("patched", "sh", "-c", "kill -PIPE $$; echo survived").end()
    assert (code, stderr) == (-13, "")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("no-such-program", "no-such-program: No such file or directory; expected a command"),
        ("/", "/: Permission denied; expected a command"),
    ],
)
def test_program_that_cannot_be_run_is_one_line_and_exit_code_2(program: str, expected: str, run: Run) -> None:
    code, lines, stderr = run("patched", program).end()
    assert (code, lines, stderr) == (2, [], f"python -m pollbroker patched: {expected}\n")


def test_missing_program_is_one_line_and_exit_code_2() -> None:
    result = invoke("patched")
    assert (result.exit_code, result.stderr) == (2, "pollbroker patched: Missing argument 'PROGRAM'.\n")
