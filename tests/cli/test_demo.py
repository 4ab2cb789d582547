"""The demo: it works, it notices when something is wrong, and it leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import zmq
from click.testing import CliRunner

from pollbroker import DEVICES, Device, Engine, Route
from pollbroker.cli import main
from pollbroker.cli.demo import command, processes, steering, traffic
from pollbroker.cli.demo.processes import DemoError, PeerProcesses
from pollbroker.pump import Handler
from pollbroker.wire.served import why_not_built
from tests.support.accounts import flow_of, stands_still
from tests.support.addresses import ANY_PORT
from tests.support.commands import dispositions
from tests.support.deadline import wait_until
from tests.support.types import Connect

LONGEST_S = 100
"""How long a demo may take on a machine that does much else. Usually it takes a few seconds."""

WIRE = pytest.mark.skipif(why_not_built() is not None, reason="the wire was not built")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pump", "transport"), [("native", "libzmq"), ("python", "libzmq"), pytest.param("native", "wire", marks=WIRE)]
)
def test_the_demo_moves_everything_and_exits_with_0(pump: str, transport: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pollbroker", "demo", "--seconds", "0.3"],
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        env=os.environ | {"POLLBROKER_PUMP": pump, "POLLBROKER_TRANSPORT": transport},
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "pollbroker and zmq.proxy side by side, each in a process of its own"
    assert any(f"({pump} pump), 12 peers" in line for line in lines)
    assert any(f"pollbroker: {pump} pump, {transport} ports" in line for line in lines)
    assert len([line for line in lines if line.startswith("ok  ")]) == 11
    assert not [line for line in lines if "FAILED" in line]
    rates = [line for line in lines if " msg/s " in line]
    for name in ("queue     to backend", "queue     to frontend", "forwarder to backend", "streamer  to backend"):
        assert any(name in line for line in rates)


@WIRE
def test_messages_that_are_written_in_a_pause_were_taken_before_it(
    engine: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steering, "_OTHERS_S", 0)  # there are no others
    broker = engine.add(steering.PAUSED, "streamer", frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    push, pull = connect(zmq.PUSH, broker.frontend.endpoint), connect(zmq.PULL, broker.backend.endpoint, rcvhwm=1)
    for _ in range(100):
        push.send(bytes(500_000))
    assert stands_still(engine, steering.PAUSED).held

    def take_what_is_held() -> None:
        sent = flow_of(engine, steering.PAUSED).sent
        while flow_of(engine, steering.PAUSED).held:
            pull.recv()
        assert flow_of(engine, steering.PAUSED).sent > sent

    assert not steering.pause_one(engine, take_what_is_held).check(lost=0).wrong


@pytest.fixture
def no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo has no first part."""
    monkeypatch.setattr(command, "_compare", lambda screen, results: None)


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
@pytest.mark.usefixtures("no_comparison")
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
    monkeypatch.setattr(traffic, name.upper(), spoil(DEVICES[name], handler))
    monkeypatch.setattr(traffic, "_STAGNATION_S", 1.0)
    result = CliRunner().invoke(main, ["demo", "--seconds", "0.5"])
    assert (result.exit_code, result.stderr) == (1, "")
    assert verdict in result.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("no_comparison")
def test_the_demo_exits_with_1_if_a_paused_broker_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "pause", lambda engine, broker: None)
    result = CliRunner().invoke(main, ["demo", "--seconds", "1"])
    assert (result.exit_code, result.stderr) == (1, "")
    assert "FAILED  pause: the paused streamer took nothing more" in result.stdout
    assert re.search("it took [1-9][0-9]* messages while it was paused", result.stdout)


def has_ended(group: int) -> bool:
    """Return True if no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@contextmanager
def running(arguments: Sequence[str]) -> Iterator["subprocess.Popen[str]"]:
    """As a context: the demo in a process group of its own, which has to be empty at the end."""
    with dispositions(()):
        process = subprocess.Popen(
            [sys.executable, "-m", "pollbroker", "demo", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
    try:
        yield process
        wait_until(lambda: has_ended(process.pid))
    finally:
        process.kill()
        process.communicate()


def read_until(process: "subprocess.Popen[str]", word: str) -> None:
    """Read lines up to the first with a word."""
    assert process.stdout is not None
    for line in process.stdout:
        if word in line:
            return
    pytest.fail(f"no line with {word!r} came: {process.communicate()}")


@pytest.mark.slow
def test_ctrl_c_under_traffic_ends_it_early_and_everything_is_summed_up() -> None:
    with running(["--seconds", "1000"]) as process:
        read_until(process, " msg/s ")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        stdout, stderr = process.communicate(timeout=LONGEST_S)
    assert (process.returncode, stderr) == (130, "")
    lines = stdout.splitlines()
    assert any("peers got" in line for line in lines)
    assert len([line for line in lines if line.startswith("ok  ")]) >= 9
    assert not [line for line in lines if line.startswith("FAILED") and "nothing to check" not in line]
    assert lines[-1].startswith("interrupted by Ctrl-C, after ")


@pytest.mark.slow
def test_ctrl_c_before_anything_was_found_says_so_and_ends_all_processes() -> None:
    with running([]) as process:
        read_until(process, "side by side")
        os.killpg(process.pid, signal.SIGINT)
        stdout, stderr = process.communicate(timeout=LONGEST_S)
    assert (process.returncode, stderr) == (130, "")
    assert stdout.splitlines()[-1] == "interrupted by Ctrl-C, after 0 checks"
    assert "ok " not in stdout


@pytest.mark.usefixtures("no_comparison")
def test_a_demo_in_which_nothing_was_sent_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "_OTHERS_S", 0.1)  # at most probes pass
    tell = PeerProcesses.tell
    monkeypatch.setattr(
        PeerProcesses, "tell", lambda few, word, roles: None if word == "go" else tell(few, word, roles)
    )
    result = CliRunner().invoke(main, ["demo", "--seconds", "0.01"])
    assert (result.exit_code, result.stderr) == (1, "")
    verdicts = [line.split(":") for line in result.stdout.splitlines() if line.startswith(("ok ", "FAILED "))]
    # Each client has had one reply before the start.
    assert [(verdict[0].split(), verdict[2:]) for verdict in verdicts[:5]] == [
        (["ok", "queue"], []),
        (["ok", "queue"], []),
        (["FAILED", "forwarder"], [" nothing to check, no message was sent"]),
        (["FAILED", "streamer"], [" nothing to check, no message was sent"]),
        (["ok", "engine"], []),
    ]


@pytest.mark.slow
def test_a_demo_whose_output_is_cut_off_ends_in_silence_and_so_do_its_peers() -> None:
    with running(["--seconds", "1000"]) as process:
        assert process.stdout is not None
        assert "side by side" in process.stdout.readline()
        process.stdout.close()  # as `head -1` does
        process.stdout = None
        _, stderr = process.communicate(timeout=processes.READY_S)
    assert (process.returncode, stderr) == (141, "")


@pytest.mark.usefixtures("no_comparison")
def test_a_broker_of_the_demo_that_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_brokers(engine: Engine) -> None:
        raise DemoError("demo: no brokers today")

    monkeypatch.setattr(traffic, "open_brokers", no_brokers)
    result = CliRunner().invoke(main, ["demo"])
    assert (result.exit_code, result.stderr) == (1, "pollbroker: demo: no brokers today\n")
