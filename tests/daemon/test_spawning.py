"""Programs that are started as nobody's child."""

import os
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pollbroker.daemon.spawning import Orphan
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.descriptors import descriptors, opened_since
from tests.support.processes import run_apart

ASKED = """
import os, sys
os.write(int(sys.argv[1]), f"{os.getppid()} {os.environ.get('SAID')}".encode())
"""

SLEEPS = "import time; time.sleep(1000)"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def start(program: str, descriptor: int) -> Orphan:
    environment = os.environ | {"SAID": "hello"}
    return Orphan([sys.executable, "-c", program, str(descriptor)], descriptor, environment)


def test_program_has_the_descriptor_and_the_environment_and_another_parent(pipe: tuple[int, int]) -> None:
    before = descriptors()
    with closing(start(ASKED, pipe[1])):
        parent, said = os.read(pipe[0], 100).decode().split()
    assert int(parent) != os.getpid()
    assert said == "hello"
    assert not opened_since(before)


def test_program_that_is_killed_has_ended(pipe: tuple[int, int]) -> None:
    before = descriptors()
    with closing(start(SLEEPS, pipe[1])) as orphan:
        assert Path(f"/proc/{orphan.pid}/stat").read_text().split()[2] != "Z"
        orphan.kill(DEADLINE_S)
        wait_until(lambda: not Path(f"/proc/{orphan.pid}").exists())
        orphan.kill(DEADLINE_S)  # which does nothing
    assert not opened_since(before)


def test_program_that_cannot_be_started_is_told(pipe: tuple[int, int]) -> None:
    before = descriptors()
    with pytest.raises(ChildProcessError, match="No such file or directory: '/nowhere/to/be/found'"):
        Orphan(["/nowhere/to/be/found"], pipe[1], os.environ)
    assert not opened_since(before)


def test_a_process_that_is_the_parent_of_orphans_leaves_none_behind() -> None:
    """As in a container, where it may be the first process: see PR_SET_CHILD_SUBREAPER in prctl(2)."""
    printed = run_apart(
        f"""
        import ctypes, os
        from pollbroker.daemon.spawning import Orphan
        assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
        here, there = os.pipe()
        orphan = Orphan([{sys.executable!r}, "-c", {SLEEPS!r}], there, os.environ)
        orphan.kill(10)
        print(os.path.exists(f"/proc/{{orphan.pid}}"))
        orphan.close()
        """
    )
    assert printed == "False\n"
