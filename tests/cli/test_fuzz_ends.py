"""`pollbroker fuzz` ends with all of its processes, however it is ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from pollbroker.testing import fuzzing
from tests.support.commands import dispositions
from tests.support.deadline import DEADLINE_S, wait_until


def living(group: int) -> list[str]:
    """The processes of a group, without those that have ended and that nobody has asked for."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pgid=,stat=,args="], capture_output=True, text=True, check=True, timeout=DEADLINE_S
    )
    lines = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [line[2] for line in lines if len(line) == 3 and line[0] == str(group) and line[1][:1] != "Z"]


def workers(group: int) -> list[str]:
    return [command for command in living(group) if "multiprocessing.spawn" in command]


@pytest.fixture
def fuzz() -> Iterator["subprocess.Popen[bytes]"]:
    """`pollbroker fuzz` at work in a process group of its own, with two processes."""
    with dispositions(()):
        process = subprocess.Popen(
            [sys.executable, "-m", "pollbroker", "fuzz", "--minutes", "10", "--jobs", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
    try:
        yield process
    finally:
        if living(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=DEADLINE_S)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ending", "to_all"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, True), (signal.SIGHUP, False)],
    ids=["SIGINT to all", "SIGINT to it alone", "SIGTERM to all", "SIGHUP to it alone"],
)
def test_signal_ends_fuzz_and_its_processes(
    fuzz: "subprocess.Popen[bytes]", ending: signal.Signals, to_all: bool
) -> None:
    wait_until(lambda: len(workers(fuzz.pid)) == 2)
    if to_all:  # as a terminal and `timeout` do
        os.killpg(fuzz.pid, ending)
    else:
        fuzz.send_signal(ending)
    _, stderr = fuzz.communicate(timeout=DEADLINE_S)
    assert (fuzz.returncode, stderr.strip()) == (128 + ending, b"")
    wait_until(lambda: not living(fuzz.pid))


@pytest.mark.slow
def test_processes_of_a_killed_fuzz_end_too(fuzz: "subprocess.Popen[bytes]") -> None:
    wait_until(lambda: len(workers(fuzz.pid)) == 2)
    fuzz.kill()
    wait_until(lambda: not workers(fuzz.pid))


@pytest.mark.slow
def test_closing_the_iterator_ends_its_processes() -> None:
    began_s = time.monotonic()
    with closing(fuzzing.fuzz(jobs=1)) as rounds:
        assert next(rounds).seeds == 50
        (worker,) = (line for line in children() if "multiprocessing.spawn" in line)
    assert worker not in children()
    assert time.monotonic() - began_s < 60


def children() -> list[str]:
    """This process's children that live, each with its number and its command."""
    listed = subprocess.run(
        ["ps", "-A", "-ww", "-o", "ppid=,stat=,pid=,args="],
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )
    lines = [line.split(None, 2) for line in listed.stdout.splitlines()]
    return [line[2] for line in lines if len(line) == 3 and line[0] == str(os.getpid()) and line[1][:1] != "Z"]
