"""What is wrong with a command is told in one line, with exit code 2."""

from pathlib import Path
from typing import Any

import click
import pytest
import zmq

from pollbroker import __version__
from pollbroker.cli import main
from tests.support.addresses import ANY_PORT, bind
from tests.support.commands import Run, invoke
from tests.support.types import Connect


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            "frobnicate",
            "pollbroker: 'frobnicate' is not a command; expected balancer, check, clone, completion, ctl, demo, ",
        ),
        ("queu", "pollbroker: 'queu' is not a command; did you mean 'queue'?"),
        ("Queue", "pollbroker: 'Queue' is not a command; did you mean 'queue'?"),
        ("queue", "pollbroker queue: Missing argument 'FRONTEND'"),
        (f"queue {ANY_PORT}", "Missing argument 'BACKEND'"),
        (
            f"queue --frob {ANY_PORT} {ANY_PORT}",
            "'--frob' is not an option; expected one that pollbroker queue --help names",
        ),
        (f"queue {ANY_PORT} {ANY_PORT} --hmw 5", "queue: '--hmw' is not an option; did you mean '--hwm'?"),
        ("--verson", "pollbroker: '--verson' is not an option; did you mean '--version'?"),
        ("demo --second 1", "pollbroker demo: '--second' is not an option; did you mean '--seconds'?"),
        (
            f"queue {ANY_PORT} tcp://127.0.0.1:70000",
            "brokers.queue.backend: tcp://127.0.0.1:70000: port must be 0 to 65535",
        ),
        (f"queue {ANY_PORT} tcp://two\nlines", "brokers.queue.backend: tcp://two lines: expected tcp://host:port"),
        (f"queue {ANY_PORT} nonsense", "brokers.queue.backend: nonsense: expected transport://address"),
        (f"queue {ANY_PORT} {ANY_PORT} --name 7\n7", "cannot name a broker"),
        (f"queue {ANY_PORT} {ANY_PORT} --control tcp://127.0.0.1:-1", "control: tcp://127.0.0.1:-1: port must be"),
        (f"queue {ANY_PORT} {ANY_PORT} --capture tcp://*", "brokers.queue.capture: tcp://*: expected tcp://host:port"),
        (f"queue {ANY_PORT} {ANY_PORT} --frontend-option sndhwn=4", "did you mean 'sndhwm'?"),
        (f"queue {ANY_PORT} {ANY_PORT} --frontend-option sndhwm=many", "option sndhwm: 'many': expected an integer"),
        (f"queue {ANY_PORT} {ANY_PORT} --backend-option sndhwm", "'sndhwm': expected NAME=VALUE"),
        (f"queue {ANY_PORT} {ANY_PORT} --backend-option =4", "'=4': expected NAME=VALUE"),
        (f"queue {ANY_PORT} {ANY_PORT} --hwm -1", "-1 is not in the range"),
        (f"queue {ANY_PORT} {ANY_PORT} --rcvhwm 99999999999", "option rcvhwm: 99999999999: expected an integer"),
        (f"queue {ANY_PORT} {ANY_PORT} --slow-peer shout", "'shout' is not one of 'drop', 'wait'"),
        (f"queue {ANY_PORT} {ANY_PORT} --topic a", "'--topic' is not an option"),
        (f"queue {ANY_PORT} {ANY_PORT} --drain nan", "'nan': expected seconds"),
        (f"streamer {ANY_PORT} {ANY_PORT} --slow-peer drop", "'--slow-peer' is not an option"),
        (f"reflector {ANY_PORT} {ANY_PORT}", "unexpected extra argument"),
        ("ctl nonsense LIST", "expected transport://address"),
        (f"ctl {ANY_PORT} LIST", "port must be 1 to 65535"),
        (
            "ctl tcp://127.0.0.1:9 FROBNICATE",
            "'FROBNICATE' is not a command; expected PAUSE, RESUME, TERMINATE, STATISTICS, ",
        ),
        ("ctl tcp://127.0.0.1:9 statistic", "'statistic' is not a command; did you mean 'STATISTICS'?"),
        ("ctl tcp://127.0.0.1:9 ADD more", "ADD: 'more': brokers are named on standard input; expected no name of a"),
        ("ctl tcp://127.0.0.1:9 RELOAD more", "RELOAD: 'more': a file is read whole; expected no name of a broker"),
        ("fuzz --device queu", "'queu' is not a device; did you mean 'queue'?"),
        ("ctl tcp://127.0.0.1:9 LIST --timeout -1", "'-1': expected seconds"),
        ("demo --seconds 0", "'--seconds': '0': expected more than 0 seconds"),
        ("demo --seconds soon", "'soon': expected seconds"),
        ("doctor now", "unexpected extra argument"),
    ],
)
def test_misuse_is_one_line_on_stderr_and_exit_code_2(arguments: str, expected: str) -> None:
    result = invoke(*arguments.split(" "))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("pollbroker")
    assert result.stderr.count("\n") == 1
    assert expected in result.stderr


def test_an_address_in_use_is_one_line_and_exit_code_2(connect: Connect) -> None:
    address = bind(connect(zmq.PULL))
    result = invoke("queue", address, ANY_PORT)
    assert result.exit_code == 2
    assert result.stderr == f"pollbroker: brokers.queue.frontend: @{address}: cannot bind: Address already in use\n"


def test_bytes_that_are_no_text_are_one_line_and_exit_code_2(run: Run) -> None:
    code, lines, stderr = run("queue", b"inproc://\xff", ANY_PORT).end()
    assert (code, lines) == (2, [])
    assert stderr.startswith("pollbroker: ")
    assert stderr.count("\n") == 1


def test_a_refused_pump_is_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLLBROKER_PUMP", "bellows")
    result = invoke("queue", ANY_PORT, ANY_PORT)
    assert result.exit_code == 2
    assert result.stderr == "pollbroker: POLLBROKER_PUMP: 'bellows': expected 'native' or 'python'\n"


def test_ctl_without_an_engine_is_one_line_and_exit_code_4(tmp_path: Path) -> None:
    result = invoke("ctl", f"ipc://{tmp_path}/nobody", "LIST", "--timeout", "1000")
    assert result.exit_code == 4
    assert result.stderr == (
        f"pollbroker: ipc://{tmp_path}/nobody: nobody listens there: there is no such file; "
        "expected the control socket of an engine\n"
    )


def test_ctl_without_an_answer_is_one_line_and_exit_code_5(connect: Connect) -> None:
    silent = connect(zmq.ROUTER)
    address = bind(silent)
    result = invoke("ctl", address, "LIST", "--timeout", "0.05")
    assert result.exit_code == 5
    assert result.stderr.startswith(f"pollbroker: {address}: no answer to 'LIST' within 0.05 s")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["queue", "--help"], ["ctl", "--help"], ["demo", "--help"]])
def test_help_is_no_error(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: pollbroker")


def test_version_names_the_installed_version(run: Run) -> None:
    code, lines, stderr = run("--version").end()
    assert (code, lines, stderr) == (0, [f"pollbroker, version {__version__}"], "")


def test_the_main_group_still_returns_and_raises_when_it_is_not_to_exit() -> None:
    with pytest.raises(click.UsageError):
        main(["frobnicate"], standalone_mode=False)
    result: Any = main(["--version"], standalone_mode=False)
    assert result == 0
