"""`pollbroker ctl events`, `tap`, `add` and `remove`, on real processes."""

import json
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import zmq

from pollbroker.cli.following import describe_event, describe_message, remembering_interrupt
from pollbroker.control import request
from tests.support.addresses import ANY_PORT
from tests.support.commands import Command, Run, invoke
from tests.support.deadline import DEADLINE_S
from tests.support.types import Connect

STREAMER = "device = 'streamer'\nfrontend = 'tcp://127.0.0.1:*'\nbackend = 'tcp://127.0.0.1:*'\n"


@pytest.fixture
def daemon(run: Run, tmp_path: Path) -> tuple[Command, str]:
    """A daemon with one broker, and its control socket."""
    control = f"ipc://{tmp_path}/control"
    path = tmp_path / "brokers.toml"
    path.write_text(f"[engine]\ncontrol = '{control}'\ntap_bodies = true\n[brokers.work]\n{STREAMER}")
    command = run("run", str(path))
    command.read_until("ready")
    return command, control


def ctl(control: str, *arguments: str, toml: str = "") -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pollbroker", "ctl", control, *arguments],
        input=toml, capture_output=True, text=True, timeout=2 * DEADLINE_S, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def ports(daemon: Command) -> dict[str, str]:
    return {line.split()[0]: line.split()[1] for line in daemon.lines if line.startswith(("frontend", "backend"))}


def test_events_are_printed_until_ctrl_c(daemon: tuple[Command, str], run: Run) -> None:
    _, control = daemon
    plain, as_json = run("ctl", control, "events"), run("ctl", control, "events", "--json")
    for command in (plain, as_json):
        while not command.lines:  # it may begin to listen after this
            request(control, "PAUSE", "work", timeout_s=DEADLINE_S)
            request(control, "RESUME", "work", timeout_s=DEADLINE_S)
            if has_output(command):
                command.read_until("")
        command.process.send_signal(signal.SIGINT)
        code, _, stderr = command.end()
        assert (code, stderr.strip()) == (130, "")
    assert plain.lines[0].split()[1] in ("broker_paused", "broker_resumed")
    assert plain.lines[0].endswith("  work")
    assert json.loads(as_json.lines[0])["broker"] == "work"


@pytest.mark.parametrize(
    ("number", "why"),
    [(signal.SIGTERM, "there is no such file"), (signal.SIGKILL, "the process that made the file has")],
)
def test_events_end_with_the_daemon_and_say_so(
    daemon: tuple[Command, str], run: Run, number: signal.Signals, why: str
) -> None:
    command, control = daemon
    events = run("ctl", control, "events")
    while not events.lines:  # it may begin to listen after this
        request(control, "PAUSE", "work", timeout_s=DEADLINE_S)
        request(control, "RESUME", "work", timeout_s=DEADLINE_S)
        if has_output(events):
            events.read_until("")
    command.process.send_signal(number)
    code, _, stderr = events.end()
    assert (code, f"{control}: nobody listens there" in stderr, why in stderr) == (4, True, True)


def test_tap_prints_messages_and_ends_after_a_count(daemon: tuple[Command, str], run: Run, connect: Connect) -> None:
    command, control = daemon
    addresses = ports(command)
    push, pull = connect(zmq.PUSH, addresses["frontend"]), connect(zmq.PULL, addresses["backend"], rcvtimeo=20)
    tap = run("ctl", control, "tap", "work", "--bodies", "--count", "2")
    while tap.process.poll() is None:
        push.send_multipart([b"hello", b"\0"])
        try:
            pull.recv_multipart()
        except zmq.Again:
            continue
    code, lines, stderr = tap.end()
    assert (code, stderr) == (0, "")
    assert len(lines) == 6
    assert lines[0].endswith("frontend -> backend  2 frames, 6 bytes (5 1)")
    assert lines[1:3] == ["    hello", "    0x00"]


def test_tap_ends_with_its_broker(daemon: tuple[Command, str], run: Run, connect: Connect) -> None:
    command, control = daemon
    push = connect(zmq.PUSH, ports(command)["frontend"])
    connect(zmq.PULL, ports(command)["backend"])
    tap = run("ctl", control, "tap", "work", "--json")
    while not tap.lines:
        push.send(b"x")
        if has_output(tap):
            tap.read_until("{")
    assert ctl(control, "remove", "work")[:2] == (0, "done\n")
    code, _, stderr = tap.end()
    assert (code, stderr) == (1, "pollbroker: brokers.work: it was removed\n")


def has_output(command: Command) -> bool:
    """Return True if the command has printed something."""
    assert command.process.stdout is not None
    return bool(select.select([command.process.stdout], [], [], 0.02)[0])


def test_brokers_on_standard_input_are_added(daemon: tuple[Command, str]) -> None:
    _, control = daemon
    assert ctl(control, "add", toml=f"[brokers.more]\n{STREAMER}") == (0, "added  more\n", "")
    assert ctl(control, "list") == (0, "work\nmore\n", "")
    code, stdout, stderr = ctl(control, "add", toml=f"[brokers.a]\ndevice = 'x'\n[brokers.more]\n{STREAMER}")
    assert (code, stdout) == (3, "")
    assert [line.split(": ")[:2] for line in stderr.splitlines()] == [
        ["standard input:2", "brokers.a.device"],
        ["standard input:3", "brokers.more"],
    ]
    assert ctl(control, "remove", "more") == (0, "done\n", "")
    assert ctl(control, "list") == (0, "work\n", "")


def test_what_cannot_be_followed_has_its_exit_code(daemon: tuple[Command, str]) -> None:
    _, control = daemon
    assert invoke("ctl", control, "tap").exit_code == 2
    refused = invoke("ctl", control, "tap", "wrok")
    assert (refused.exit_code, refused.stderr) == (
        3,
        "pollbroker: TAP: no broker is named 'wrok'; did you mean 'work'?\n",
    )
    assert invoke("ctl", f"{control}-none", "events").exit_code == 4


def test_bodies_are_refused_by_default(run: Run) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--name", "work", "--control", ANY_PORT)
    refused = invoke("ctl", command.addresses()["control"], "tap", "work", "--bodies")
    assert refused.exit_code == 3
    assert "bodies are not shown here" in refused.stderr


def test_lines_are_made_of_what_is_known() -> None:
    event = {"time_s": 0.5, "kind": "peer_left", "broker": "a", "port": "frontend", "address": "tcp://h:1"}
    (line,) = describe_event(event | {"reason": "left", "count": 1})
    assert line.split()[1:] == ["peer_left", "a.frontend", "tcp://h:1", "left"]
    (line,) = describe_event(
        event | {"kind": "events_lost", "broker": "", "port": "", "address": "", "reason": "", "count": 7}
    )
    assert line.split()[1:] == ["events_lost", "7", "events"]
    message = {"time_s": 0.5, "source": "", "sink": "b", "frames": 65, "size": 9, "sizes": [9], "routing_id": "id"}
    (line,) = describe_message(message | {"topic": ""})
    assert line.endswith("  b  65 frames, 9 bytes (9 ...)  id id")


class Finalized:
    """Ctrl-C is pressed while this is finalized, so that Python drops the exception."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_in_a_finalizer_is_not_lost() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with remembering_interrupt() as check:
            check()
            Finalized()
            with pytest.raises(KeyboardInterrupt):
                check()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
