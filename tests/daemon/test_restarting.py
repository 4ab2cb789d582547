"""A process that SIGUSR2 has started and that does not take over ends by itself, or is killed."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pollbroker.daemon import Daemon, succession
from tests.daemon.conftest import Write
from tests.daemon.test_running import streamer
from tests.support.deadline import wait_until

CLOSES_AND_SAYS_WHY = """
import os, sys
from pathlib import Path
os.close(int(sys.argv[1]))
Path("gate").read_text()
Path("said").write_text("why")
"""

CLOSES_AND_GOES_ON = """
import os, sys, time
os.close(int(sys.argv[1]))
time.sleep(1000)
"""


@pytest.fixture
def daemons() -> Iterator[list[Daemon]]:
    """Those in it are closed at the end of the test."""
    made: list[Daemon] = []
    yield made
    for daemon in made:
        daemon.close()


def start(write: Write, program: str) -> Daemon:
    daemon = Daemon(write(streamer("a")), restart_command=[sys.executable, "-c", program])
    daemon.start()
    return daemon


def started_by(caplog: pytest.LogCaptureFixture) -> int:
    wait_until(lambda: "was started" in caplog.text)
    (line,) = [text for text in caplog.messages if text.endswith("was started")]
    return int(line.split()[2])


def has_ended(process: int) -> bool:
    """Return True if a process is there no more, or has only to be waited for."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_process_that_has_closed_its_end_may_say_why(
    write: Write, daemons: list[Daemon], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    daemons.append(start(write, CLOSES_AND_SAYS_WHY))
    os.mkfifo("gate")
    daemons[0].request_restart()
    process = started_by(caplog)
    wait_until(lambda: "nothing is handed over, and everything is served here still" in caplog.text)
    assert not Path("said").exists()
    Path("gate").write_text("go on")
    wait_until(lambda: f"restarting: process {process} has ended" in caplog.messages)
    assert Path("said").read_text() == "why"


def test_process_that_does_not_end_by_itself_is_killed(
    write: Write, daemons: list[Daemon], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(succession, "END_S", 0.1)
    daemons.append(start(write, CLOSES_AND_GOES_ON))
    daemons[0].request_restart()
    process = started_by(caplog)
    wait_until(lambda: f"restarting: process {process} had not ended by itself, and was killed" in caplog.messages)
    assert has_ended(process)


def test_process_is_killed_at_once_if_the_daemon_ends(
    write: Write, daemons: list[Daemon], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(succession, "END_S", 1_000_000.0)
    daemons.append(start(write, CLOSES_AND_GOES_ON))
    daemons[0].request_restart()
    process = started_by(caplog)
    wait_until(lambda: "nothing is handed over, and everything is served here still" in caplog.text)
    daemons[0].stop()
    wait_until(lambda: f"restarting: process {process} had not ended by itself, and was killed" in caplog.messages)
    assert has_ended(process)
