"""The control socket of a daemon: its default endpoint, and DISABLE and ENABLE with the daemon's listeners."""

import signal
import socket
from pathlib import Path

import pytest
import zmq

from pollbroker.control import CommandRefusedError, request
from pollbroker.daemon import ConfigurationError, Daemon
from tests.daemon.conftest import StartDaemon, Write
from tests.support.addresses import ANY_PORT, OWN_HOST, free_address, refused
from tests.support.commands import Run, invoke
from tests.support.deadline import wait_until
from tests.support.descriptors import descriptors
from tests.support.types import Connect

WIRE = "transport = 'wire'"


def streamer(name: str, frontend: str = ANY_PORT, backend: str = ANY_PORT, more: str = "") -> str:
    return f"[brokers.{name}]\ndevice = 'streamer'\nfrontend = '{frontend}'\nbackend = '{backend}'\n{more}\n"


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a login session, which the environment names."""
    path = tmp_path / "session"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    return path


def test_daemon_whose_file_says_nothing_listens_at_the_default_endpoint(run: Run, write: Write, session: Path) -> None:
    command = run("run", str(write(streamer("a"))))
    command.read_until("ready")
    path = session / "pollbroker" / "control"
    assert (path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777) == (0o700, 0o600)
    assert invoke("ctl", "list").stdout == "a\n"
    assert invoke("ctl", "LIST").stdout == "a\n"
    assert invoke("ctl", f"ipc://{path}", "list").stdout == "a\n"
    assert invoke("ctl", "pause", "a").stdout == "done\n"
    second = invoke("run", "brokers.toml")
    assert second.exit_code == 1
    assert second.stderr == (
        f"brokers.toml: engine.control: ipc://{path}: another daemon (process {command.process.pid}) has the default "
        "endpoint; expected none, or control = 'ipc://...' or control = [] in [engine]\n"
    )
    assert invoke("ctl", "list").stdout == "a\n"  # the first goes on
    assert invoke("ctl", "terminate").exit_code == 0
    assert command.end()[0] == 0
    assert not path.exists()


def test_file_at_the_default_endpoint_is_told_of_and_stays(write: Write, session: Path) -> None:
    path = session / "pollbroker" / "control"
    path.parent.mkdir(mode=0o700)
    path.write_text("precious")
    refused = invoke("run", str(write(streamer("a"))))
    assert refused.exit_code == 1
    assert f"ipc://{path}: cannot bind: Address already in use (there is a file, which is no socket)" in refused.stderr
    assert path.read_text() == "precious"


def test_dead_hung_and_missing_daemons_are_told_apart(run: Run, write: Write, session: Path) -> None:
    path = session / "pollbroker" / "control"
    missing = invoke("ctl", "list")
    assert (missing.exit_code, missing.stderr) == (
        4,
        f"pollbroker: ipc://{path}: nobody listens there: there is no such file; expected the control socket of an "
        "engine\n",
    )
    command = run("run", str(write(streamer("a"))))
    command.read_until("ready")
    command.process.send_signal(signal.SIGSTOP)
    hung = invoke("ctl", "list", "--timeout", "0.5")
    assert hung.exit_code == 5
    assert f"process {command.process.pid} listens there, but does not answer" in hung.stderr
    command.kill()
    stale = invoke("ctl", "list")
    assert stale.exit_code == 4
    assert "nobody listens there any more: the process that made the file has ended" in stale.stderr
    again = run("run", "brokers.toml")  # which takes the place of the stale file
    again.read_until("ready")
    assert invoke("ctl", "list").stdout == "a\n"


def test_empty_list_is_no_control_socket(write: Write, session: Path, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write("[engine]\ncontrol = []\n" + streamer("a")))
    assert daemon.servers.control_endpoints == ()
    assert not list(session.iterdir())


def test_default_endpoint_that_cannot_be_had_is_warned_of(
    write: Write, session: Path, start_daemon: StartDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    (session / "pollbroker").mkdir()
    (session / "pollbroker").chmod(0o777)
    assert start_daemon(write(streamer("a"))).servers.control_endpoints == ()
    (session / "pollbroker").rmdir()
    (session / "pollbroker").touch()
    assert start_daemon(write(streamer("a"))).servers.control_endpoints == ()
    messages = [record.message for record in caplog.records]
    assert [message.count("no commands are taken: ") for message in messages] == [1, 1]
    assert "others may write there; expected mode 0700" in messages[0]


def test_network_is_refused_and_said_to_be_allowed(write: Write, start_daemon: StartDaemon) -> None:
    text = "[engine]\ncontrol = 'tcp://0.0.0.0:*'\n"
    with pytest.raises(ConfigurationError, match="whoever reaches this address can stop the daemon"):
        Daemon(write(text + streamer("a"))).start()
    daemon = start_daemon(write(f"{text}control_from_network = true\n" + streamer("a")))
    assert daemon.servers.control_endpoints[0].startswith("tcp://0.0.0.0:")


# -- DISABLE and ENABLE ------------------------------------------------------------------------------------------------


@pytest.fixture
def control(tmp_path: Path) -> str:
    return f"ipc://{tmp_path}/c"


@pytest.mark.parametrize("kind", ["tcp", "ipc", "wildcard"])
def test_disabled_broker_of_a_daemon_refuses_connections(
    write: Write, start_daemon: StartDaemon, connect: Connect, tmp_path: Path, kind: str, control: str
) -> None:
    free = free_address()
    frontend = {"tcp": free, "ipc": f"ipc://{tmp_path}/f", "wildcard": ANY_PORT}[kind]
    path = write(f"[engine]\ncontrol = '{control}'\n" + streamer("a", frontend, more=WIRE) + streamer("b", more=WIRE))
    daemon = start_daemon(path)
    endpoint = daemon.engine.brokers["a"].frontend.endpoint
    producer = connect(zmq.PUSH, endpoint)
    consumer = connect(zmq.PULL, daemon.engine.brokers["a"].backend.endpoint)
    wait_until(lambda: all(port.peers for port in daemon.engine.broker_statistics("a").ports.values()))
    for _ in range(2):
        request(control, "DISABLE", "a")
        assert refused(endpoint)
        producer.send(b"goes on")
        assert consumer.recv() == b"goes on"
        assert daemon.reload().unchanged == ("a", "b")
        assert refused(endpoint)
        request(control, "ENABLE", "a")
        request(control, "ENABLE", "a")
        assert not refused(endpoint)
        connect(zmq.PUSH, endpoint).send(b"new")
        assert consumer.recv() == b"new"
    assert not refused(daemon.engine.brokers["b"].frontend.endpoint)


def test_changed_broker_is_enabled_by_a_reload_and_keeps_its_address(
    write: Write, start_daemon: StartDaemon, connect: Connect, control: str
) -> None:
    engine = f"[engine]\ncontrol = '{control}'\n"
    free = free_address()
    daemon = start_daemon(write(engine + streamer("a", free, more=WIRE)))
    request(control, "DISABLE", "a")
    write(engine + streamer("a", free, more=f"{WIRE}\nmaxframes = 7"))
    assert daemon.reload().changed == ("a",)
    assert not daemon.engine.brokers["a"].disabled
    assert not refused(free)


def test_address_that_is_taken_meanwhile_leaves_a_broker_disabled(
    write: Write, start_daemon: StartDaemon, control: str
) -> None:
    free = free_address()
    text = f"[engine]\ncontrol = '{control}'\n" + streamer("a", free, more=WIRE)
    daemon = start_daemon(write(text))
    backend = daemon.engine.brokers["a"].backend.endpoint
    request(control, "DISABLE", "a")
    with socket.create_server((OWN_HOST, int(free.rpartition(":")[2]))):
        with pytest.raises(CommandRefusedError, match="Address already in use"):
            request(control, "ENABLE", "a")
        assert daemon.engine.brokers["a"].disabled
        assert refused(backend)
    request(control, "ENABLE", "a")
    assert not refused(backend)


def test_broker_stays_disabled_at_all_addresses_if_one_is_taken_meanwhile(
    write: Write, start_daemon: StartDaemon, control: str
) -> None:
    free = free_address()
    daemon = start_daemon(write(f"[engine]\ncontrol = '{control}'\n" + streamer("a", backend=free, more=WIRE)))
    frontend = daemon.engine.brokers["a"].frontend.endpoint
    request(control, "DISABLE", "a")
    with socket.create_server((OWN_HOST, int(free.rpartition(":")[2]))):
        with pytest.raises(CommandRefusedError, match="Address already in use"):
            request(control, "ENABLE", "a")
        assert refused(frontend)
    request(control, "ENABLE", "a")
    assert not refused(frontend)


def test_command_that_would_wait_for_a_reload_is_refused(write: Write, start_daemon: StartDaemon, control: str) -> None:
    daemon = start_daemon(write(f"[engine]\ncontrol = '{control}'\n" + streamer("a", more=WIRE)))
    with daemon.changing:
        for command in ("DISABLE", "ENABLE"):
            with pytest.raises(CommandRefusedError, match=r"^brokers\.a: the daemon changes its brokers, hands"):
                request(control, command, "a")
    request(control, "DISABLE", "a")


def test_descriptors_are_given_back(write: Write, start_daemon: StartDaemon, control: str) -> None:
    start_daemon(write(f"[engine]\ncontrol = '{control}'\n" + streamer("a", more=WIRE)))

    request(control, "DISABLE", "a")
    request(control, "ENABLE", "a")
    before = len(descriptors())
    for _ in range(5):
        request(control, "DISABLE", "a")
        request(control, "ENABLE", "a")
        request(control, "ENABLE", "a")
    wait_until(lambda: len(descriptors()) <= before)
