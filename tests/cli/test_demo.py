"""The demo: it works, it notices when something is wrong, and it leaves nothing behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
from click.testing import CliRunner

from pollbroker import DEVICES, Device, Engine, Route
from pollbroker.cli import main
from pollbroker.cli.demo import command, processes
from pollbroker.cli.demo.processes import DemoError, PeerProcesses
from pollbroker.pump import Handler
from tests.support.commands import dispositions
from tests.support.deadline import DEADLINE_S, wait_until


@pytest.mark.slow
@pytest.mark.parametrize("pump", ["native", "python"])
def test_the_demo_moves_everything_and_exits_with_0(pump: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pollbroker", "demo", "--seconds", "0.3"],
        capture_output=True,
        text=True,
        timeout=100,
        env=os.environ | {"POLLBROKER_PUMP": pump},
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert f"({pump} pump), 12 peers" in lines[0]
    assert len([line for line in lines if line.startswith("ok  ")]) == 5
    assert not [line for line in lines if "FAILED" in line]
    rates = [line for line in lines if " msg/s " in line]
    for name in ("queue     to backend", "queue     to frontend", "forwarder to backend", "streamer  to backend"):
        assert any(name in line for line in rates)


def lose_some(frames: list[bytes], counted: list[None]) -> list[bytes] | None:
    """Every hundredth message is lost."""
    counted.append(None)
    return None if len(counted) % 100 == 0 else frames


def delay_some(frames: list[bytes], counted: list[None], kept: list[list[bytes]]) -> Iterator[list[bytes]]:
    """Every hundredth message comes ten messages late."""
    counted.append(None)
    if len(counted) % 100 == 0:
        kept.append(frames)
        return
    yield frames
    if kept and len(counted) % 100 == 10:
        yield kept.pop()


def spoil(device: Device, handler: Handler) -> Device:
    """The device with a handler on the way from its frontend."""
    routes = [
        Route(route.source, route.sink, handler if route.source == "frontend" else None) for route in device.routes
    ]
    return replace(device, routes=tuple(routes))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "handler", "verdict"),
    [
        ("streamer", partial(lose_some, counted=[]), "FAILED  streamer: everything pushed was pulled"),
        ("forwarder", partial(delay_some, counted=[], kept=[]), "FAILED  forwarder: every subscriber got"),
    ],
    ids=["loses", "delays"],
)
def test_the_demo_exits_with_1_if_a_broker_spoils_its_messages(
    name: str, handler: Handler, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, name.upper(), spoil(DEVICES[name], handler))
    monkeypatch.setattr(command, "_STAGNATION_S", 1.0)
    result = CliRunner().invoke(main, ["demo", "--seconds", "0.5"])
    assert (result.exit_code, result.stderr) == (1, "")
    assert verdict in result.stdout


def has_ended(group: int) -> bool:
    """Return True if no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_ctrl_c_ends_the_demo_and_its_peers_without_a_traceback() -> None:
    with dispositions(()):
        process = subprocess.Popen(
            [sys.executable, "-m", "pollbroker", "demo", "--seconds", "1000"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
    try:
        assert process.stdout is not None
        assert "peers in other processes" in process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        _, stderr = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, stderr.strip()) == (130, "")

        wait_until(lambda: has_ended(process.pid))
    finally:
        process.kill()
        process.communicate()


def test_a_demo_in_which_nothing_was_sent_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    tell = PeerProcesses.tell
    monkeypatch.setattr(
        PeerProcesses, "tell", lambda few, word, roles: None if word == "go" else tell(few, word, roles)
    )
    result = CliRunner().invoke(main, ["demo", "--seconds", "0.01"])
    assert (result.exit_code, result.stderr) == (1, "")
    verdicts = [line.split(":") for line in result.stdout.splitlines() if line.startswith(("ok ", "FAILED "))]
    # Each client has had one reply before the start.
    assert [(verdict[0].split(), verdict[2:]) for verdict in verdicts] == [
        (["ok", "queue"], []),
        (["ok", "queue"], []),
        (["FAILED", "forwarder"], [" nothing to check, no message was sent"]),
        (["FAILED", "streamer"], [" nothing to check, no message was sent"]),
        (["ok", "engine"], []),
    ]


@pytest.mark.slow
def test_a_demo_whose_output_is_cut_off_ends_in_silence_and_so_do_its_peers() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "pollbroker", "demo", "--seconds", "1000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    )
    try:
        assert process.stdout is not None
        assert b"peers in other processes" in process.stdout.readline()
        process.stdout.close()  # as `head -1` does
        process.stdout = None
        _, stderr = process.communicate(timeout=processes.READY_S)
        assert (process.returncode, stderr) == (141, b"")
        wait_until(lambda: has_ended(process.pid))
    finally:
        process.kill()
        process.communicate()


def test_a_broker_of_the_demo_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_brokers(engine: Engine) -> None:
        raise DemoError("demo: no brokers today")

    monkeypatch.setattr(command, "open_brokers", no_brokers)
    result = CliRunner().invoke(main, ["demo"])
    assert (result.exit_code, result.stderr) == (1, "pollbroker: demo: no brokers today\n")
