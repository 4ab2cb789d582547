"""The log of a daemon in a process of its own."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest
import zmq

from tests.daemon.conftest import Write
from tests.support.addresses import ANY_PORT
from tests.support.commands import Run, dispositions, invoke
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect

BODY = "a-body-that-must-not-appear"
PASSWORD = "a-password-that-must-not-appear"

HANDLERS = """
import zmq
from pollbroker import Device, Route, To

def fail(message):
    kind, body = message
    if kind == b"raise":
        raise ValueError(body)
    if kind == b"number":
        return [b"%d" % int(body)]
    if kind == b"wrong":
        return [body.decode()]
    return To("nowhere", [body])

DEVICE = Device("failing", ports={"a": zmq.PULL, "b": zmq.PUSH}, routes=[Route("a", "b", fail)])
"""


def streamer(name: str, more: str = "") -> str:
    return f"[brokers.{name}]\ndevice = 'streamer'\nfrontend = '{ANY_PORT}'\nbackend = '{ANY_PORT}'\n{more}\n"


def objects(lines: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


def test_json_log_has_an_object_for_everything_that_is_said(run: Run, write: Write, connect: Connect) -> None:
    queue = f"[brokers.orders]\ndevice = 'queue'\nfrontend = '{ANY_PORT}'\nbackend = '{ANY_PORT}'\n"
    command = run("run", str(write("[engine]\ncontrol = 'ipc://c'\n" + queue)), "--log-format", "json")
    command.read_until("{")

    def address() -> str:
        document = json.loads(invoke("ctl", "ipc://c", "STATS", "orders").stdout)
        return str(document["ports"]["backend"]["endpoints"][0])

    wait_until(lambda: invoke("ctl", "ipc://c", "LIST").stdout == "orders\n")
    worker = connect(zmq.DEALER, address())
    worker.send_multipart([b"nobody", b"", BODY.encode()])
    wait_until(lambda: "dropped" in "".join(command.read_until("{")) or more(command))
    write("wrong = 1")
    command.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "nothing was changed" in "".join(command.lines) or more(command))
    command.process.terminate()
    code, lines, stderr = command.end()
    assert (code, stderr) == (0, "")
    told = objects(lines)
    assert all({"time", "level", "logger", "message"} <= one.keys() for one in told)
    assert told[0]["message"].removesuffix(", wire ports") == "broker orders  queue"
    (dropped,) = [one for one in told if one.get("rule")]
    assert {name: dropped[name] for name in ("level", "broker", "port", "rule", "dropped")} == {
        "level": "warning", "broker": "orders", "port": "backend", "rule": "unroutable", "dropped": 1,
    }  # fmt: skip
    (problem,) = [one for one in told if one.get("key")]
    assert (problem["file"], problem["line"], problem["key"], problem["level"]) == ("brokers.toml", 1, "wrong", "error")
    assert told[-1]["message"] == "ended  1 broker, 1 received, 0 sent, 0 left"
    assert BODY not in "".join(lines)


def more(command: Any) -> bool:
    """Read what has come."""
    before = len(command.lines)
    chunk = command.process.stdout.read(1 << 16)
    command.lines += chunk.decode().splitlines()
    return len(command.lines) < before


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_body_and_no_password_is_in_any_log(run: Run, write: Write, connect: Connect, log_format: str) -> None:
    write(HANDLERS, "handlers.py")
    text = (
        "[engine]\ncontrol = 'ipc://c'\n"
        + streamer("secured", f"options = {{ plain_username = 'me', plain_password = '{PASSWORD}' }}")
        + "[brokers.failing]\ndevice = 'handlers:DEVICE'\na = 'ipc://a'\nb = 'ipc://b'\n"
    )
    command = run("run", str(write(text)), "--log-format", log_format, "--log-level", "debug")
    wait_until(lambda: invoke("ctl", "ipc://c", "LIST").stdout == "secured\nfailing\n")
    push = connect(zmq.PUSH, "ipc://a")
    kinds = ("raise", "number", "wrong", "nowhere")
    for number, kind in enumerate(kinds):
        push.send_multipart([kind.encode(), BODY.encode()])

        def has_failed(count: int = number + 1) -> bool:
            document = json.loads(invoke("ctl", "ipc://c", "STATS", "failing").stdout)
            return bool(document["flows"]["a"]["failed"] == count)

        wait_until(has_failed)
    read = ""

    def has_told(times: int) -> bool:
        nonlocal read
        streams = [stream.fileno() for stream in (command.process.stdout, command.process.stderr) if stream]
        for stream in select.select(streams, [], [], 0)[0]:
            read += os.read(stream, 1 << 16).decode()
        return read.count("nothing was changed") == times

    write(text + f"[brokers.x]\ndevice = 'streamer'\noptions = {{ plain_pasword = '{PASSWORD}' }}\n")
    told = invoke("ctl", "ipc://c", "RELOAD").stderr
    wait_until(lambda: has_told(1))
    write(text.replace(f"'{PASSWORD}'", f"['{PASSWORD}']"))
    told += invoke("ctl", "ipc://c", "RELOAD").stderr
    wait_until(lambda: has_told(2))
    command.process.terminate()
    code, lines, stderr = command.end()
    log = read + "\n".join(lines) + stderr
    assert code == 0
    assert "its text is not logged" in log
    assert "plain_pasword" in log
    assert "plain_pasword" in told
    assert BODY not in log
    assert PASSWORD not in log + told


def start(path: Path, stdout: int | IO[Any], stderr: int | IO[Any], *more: str) -> subprocess.Popen[bytes]:
    with dispositions(()):
        return subprocess.Popen(
            [sys.executable, "-m", "pollbroker", "run", str(path), *more], stdout=stdout, stderr=stderr
        )


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("way", ["full", "closed", "unread"])
def test_log_that_cannot_be_written_does_not_end_or_hold_up_the_daemon(
    write: Write, connect: Connect, way: str, log_format: str
) -> None:
    path = write(
        "[engine]\ncontrol = 'ipc://c'\n[brokers.a]\ndevice = 'streamer'\nfrontend = 'ipc://f'\nbackend = 'ipc://b'\n"
    )
    if way == "full":
        with Path("/dev/full").open("w") as full:
            process = start(path, full, full, "--log-format", log_format)
    else:
        process = start(path, subprocess.PIPE, subprocess.STDOUT, "--log-format", log_format)
        assert process.stdout is not None
        if way == "closed":
            process.stdout.close()
    try:
        wait_until(lambda: invoke("ctl", "ipc://c", "LIST").stdout == "a\n")
        write("wrong = 1\n" * 2000)  # each reload would fill a pipe
        for _ in range(3):
            assert invoke("ctl", "ipc://c", "RELOAD").exit_code == 3
        connect(zmq.PUSH, "ipc://f").send(b"through")
        assert connect(zmq.PULL, "ipc://b").recv() == b"through"
        process.terminate()
        assert process.wait(timeout=DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def test_level_and_time_of_the_log_can_be_asked_for(run: Run, write: Write) -> None:
    command = run("run", str(write("wrong = 1")), "--log-level", "error", "--log-format", "timed")
    code, lines, stderr = command.end()
    assert (code, lines) == (1, [])
    assert " error brokers.toml:1: wrong: unknown key" in stderr
    quiet = run("run", str(write("[engine]\ncontrol = 'ipc://c'\n" + streamer("a"))), "--log-level", "warning")
    wait_until(lambda: invoke("ctl", "ipc://c", "LIST").stdout == "a\n")
    quiet.process.terminate()
    assert quiet.end() == (0, [], "")
