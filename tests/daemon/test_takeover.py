"""A daemon takes the place of another: nobody is refused, and nothing is lost where the ports are the wire's."""

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import zmq

from pollbroker.daemon import ConfigurationError, Daemon, takeover
from pollbroker.daemon.takeover import Predecessor
from pollbroker.errors import HandOverError
from pollbroker.states import BrokerState
from tests.daemon.conftest import StartDaemon, Write
from tests.support.addresses import ANY_PORT
from tests.support.commands import Run, invoke
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import Threads
from tests.support.types import Connect

ENGINE = "[engine]\ntakeover = 'takeover'\n"


def streamer(name: str, frontend: str = ANY_PORT, backend: str = ANY_PORT, more: str = "") -> str:
    return f"[brokers.{name}]\ndevice = 'streamer'\nfrontend = '{frontend}'\nbackend = '{backend}'\n{more}\n"


def address(daemon: Daemon, broker: str, port: str = "frontend") -> str:
    return daemon.engine.brokers[broker].ports[port].endpoint


def end(daemon: Daemon) -> int:
    """End a daemon in whose place another serves, as its process would. Return how many messages were lost."""
    wait_until(lambda: not daemon.engine.running)
    assert daemon.successor is not None
    lost = sum(ended.left for ended in daemon.end().values())
    daemon.close()
    return lost


WIRE = "transport = 'wire'"
LIBZMQ = "transport = 'libzmq'"


def test_connections_of_the_wire_go_on(
    write: Write, start_daemon: StartDaemon, take_over: StartDaemon, connect: Connect
) -> None:
    path = write(ENGINE + streamer("a", more=WIRE))
    old = start_daemon(path)
    before = {port: address(old, "a", port) for port in ("frontend", "backend")}
    pusher, puller = connect(zmq.PUSH, before["frontend"]), connect(zmq.PULL, before["backend"])
    for number in range(5):
        pusher.send(b"%d" % number)
        assert puller.recv() == b"%d" % number
        new = take_over(path)
        assert {port: address(new, "a", port) for port in before} == before
        assert end(old) == 0
        old = new
        wait_until(lambda: Path("takeover").exists())
    pusher.send(b"last")
    assert puller.recv() == b"last"
    statistics = old.engine.broker_statistics("a")
    assert statistics.flows["frontend"].received == 6
    assert statistics.ports["frontend"].peers == 1


@pytest.mark.parametrize("kind", [WIRE, LIBZMQ], ids=["wire", "libzmq"])
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_no_connection_is_refused(
    write: Write,
    start_daemon: StartDaemon,
    take_over: StartDaemon,
    transport: str,
    kind: str,
    tmp_path: Path,
) -> None:
    frontend = ANY_PORT if transport == "tcp" else f"ipc://{tmp_path}/frontend"
    path = write(ENGINE + streamer("a", frontend, more=kind))
    daemon = start_daemon(path)
    with connecting(address(daemon, "a")) as (refused, made):
        for _ in range(3):
            before = made()
            new = take_over(path)
            end(daemon)
            daemon = new
            wait_until(lambda: made() > before)  # noqa: B023 - it is called here
            wait_until(lambda: Path("takeover").exists())
    assert refused == []
    if transport == "ipc":
        assert Path(f"{tmp_path}/frontend").is_socket()
        daemon.close()
        assert not Path(f"{tmp_path}/frontend").exists()


@contextmanager
def connecting(target: str) -> Iterator[tuple[list[OSError], Callable[[], int]]]:
    """Connects to an address again and again, in a thread. Yields what was refused, and tells how often it was not."""
    over = threading.Event()
    refused: list[OSError] = []
    made = 0

    def run() -> None:
        nonlocal made
        while not over.is_set():
            try:
                with socket_to(target):
                    made += 1
            except OSError as error:
                refused.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield refused, lambda: made
    finally:
        over.set()
        thread.join()


def socket_to(target: str) -> socket.socket:
    """A socket that is connected to an address of ZeroMQ."""
    path = target.removeprefix("ipc://")
    if path == target:
        host, _, port = target.removeprefix("tcp://").rpartition(":")
        return socket.create_connection((host, int(port)))
    connected = socket.socket(socket.AF_UNIX)
    connected.connect(path)
    return connected


def test_what_cannot_begin_beside_the_old_daemon_begins_when_that_has_ended(
    write: Write, start_daemon: StartDaemon, take_over: StartDaemon, tmp_path: Path
) -> None:
    titanic = "[brokers.t]\ndevice = 'titanic'\nfrontend = 'ipc://t'\nsettings = { path = 't.db' }\n"
    several = f"[brokers.s]\ndevice = 'streamer'\nfrontend = ['ipc://{tmp_path}/1', 'ipc://{tmp_path}/2']\n"
    several += f"backend = '{ANY_PORT}'\ntransport = 'libzmq'\n"
    old = start_daemon(write(ENGINE + titanic + several + streamer("changed", "ipc://c", more=WIRE)))
    new = take_over(write(ENGINE + titanic + several + streamer("changed", "ipc://d", more=WIRE)))
    assert new.engine.brokers.keys() == set()
    end(old)
    wait_until(lambda: new.engine.brokers.keys() == {"t", "s", "changed"})
    assert all(broker.state is BrokerState.RUNNING for broker in new.engine.brokers.values())
    assert address(new, "changed") == "ipc://d"


def test_daemon_that_cannot_start_leaves_the_old_one_as_it_was(
    write: Write, start_daemon: StartDaemon, take_over: StartDaemon, connect: Connect
) -> None:
    daemon = start_daemon(write(ENGINE + streamer("a", more=WIRE) + streamer("b")))
    good = Path("brokers.toml").read_text()
    taken = connect(zmq.PULL)
    taken.bind("ipc://taken")
    write(ENGINE + streamer("a", more=WIRE) + streamer("c", "ipc:///nowhere/at/all"))
    with pytest.raises(ConfigurationError, match="cannot bind"):
        take_over(Path("brokers.toml"))
    for name in ("a", "b"):
        connect(zmq.PUSH, address(daemon, name)).send(name.encode())
        assert connect(zmq.PULL, address(daemon, name, "backend")).recv() == name.encode()
    assert daemon.successor is None
    write(good)
    take_over(Path("brokers.toml"))
    end(daemon)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([b"GET / HTTP/1.1"], "the other process is not a daemon of pollbroker: it says b'GET / HTTP/1.1'"),
        ([b"[]"], "the other process is not a daemon of pollbroker"),
        ([b"{}"], "the other daemon says None; expected 'take over'"),
        ([], "the other daemon has gone away"),
        (
            [json.dumps({"say": "take over", "protocol": 1, "version": "9.0"}).encode()],
            r"take over\.process: None: expected",
        ),
        ([json.dumps({"say": "take over", "protocol": 99, "version": "9.0"}).encode()], "does not understand '9.0'"),
        (
            [json.dumps({"say": "take over", "protocol": 1, "process": 1, "version": "x"}).encode()],
            "the other (daemon is gone|process has closed its end)",
        ),
    ],
)
def test_whoever_is_no_successor_changes_nothing(
    write: Write,
    start_daemon: StartDaemon,
    take_over: StartDaemon,
    caplog: pytest.LogCaptureFixture,
    words: list[bytes],
    why: str,
) -> None:
    path = write(ENGINE + streamer("a", more=WIRE) + streamer("b"))
    daemon = start_daemon(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect("takeover")
        for word in words:
            stranger.send(word)
    wait_until(lambda: re.search(why, caplog.text))
    assert "nothing is handed over, and everything is served here still" in caplog.text
    take_over(path)
    assert end(daemon) == 0


def test_daemon_without_a_path_for_takeovers_says_so(write: Write) -> None:
    with pytest.raises(HandOverError, match=r"brokers\.toml: engine: the key 'takeover' is missing"):
        Daemon(write(streamer("a"))).connect_to_predecessor()


def test_path_of_a_daemon_that_has_died_is_taken(write: Write, start_daemon: StartDaemon) -> None:
    path = write(ENGINE + streamer("a"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind("takeover")
    daemon = start_daemon(path)
    assert Path("takeover").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigurationError, match=r"engine\.takeover: takeover: cannot listen: another process"):
        Daemon(Path("brokers.toml")).start()
    daemon.close()
    assert not Path("takeover").exists()
    assert Daemon(Path("brokers.toml")).connect_to_predecessor() is None


def test_file_at_the_path_that_is_no_socket_is_left_alone(write: Write) -> None:
    path = write(ENGINE + streamer("a"))
    Path("takeover").write_text("precious")
    with pytest.raises(ConfigurationError, match=r"engine\.takeover: takeover: cannot listen: Address already in use"):
        Daemon(path).start()
    assert Path("takeover").read_text() == "precious"


def test_daemon_that_serves_too_late_ends(
    write: Write,
    start_daemon: StartDaemon,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    connect: Connect,
) -> None:
    """The old daemon has given it up, and goes on. Both must not serve."""
    path = write(ENGINE + streamer("a", more=LIBZMQ))
    old = start_daemon(path)
    monkeypatch.setattr(takeover, "SERVING_S", 0.1)
    late = Daemon(path)
    announce = Predecessor.announce_serving
    given_up = threading.Event()

    def announce_late(predecessor: Predecessor) -> None:
        given_up.wait(DEADLINE_S)
        announce(predecessor)

    monkeypatch.setattr(Predecessor, "announce_serving", announce_late)
    try:
        late.start(late.connect_to_predecessor())
        late.engine.start()
        wait_until(lambda: late.engine.running)
        with socket_to(address(old, "a")):
            pass
        wait_until(lambda: "nothing is handed over" in caplog.text)
        given_up.set()
        wait_until(lambda: not late.engine.running)
    finally:
        given_up.set()
        late.close()
    assert old.successor is None
    connect(zmq.PUSH, address(old, "a")).send(b"still here")
    assert connect(zmq.PULL, address(old, "a", "backend")).recv() == b"still here"


def test_command_that_serves_too_late_has_failed(
    write: Write, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(ENGINE + streamer("a", more=LIBZMQ))
    old = start_daemon(path)
    monkeypatch.setattr(takeover, "SERVING_S", 0.1)
    announce = Predecessor.announce_serving

    def announce_late(predecessor: Predecessor) -> None:
        wait_until(lambda: not old.changing.locked())  # it has given up
        announce(predecessor)

    monkeypatch.setattr(Predecessor, "announce_serving", announce_late)
    result = invoke("run", "--takeover", str(path))
    assert result.exit_code == 1
    assert "ending  the takeover was refused\n" in result.stdout
    assert old.successor is None


def test_second_request_for_a_restart_starts_no_process(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = Daemon(write(streamer("a")), restart_command=["touch", str(tmp_path / "started")])
    with closing(daemon):
        daemon.start()
        daemon.stop()
        daemon.request_restart()
        wait_until(lambda: "restarting: given up, since the daemon ends" in caplog.messages)
    assert not (tmp_path / "started").exists()


@pytest.fixture
def first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is that of a container with which the container ends."""
    monkeypatch.setattr(takeover, "_FIRST_PROCESS", os.getpid())


@pytest.mark.usefixtures("first_process")
def test_first_process_of_a_container_starts_no_other_in_its_place(
    write: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = Daemon(write(streamer("a")), restart_command=["touch", str(tmp_path / "started")])
    with closing(daemon):
        daemon.start()
        daemon.request_restart()
        wait_until(lambda: "restarting: refused" in caplog.text)
        assert "its container would end with it" in caplog.text
        assert not daemon.is_stopped
    assert not (tmp_path / "started").exists()


@pytest.mark.usefixtures("first_process")
def test_first_process_of_a_container_refuses_a_successor(
    write: Write, start_daemon: StartDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(ENGINE + streamer("a"))
    daemon = start_daemon(path)
    new = Daemon(path)
    with closing(new), pytest.raises(HandOverError, match=r"the other daemon refuses: this is process .* container"):
        new.start(new.connect_to_predecessor())
    wait_until(lambda: "nothing is handed over, and everything is served here still" in caplog.text)
    assert not daemon.is_stopped


def test_successor_that_says_nothing_does_not_put_off_the_end(write: Write, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write(ENGINE + streamer("a", more=WIRE)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as silent, Threads() as pool:
        silent.settimeout(DEADLINE_S)
        silent.connect("takeover")
        silent.send(json.dumps({"say": "take over", "protocol": 1, "process": 1, "version": "x"}).encode())
        told, descriptors, _, _ = socket.recv_fds(silent, 1 << 16, 1)
        assert json.loads(told)["say"] == "listeners"
        daemon.stop()
        assert pool.submit(daemon.end).result(DEADLINE_S)["a"].left == 0
        daemon.close()
        os.close(descriptors[0])


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("times", [int(os.environ.get("POLLBROKER_TAKEOVERS", "3"))])
def test_nothing_is_lost_while_processes_take_over(run: Run, write: Write, connect: Connect, times: int) -> None:
    """Messages of a PUSH, and requests with their replies, one after the other, while a new process takes over."""
    queue = f"[brokers.q]\ndevice = 'queue'\nfrontend = '{ANY_PORT}'\nbackend = '{ANY_PORT}'\n{WIRE}\n"
    path = write(ENGINE + streamer("a", more=WIRE) + queue)
    command = run("run", str(path))
    lines = command.read_until("ready")
    found = [line.split()[1] for line in lines if line.split()[0] in ("frontend", "backend")]
    pusher, puller = connect(zmq.PUSH, found[0]), connect(zmq.PULL, found[1])
    client, worker = connect(zmq.REQ, found[2]), connect(zmq.REP, found[3])
    over = threading.Event()
    sent = received = answered = 0

    def send_on() -> None:
        nonlocal sent
        while not over.is_set():
            pusher.send(b"%d" % sent)
            sent += 1

    def receive_on() -> None:
        nonlocal received
        while threads[0].is_alive() or received < sent:
            assert puller.recv() == b"%d" % received
            received += 1

    def ask_on() -> None:
        nonlocal answered
        while not over.is_set():
            client.send(b"%d" % answered)
            assert worker.recv() == b"%d" % answered
            worker.send(b"answer")
            assert client.recv() == b"answer"
            answered += 1

    threads = [threading.Thread(target=target) for target in (send_on, receive_on, ask_on)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(times):
            before = (received, answered)
            new = run("run", "--takeover", str(path))
            new.read_until("ready")
            code, ended, stderr = command.end()
            assert (code, stderr) == (0, "")
            assert f"ending  process {new.process.pid} has taken over" in ended
            command = new
            wait_until(lambda: received > before[0] and answered > before[1])  # noqa: B023 - it is called here
            wait_until(lambda: Path("takeover").exists())
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert received == sent
    command.process.terminate()
    assert command.end()[0] == 0


def parent_of(process: int) -> int:
    """The parent of a process (proc_pid_stat(5))."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def test_signal_starts_the_program_anew(run: Run, write: Write, connect: Connect) -> None:
    command = run("run", str(write(streamer("a", more=WIRE))))
    addresses = command.addresses()
    pusher, puller = connect(zmq.PUSH, addresses["frontend"]), connect(zmq.PULL, addresses["backend"])
    pusher.send(b"before")
    assert puller.recv() == b"before"
    command.process.send_signal(signal.SIGUSR2)
    started = int(command.read_until("restarting: process")[-1].split()[2])
    try:
        assert parent_of(started) != command.process.pid  # a service manager takes care of its own children alone
        command.read_until("ended")
        assert command.process.wait() == 0
        pusher.send(b"after")
        assert puller.recv() == b"after"
        os.kill(started, signal.SIGTERM)
        command.read_until("ending  SIGTERM")
    finally:
        os.kill(started, signal.SIGKILL)


def test_program_that_cannot_start_anew_goes_on(run: Run, write: Write, connect: Connect) -> None:
    command = run("run", str(write(streamer("a", more=WIRE))))
    addresses = command.addresses()
    write("wrong = 1")
    command.process.send_signal(signal.SIGUSR2)
    started = command.read_until("restarting: process")[-1].split()[2]
    wait_until(lambda: not Path("/proc", started).exists())
    connect(zmq.PUSH, addresses["frontend"]).send(b"still")
    assert connect(zmq.PULL, addresses["backend"]).recv() == b"still"
    command.process.terminate()
    code, _, stderr = command.end()
    assert code == 0
    assert "nothing is handed over, and everything is served here still" in stderr
