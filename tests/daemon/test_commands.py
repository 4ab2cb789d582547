"""The commands `run`, `check`, `show`, `schema` and `init`, and the signals of a daemon."""

import json
import signal
import sys
import tomllib

import pytest
import zmq

from pollbroker.daemon import EXAMPLE
from pollbroker.daemon.tables import BrokerTable, DefaultsTable, EngineTable, FileTable, PortTable
from tests.daemon.conftest import Write
from tests.support.addresses import ANY_PORT, bind
from tests.support.commands import Run, invoke
from tests.support.deadline import wait_until
from tests.support.transports import holds_without_a_consumer
from tests.support.types import Connect


def streamer(name: str, frontend: str = ANY_PORT, backend: str = ANY_PORT, more: str = "") -> str:
    return f"[brokers.{name}]\ndevice = 'streamer'\nfrontend = '{frontend}'\nbackend = '{backend}'\n{more}\n"


def test_daemon_serves_reloads_and_ends_in_order(run: Run, write: Write, connect: Connect) -> None:
    control = "ipc://control"
    path = write(f"[engine]\ncontrol = '{control}'\n" + streamer("a"))
    command = run("run", str(path))
    addresses = command.addresses()
    assert command.lines[0].removesuffix(", wire ports") == "broker a  streamer"
    assert command.lines[-1].startswith("ready  1 broker, ")
    connect(zmq.PUSH, addresses["frontend"]).send(b"through")
    assert connect(zmq.PULL, addresses["backend"]).recv() == b"through"

    write(f"[engine]\ncontrol = '{control}'\n" + streamer("a") + streamer("b"))
    command.process.send_signal(signal.SIGHUP)
    command.read_until("reloaded  1 added, 0 changed, 0 removed, 1 unchanged")
    assert invoke("ctl", control, "LIST").stdout == "a\nb\n"

    write("wrong = 1")
    refused = invoke("ctl", control, "RELOAD")
    unknown = "brokers.toml:1: wrong: unknown key; expected one of include, engine, defaults, brokers"
    assert (refused.exit_code, refused.stdout, refused.stderr) == (3, "", f"{unknown}\n")
    write(f"[engine]\ncontrol = '{control}'\n" + streamer("a"))
    change = "reloaded  0 added, 0 changed, 1 removed, 1 unchanged"
    assert invoke("ctl", control, "RELOAD").stdout == f"{change}\n"
    command.read_until(change)
    assert (
        "RELOAD: 'a': a file is read whole; expected no name of a broker"
        in invoke("ctl", control, "RELOAD", "a").stderr
    )

    command.process.terminate()
    code, lines, stderr = command.end()
    assert code == 0
    assert lines[-3::2] == ["ending  SIGTERM", "ended  1 broker, 1 received, 1 sent, 0 left"]
    assert stderr == f"pollbroker: reload: {unknown}\npollbroker: reload: nothing was changed\n"


@holds_without_a_consumer
def test_daemon_says_at_its_end_what_was_left(run: Run, write: Write, connect: Connect) -> None:
    command = run("run", str(write("[engine]\ncontrol = 'ipc://c'\ndrain_timeout_s = 0.1\n" + streamer("a"))))
    addresses = command.addresses()
    connect(zmq.PUSH, addresses["frontend"]).send(b"for nobody")
    wait_until(lambda: "received  1 frame" in invoke("ctl", "ipc://c", "STATISTICS").stdout)
    assert invoke("ctl", "ipc://c", "TERMINATE").exit_code == 0
    code, lines, stderr = command.end()
    assert code == 1
    assert lines[-3::2] == ["ending  TERMINATE", "ended  1 broker, 1 received, 0 sent, 1 left"]
    assert stderr == (
        "pollbroker: brokers.a: 1 message lost: no consumer connected within the 0.1 s that draining may take\n"
    )


@holds_without_a_consumer
def test_second_signal_ends_a_daemon_at_once(run: Run, write: Write, connect: Connect) -> None:
    command = run("run", str(write("[engine]\ncontrol = 'ipc://c'\ndrain_timeout_s = 1000\n" + streamer("a"))))
    addresses = command.addresses()
    connect(zmq.PUSH, addresses["frontend"]).send(b"for nobody")
    wait_until(lambda: "received  1 frame" in invoke("ctl", "ipc://c", "STATISTICS").stdout)
    command.process.send_signal(signal.SIGINT)
    command.read_until("ending")

    def has_ended() -> bool:
        command.process.send_signal(signal.SIGTERM)
        return command.process.poll() is not None

    wait_until(has_ended)
    assert command.end()[0] == -signal.SIGTERM


def test_daemon_that_cannot_start_says_why_and_exits_with_1(write: Write, connect: Connect) -> None:
    taken = bind(connect(zmq.PULL))
    result = invoke("run", str(write(streamer("a", taken))))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"brokers.toml:3: brokers.a.frontend: @{taken}: cannot bind: Address already in use\n"
    result = invoke("run", str(write("x = 1\ny = 2")))
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 2)


def test_check_says_what_is_wrong_by_its_exit_code_and_in_json(write: Write) -> None:
    good = invoke("check", str(write(streamer("a"))))
    assert (good.exit_code, good.output) == (0, "ok  1 broker\n")
    assert invoke("check", "brokers.toml", "--json").stdout == "[]\n"
    bad = invoke("check", str(write("x = 1")))
    assert (bad.exit_code, bad.stderr) == (1, "")
    assert bad.stdout.startswith("brokers.toml:1: x: unknown key")
    (problem,) = json.loads(invoke("check", "brokers.toml", "--json").stdout)
    assert problem["file"] == "brokers.toml"
    assert (problem["line"], problem["key"]) == (1, "x")
    assert invoke("check", "none.toml").exit_code == 2


def test_example_passes_and_runs(run: Run, write: Write) -> None:
    assert invoke("init").stdout == EXAMPLE
    assert invoke("check", str(write(EXAMPLE))).exit_code == 0
    for number in (5559, 5560, 5561, 5562):
        assert f"127.0.0.1:{number}" in EXAMPLE
    text = EXAMPLE
    for number in (5559, 5560, 5561, 5562):
        text = text.replace(f"127.0.0.1:{number}", "127.0.0.1:*")
    command = run("run", str(write(text)))
    assert command.read_until("ready")[-1].startswith("ready  2 brokers")
    command.process.terminate()
    assert command.end()[0] == 0


def test_show_does_not_print_the_token(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERING", "a-token-of-a-test")
    shown = invoke("show", str(write("[engine]\nhttp_token = '${STEERING}'\n" + streamer("a"))))
    assert shown.exit_code == 0, shown.output
    assert tomllib.loads(shown.stdout)["engine"]["http_token"] == "(hidden)"
    assert "a-token-of-a-test" not in shown.stdout


def test_what_show_prints_is_the_same_configuration_without_its_secrets(write: Write) -> None:
    path = write(
        "[defaults.options]\nsndhwm = 7\n"
        + streamer("a", more="[brokers.a.options]\nplain_password = 'hidden-1'\nplain_username = 'me'\n")
        + "[brokers.b]\ndevice = 'balancer'\nfrontend = ['tcp://127.0.0.1:*', '>tcp://127.0.0.1:9']\nbackend = 'ipc://x'\n"
        "settings = { max_wait_s = 3 }\ncapture = 'inproc://c'\n"
        + streamer("c", more="capture = 'inproc://d'\ncapture_prefixes = { frontend = 'x' }\ntransport = 'libzmq'"),
    )
    first = invoke("show", str(path))
    assert first.exit_code == 0, first.output
    assert "hidden-1" not in first.stdout
    assert tomllib.loads(first.stdout)["brokers"]["a"]["frontend"]["options"] == {
        "sndhwm": 7, "plain_password": "(hidden)", "plain_username": "me", "maxmsgsize": 64 << 20,
        "handshake_ivl": 10_000, "linger": 1000,
    }  # fmt: skip
    assert invoke("show", str(write(first.stdout, "shown.toml"))).stdout == first.stdout


def test_schema_has_every_key(write: Write) -> None:
    schema = json.loads(invoke("schema").stdout)
    for table in (FileTable, EngineTable, DefaultsTable, BrokerTable, PortTable):
        described = schema["$defs"][table.__name__]["properties"]
        assert set(described) == set(table.__struct_fields__)
        assert all(one["description"] for one in described.values())
    assert "anyOf" in schema["$defs"]["BrokerTable"]["additionalProperties"]


def test_missing_library_is_said_with_what_installs_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for library in ("tomli_w", "prometheus_client", "pollbroker.metrics"):
        monkeypatch.setitem(sys.modules, library, None)
    installs_it = "is missing; pip install 'pollbroker[daemon]' installs it"
    result = invoke("show", str(write("")))
    assert result.exit_code == 2
    assert f"tomli_w {installs_it}" in result.stderr
    result = invoke("run", str(write("[engine]\nhttp = '127.0.0.1:0'\n")))
    assert result.exit_code == 1
    assert "brokers.toml:2: engine.http: " in result.stderr
    assert installs_it in result.stderr
    result = invoke("queue", ANY_PORT, ANY_PORT, "--http", "127.0.0.1:0")
    assert result.exit_code == 2
    assert result.stderr.startswith("pollbroker: http: ")
    assert installs_it in result.stderr


@holds_without_a_consumer
def test_what_was_lost_with_a_broker_that_a_command_has_removed_is_told_at_the_end(
    run: Run, write: Write, connect: Connect
) -> None:
    command = run("run", str(write("[engine]\ncontrol = 'ipc://c'\n" + streamer("a") + streamer("b"))))
    addresses = command.addresses()
    connect(zmq.PUSH, addresses["frontend"]).send(b"for nobody")
    wait_until(lambda: "received  1 frame" in invoke("ctl", "ipc://c", "STATISTICS").stdout)
    assert invoke("ctl", "ipc://c", "TERMINATE", "b").exit_code == 0
    command.process.terminate()
    code, lines, stderr = command.end()
    assert (code, lines[-1]) == (1, "ended  2 brokers, 1 received, 0 sent, 1 left")
    assert stderr == "pollbroker: brokers.b: 1 message lost: the broker was removed without draining\n"
