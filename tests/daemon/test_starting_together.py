"""Daemons that start at the same moment, for one address: one runs, and the others say why they do not."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pollbroker.control import request
from tests.daemon.conftest import Write
from tests.support.addresses import ANY_PORT, free_address
from tests.support.deadline import DEADLINE_S, wait_until

COUNT = 3
ROUNDS = 10

TOP = Path(__file__).parents[2]


class Together:
    """Daemons in the current directory that are started at the same moment, again and again."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.daemon.starting_together", str(COUNT), "run", "brokers.toml"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(TOP)},
        )
        self.processes: list[int] = []

    def begin(self) -> None:
        """Start all of them."""
        for number in range(COUNT):
            Path(f"{number}.out").write_text("")
            Path(f"{number}.err").write_text("")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("once more\n")
        self._process.stdin.flush()
        self.processes = [int(self._process.stdout.readline()) for _ in range(COUNT)]

    def code_of(self, number: int) -> int | None:
        """The exit code of one of them; None if it runs."""
        path = Path(f"{self.processes[number]}.code")
        return int(path.read_text()) if path.exists() else None

    def winner(self) -> int:
        """The number of the one that serves, once all others have ended."""

        def is_decided() -> bool:
            running = [number for number in range(COUNT) if self.code_of(number) is None]
            assert running, [Path(f"{number}.err").read_text() for number in range(COUNT)]
            return len(running) == 1 and "\nready" in Path(f"{running[0]}.out").read_text()

        wait_until(is_decided)
        return next(number for number in range(COUNT) if self.code_of(number) is None)

    def end(self, number: int) -> None:
        """End one of them, in order."""
        os.kill(self.processes[number], signal.SIGTERM)
        wait_until(lambda: self.code_of(number) is not None)

    def close(self) -> None:
        """End whatever runs."""
        for number, process in enumerate(self.processes):
            if self.code_of(number) is None:
                os.kill(process, signal.SIGKILL)
        self._process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of a login session, which the environment names, and no file of another round."""
    path = tmp_path / "session"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    yield path
    assert list(path.glob("*/*")) == []


def streamer(frontend: str, transport: str = "wire") -> str:
    return (
        f"[brokers.a]\ndevice = 'streamer'\nfrontend = '{frontend}'\nbackend = '{ANY_PORT}'\n"
        f"transport = '{transport}'\n"
    )


def check_rounds(control: str, expected: str, files: list[Path]) -> None:
    """Start some at once, again and again: one serves, with its files, and the others exit with 1 and say why."""
    together = Together()
    try:
        for _ in range(ROUNDS):
            together.begin()
            winner = together.winner()
            assert request(control, "LIST", timeout_s=DEADLINE_S) == [b"OK", b"a"]
            assert all(file.is_socket() for file in files)
            for number in set(range(COUNT)) - {winner}:
                assert together.code_of(number) == 1
                said = Path(f"{number}.err").read_text()
                assert re.search(expected.replace("WINNER", str(together.processes[winner])), said), said
            together.end(winner)
            assert together.code_of(winner) == 0
            assert not any(file.exists() for file in files)
    finally:
        together.close()


def test_one_of_several_has_the_default_endpoint(write: Write, session: Path) -> None:
    write(streamer(ANY_PORT))
    path = session / "pollbroker" / "control"
    check_rounds(f"ipc://{path}", r"another daemon \(process WINNER\) has the default endpoint", [path])


@pytest.mark.parametrize("transport", ["wire", "libzmq"])
def test_one_of_several_has_the_path_of_a_broker(write: Write, session: Path, tmp_path: Path, transport: str) -> None:
    path = tmp_path / "frontend"
    write(streamer(f"ipc://{path}", transport))
    control = session / "pollbroker" / "control"
    check_rounds(f"ipc://{control}", r"brokers\.a\.frontend: .*cannot bind: Address already in use", [path, control])


def test_one_of_several_has_the_port_of_a_broker(write: Write, session: Path) -> None:
    write(streamer(free_address()))
    control = session / "pollbroker" / "control"
    check_rounds(f"ipc://{control}", r"brokers\.a\.frontend: .*cannot bind: Address already in use", [control])
