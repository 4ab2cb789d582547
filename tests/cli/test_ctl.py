"""`pollbroker ctl`, and the control sockets of commands."""

import io
import json
import signal
import struct
from pathlib import Path

import pytest
import zmq
from rich.console import Console

from pollbroker.cli.ctl import describe_statistics
from pollbroker.cli.describing import warn_of_other_machines
from pollbroker.cli.statistics_table import make_table
from pollbroker.errors import ControlError
from pollbroker.statistics import DROPS
from tests.support.addresses import ANY_PORT
from tests.support.commands import Run, invoke
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect

# -- ctl ---------------------------------------------------------------------------------------------------------------


def test_ctl_steers_a_running_broker(run: Run, connect: Connect) -> None:
    command = run("streamer", ANY_PORT, ANY_PORT, "--name", "work", "--control", ANY_PORT)
    addresses = command.addresses()
    pusher = connect(zmq.PUSH, addresses["frontend"])
    puller = connect(zmq.PULL, addresses["backend"])

    def ctl(*arguments: str) -> str:
        result = invoke("ctl", addresses["control"], *arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    pusher.send_multipart([b"ab", b"c"])
    assert puller.recv_multipart() == [b"ab", b"c"]
    assert ctl("list") == "work\n"
    assert ctl("STATISTICS", "work").splitlines() == [
        "frontend received  2 frames, 3 bytes",
        "frontend sent      0 frames, 0 bytes",
        "backend received   0 frames, 0 bytes",
        "backend sent       2 frames, 3 bytes",
    ]
    assert json.loads(ctl("stats"))["brokers"]["work"]["flows"]["frontend"]["sent"] == 1
    assert ctl("pause", "work") == "done\n"
    assert json.loads(ctl("Stats", "work"))["state"] == "paused"
    assert ctl("resume") == "done\n"
    refused = invoke("ctl", addresses["control"], "PAUSE", "play")
    assert refused.exit_code == 3
    assert refused.stderr == "pollbroker: PAUSE: no broker is named 'play'; there are: work\n"
    assert ctl("terminate") == "done\n"
    code, lines, stderr = command.end()
    assert (code, stderr) == (0, "")
    assert lines[-3] == "ending  TERMINATE"
    assert lines[-2].startswith("frontend -> backend  1 received, 1 sent, 3 bytes")


def test_terminating_the_only_broker_ends_the_command(run: Run) -> None:
    command = run("queue", ANY_PORT, ANY_PORT, "--control", ANY_PORT)
    assert invoke("ctl", command.addresses()["control"], "TERMINATE", "queue").exit_code == 0
    code, lines, stderr = command.end()
    assert (code, stderr) == (0, "")
    assert lines[-4] == "ending  every broker has ended"


def test_a_paused_broker_ends_without_waiting(run: Run) -> None:
    command = run("queue", ANY_PORT, ANY_PORT, "--control", ANY_PORT, "--drain", "1000")
    assert invoke("ctl", command.addresses()["control"], "PAUSE").exit_code == 0
    command.process.terminate()
    assert command.end()[0] == 0


@pytest.mark.parametrize("frames", [[], [b""], [b"12345678"] * 7, [b"12345678"] * 7 + [b"1234567"]])
def test_a_strange_reply_to_statistics_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(ControlError, match="expected 8 frames of 8 bytes"):
        describe_statistics(frames)


def test_statistics_are_eight_numbers_of_64_bits() -> None:
    frames = [struct.pack("=Q", number) for number in (1, 2**64 - 1, 0, 0, 0, 0, 0, 0)]
    assert describe_statistics(frames)[0] == "frontend received  1 frame, 18446744073709551615 bytes"


# -- without an endpoint, and with options -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", "no command is given; expected one of PAUSE, RESUME"),
        ("ipc://x", "no command is given; expected one of PAUSE, RESUME"),
        ("paus orders", "'paus' is not a command; did you mean 'PAUSE'?"),
        ("pause a b", "'b': expected [ENDPOINT] COMMAND [BROKER] and nothing more"),
        ("resume --wait", "--wait: it goes with PAUSE only, and not with RESUME"),
        ("list --json", "--json: it goes with STATS, EVENTS and TAP only, and not with LIST"),
        ("list --table", "--table: it goes with STATS only, and not with LIST"),
        ("list --watch", "--watch: it goes with STATS only, and not with LIST"),
        ("stats --watch 0", "'0': expected more than 0 seconds"),
        ("stats --json --table", "--json, --table: expected one of them"),
    ],
)
def test_arguments_that_do_not_fit_are_said_in_one_line(arguments: str, expected: str) -> None:
    result = invoke("ctl", *arguments.split())
    assert result.exit_code == 2
    assert expected in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_broker_may_have_the_name_of_a_command(run: Run) -> None:
    control = run("queue", ANY_PORT, ANY_PORT, "--name", "list", "--control", ANY_PORT).addresses()["control"]
    assert invoke("ctl", control, "pause", "list").stdout == "done\n"
    assert json.loads(invoke("ctl", control, "stats", "list").stdout)["state"] == "paused"


def test_drain_and_pause_with_wait_say_what_is_left(run: Run, connect: Connect) -> None:
    addresses = run("streamer", ANY_PORT, ANY_PORT, "--name", "a", "--control", ANY_PORT, "--transport", "libzmq",
                    "--drain", "0").addresses()  # fmt: skip
    control = addresses["control"]
    assert invoke("ctl", control, "drain", "a").stdout == "done\n"
    connect(zmq.PUSH, addresses["frontend"]).send(b"for nobody")
    wait_until(lambda: "received  1 frame" in invoke("ctl", control, "STATISTICS").stdout)
    for arguments, expected in (
        (("drain", "a"), "not drained within 0.05 s: 1 message held from frontend to backend (stalled)"),
        (("drain",), "not drained within 0.05 s: 1 message held from frontend to backend (stalled)"),
        (("pause", "a", "--wait"), "not done within 0.05 s: it is paused, 1 message held from frontend to backend"),
    ):
        result = invoke("ctl", control, *arguments, "--timeout", "0.05")
        assert (result.exit_code, result.stdout) == (5, "")
        assert result.stderr.startswith(f"pollbroker: brokers.a: {expected}")
    puller = connect(zmq.PULL, addresses["backend"])
    assert invoke("ctl", control, "pause", "--wait", "--timeout", f"{DEADLINE_S}").stdout == "done\n"
    assert puller.recv() == b"for nobody"


def test_statistics_are_a_table_for_people_and_json_for_machines(run: Run, connect: Connect) -> None:
    addresses = run("queue", ANY_PORT, ANY_PORT, "--name", "[b]", "--control", ANY_PORT).addresses()
    control = addresses["control"]
    shown = "[b] running frontend to backend waiting 0 0 0 0 0.0 s"  # after the first look at its sockets

    def table() -> list[str]:
        return invoke("ctl", control, "stats", "--table").stdout.splitlines()

    wait_until(lambda: table()[1].split() == shown.split())
    assert table()[0].split() == ["broker", "state", "direction", "flow", "received", "sent", "held", "dropped",
                                  "stalled"]  # fmt: skip
    assert invoke("ctl", control, "stats", "[b]", "--table").stdout.splitlines() == table()
    assert json.loads(invoke("ctl", control, "stats", "--json").stdout)["brokers"]["[b]"]["state"] == "running"


def test_statistics_are_printed_again_and_again(run: Run) -> None:
    control = run("queue", ANY_PORT, ANY_PORT, "--name", "q", "--control", ANY_PORT).addresses()["control"]
    for arguments, shown in (((), '{"'), (("--json",), '{"'), (("--table",), "broker")):
        watching = run("ctl", control, "stats", "--watch", "0.01", *arguments)
        assert watching.process.stdout is not None
        text = b""
        while text.count(b'"turns"' if shown == '{"' else b"q ") < 3:
            more = watching.process.stdout.read(1 << 16)
            assert more, watching.end()
            text += more
        assert text.decode().lstrip().startswith(shown)
        watching.process.send_signal(signal.SIGINT)
        assert watching.end()[0] == 130


def test_disabled_broker_and_its_error_are_in_the_table() -> None:
    flow = {"source": "f", "sinks": ["b"], "state": "ended", "received": 3, "sent": 1, "held": 0, "stalled_s": 1.25}
    broker = {
        "name": "x",
        "state": "running",
        "disabled": True,
        "error": "no luck",
        "flows": {"f": flow | {"failed": 2}},
    }
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(make_table(broker))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert lines[1] == ["x", "running,", "disabled", "f", "to", "b", "ended", "3", "1", "0", "2", "1.2", "s"]
    assert lines[2] == ["error:", "no", "luck"]


@pytest.mark.parametrize("rule", DROPS)
def test_table_counts_what_was_dropped_by_each_rule(rule: str) -> None:
    """The engine at the other end may be older, and not know each rule."""
    flow = {"source": "f", "sinks": ["b"], "state": "ready", "received": 3, "sent": 1, "held": 0, "stalled_s": 0.0}
    broker = {"name": "x", "state": "running", "error": None, "flows": {"f": flow | {rule: 2}}}
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(make_table(broker))
    assert console.export_text().splitlines()[1].split()[-3:] == ["2", "0.0", "s"]


# -- a control socket that strangers reach -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("tcp://0.0.0.0:5561", True),
        ("tcp://[::]:5561", True),
        ("tcp://192.0.2.7:5561", True),
        ("tcp://eth0;host.example:5561", True),
        ("tcp://127.0.0.1:5561", False),
        ("tcp://127.9.9.9:5561", False),
        ("tcp://[::1]:5561", False),
        ("tcp://[::ffff:127.0.0.1]:5561", False),
        ("tcp://localhost:5561", False),
        ("tcp://*:*;localhost:5561", False),
        ("ipc:///tmp/control", False),
        ("ipc://@tcp://0.0.0.0:1", False),
        ("inproc://control", False),
    ],
)
def test_a_control_socket_off_loopback_is_warned_of(address: str, warned: bool) -> None:
    lines = list(warn_of_other_machines([address]))
    assert lines == warned * [
        f"control: whoever reaches {address} can stop the brokers; use ipc://path or tcp://127.0.0.1:port instead"
    ]


def test_the_warning_of_a_control_socket_is_one_line_on_stderr(run: Run, tmp_path: Path) -> None:
    command = run("queue", ANY_PORT, ANY_PORT, "--control", f"tcp://0.0.0.0:*,{ANY_PORT},ipc://{tmp_path}/control")
    address = command.addresses()
    command.process.terminate()
    code, lines, stderr = command.end()
    everywhere = next(line.split(" ")[1] for line in lines if line.startswith("control tcp://0.0.0.0:"))
    assert code == 0, address
    assert stderr == "".join(f"pollbroker: {line}\n" for line in warn_of_other_machines([everywhere]))


def test_socket_files_of_a_command_go_with_it(run: Run, tmp_path: Path) -> None:
    command = run("queue", "ipc://*", f"ipc://{tmp_path}/backend", "--control", "ipc://*", "--capture", "ipc://*")
    paths = [Path(address.removeprefix("ipc://")) for address in command.addresses().values() if "ipc://" in address]
    assert len(paths) == 4
    assert all(path.is_absolute() and path.is_socket() for path in paths)
    command.process.terminate()
    assert command.end()[0] == 0
    assert not any(path.exists() for path in paths)
