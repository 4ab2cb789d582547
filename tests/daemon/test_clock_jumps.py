"""The clock of the wall jumps by a day, forwards and backwards, and a daemon goes on as if nothing had happened.

The process runs under libfaketime (Debian's package `faketime`), which reads what is to be added to the time from a
file at each call. The clock that never goes back is the machine's own.
"""

import json
import re
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import zmq

from pollbroker.control import request
from tests.daemon.conftest import Write
from tests.support.commands import Run
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.http import get
from tests.support.types import Connect

LIBRARY: Final = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")

DAY_S: Final = 86_400

needs_faketime = pytest.mark.skipif(not LIBRARY.exists(), reason="the package faketime of Debian is not installed")

JUMPS = {"+1d": DAY_S, "-1d": -DAY_S, "+0": 0, "-3650d": -3650 * DAY_S, "+3650d": 3650 * DAY_S}
"""What is added to the time, as libfaketime has it, and in seconds."""


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Lets the time of the processes that are started from now on jump, by so much from the real one."""
    offset = tmp_path / "offset"

    def set_offset(text: str) -> None:
        whole = tmp_path / "offset.new"
        whole.write_text(text)
        whole.replace(offset)

    set_offset("+0")
    for name, value in {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_RESET": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return set_offset


def described(name: str, device: str, kind: str, more: str = "") -> str:
    return (
        f"[brokers.{name}]\ndevice = '{device}'\nfrontend = 'ipc://{name}.f'\nbackend = 'ipc://{name}.b'\n"
        f"transport = '{kind}'\n{more}\n"
    )


@needs_faketime
@pytest.mark.parametrize("kind", ["libzmq", "wire"])
def test_jumps_of_the_clock_change_nothing(
    run: Run, write: Write, connect: Connect, jump: Callable[[str], None], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traffic, heartbeats, the watchdog, health, reloads, and the time limits of requests and of draining."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("notify")
        manager.settimeout(DEADLINE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(Path("notify").absolute()))
        monkeypatch.setenv("WATCHDOG_USEC", "400000")
        head = "[engine]\ncontrol = 'ipc://control'\nhttp = '127.0.0.1:0'\ndrain_timeout_s = 0.5\n"
        jobs = described("jobs", "balancer", kind, "settings = { max_wait_s = 3600.0 }")
        text = head + described("a", "streamer", kind, "options = { heartbeat_ivl = 100 }") + jobs
        command = run("run", str(write(text)))
        http = command.addresses()["http"]
        pusher, puller = connect(zmq.PUSH, "ipc://a.f", heartbeat_ivl=100), connect(zmq.PULL, "ipc://a.b")
        connect(zmq.REQ, "ipc://jobs.f").send(b"waits for a worker for an hour at most")
        wait_until(lambda: statistics("jobs")["flows"]["behaviour"]["received"] == 1)
        for number, (offset, offset_s) in enumerate(JUMPS.items()):
            jump(offset)
            check_watchdog(manager)
            for _ in range(20):
                pusher.send(offset.encode())
                assert puller.recv() == offset.encode()
            assert get(http, "/readyz") == "ok\n"
            write(text.replace("heartbeat_ivl = 100", f"heartbeat_ivl = {101 + number}"))
            command.process.send_signal(signal.SIGHUP)
            command.read_until("reloaded  0 added, 1 changed, 0 removed, 1 unchanged")
            command.lines.clear()
            wait_until(lambda: abs(reloaded_s(http) - time.time() - offset_s) < DAY_S / 2)  # noqa: B023 - called here
            for name in ("a", "jobs"):
                check_times(statistics(name))
        assert statistics("jobs")["flows"]["behaviour"]["held"] == 1
        command.process.terminate()
        jump("-1d")
        code, lines, _ = command.end()
    assert (code, lines[-1].endswith(" 1 left")) == (1, True)


def statistics(name: str) -> Any:
    return json.loads(request("ipc://control", "STATS", name, timeout_s=DEADLINE_S)[1])


def reloaded_s(http: str) -> float:
    """When the daemon was reloaded last, by its own clock."""
    found = re.search(r"^pollbroker_config_last_reload_success_timestamp_seconds (.+)$", get(http, "/metrics"), re.M)
    assert found is not None
    return float(found[1])


def check_watchdog(manager: socket.socket) -> None:
    """What was sent before is passed over, and the next comes in time."""
    manager.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            manager.recv(1000)
    manager.settimeout(DEADLINE_S)
    while b"WATCHDOG=1" not in manager.recv(1000).splitlines():
        pass


def check_times(described: Any) -> None:
    """No time is negative, and none has the days in it by which the clock has jumped."""
    if isinstance(described, dict):
        for name, value in described.items():
            if name.endswith("_s") and isinstance(value, float | int):
                assert 0 <= value < DAY_S / 2, f"{name}: {value}"
            check_times(value)
