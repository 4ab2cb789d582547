"""What a daemon tells the service manager, by a real datagram socket; and sockets that the service manager holds."""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
import zmq

from pollbroker.broker import working_broker
from pollbroker.daemon import Daemon, activation
from pollbroker.daemon.activation import InheritedSockets
from pollbroker.daemon.systemd import ServiceManager
from pollbroker.states import BrokerState
from tests.daemon.conftest import Write
from tests.support.addresses import ANY_PORT
from tests.support.commands import Run, dispositions, invoke
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.descriptors import no_descriptor_left
from tests.support.threads import Threads
from tests.support.types import Connect


def streamer(name: str, frontend: str = ANY_PORT, backend: str = ANY_PORT, more: str = "") -> str:
    return f"[brokers.{name}]\ndevice = 'streamer'\nfrontend = '{frontend}'\nbackend = '{backend}'\n{more}\n"


class Manager:
    """The side of the service manager."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.socket.settimeout(DEADLINE_S)

    def next(self, field: str) -> dict[str, str]:
        """The next message that has a field."""
        while True:
            told = dict(line.split("=", 1) for line in self.socket.recv(1 << 16).decode().splitlines())
            if field in told:
                return told


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    name = f"{tmp_path}/notify" if request.param == "path" else f"@pollbroker-test-{os.getpid()}-{time.monotonic_ns()}"
    made = Manager(name)
    yield made
    made.socket.close()


# -- sd_notify ---------------------------------------------------------------------------------------------------------


def test_service_manager_is_told_of_start_reload_and_end(
    manager: Manager, run: Run, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("[engine]\ndrain_timeout_s = 2\n" + streamer("a"))
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    command = run("run", str(path))
    assert manager.next("READY") == {"READY": "1", "STATUS": "1 broker"}
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    write(streamer("a") + streamer("b"))
    command.process.send_signal(signal.SIGHUP)
    told = manager.next("RELOADING")
    assert told["RELOADING"] == "1"
    assert before_us <= int(told["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert manager.next("READY") == {"READY": "1", "STATUS": "2 brokers"}
    write("wrong = 1")
    command.process.send_signal(signal.SIGHUP)
    assert manager.next("RELOADING")["RELOADING"] == "1"
    assert manager.next("READY") == {"READY": "1", "STATUS": "2 brokers"}
    assert manager.next("STATUS")["STATUS"].startswith("2 brokers; the last reload: brokers.toml:1: wrong: unknown key")
    command.process.terminate()
    told = manager.next("STOPPING")
    assert told["STOPPING"] == "1"
    if told["EXTEND_TIMEOUT_USEC"] == "15000000":  # the reload was not quite over
        told = manager.next("STOPPING")
    assert told["EXTEND_TIMEOUT_USEC"] == "10000000"  # 5 s by default, and as much again
    assert told["STATUS"] == "ending: messages are delivered for up to 5 s"
    assert command.end()[0] == 0


def environment_of(manager: Manager, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.name} | more


Started = Callable[[Path, Mapping[str, str]], Daemon]


@pytest.fixture
def started() -> Iterator[Started]:
    """Starts daemons with an environment; no thread runs their engines."""
    daemons: list[Daemon] = []

    def start(path: Path, environment: Mapping[str, str]) -> Daemon:
        daemon = Daemon(path, environment)
        daemons.append(daemon)
        daemon.start()
        return daemon

    yield start
    for daemon in daemons:
        daemon.close()


def has_told(manager: Manager) -> bool:
    return bool(select.select([manager.socket], [], [], 0)[0])


def next_in_turns(manager: Manager, daemon: Daemon, field: str) -> dict[str, str]:
    """The next message that has a field, while the test makes the turns of the engine."""
    while True:
        wait_until(lambda: has_told(manager), engine=daemon.engine)
        told = dict(line.split("=", 1) for line in manager.socket.recv(1 << 16).decode().splitlines())
        if field in told:
            return told


def test_ready_and_watchdog_come_from_the_loop(manager: Manager, write: Write, started: Started) -> None:
    environment = environment_of(manager, WATCHDOG_USEC="20000", WATCHDOG_PID=str(os.getpid()))
    daemon = started(write(streamer("a")), environment)
    assert not has_told(manager)  # the loop has not run yet
    assert next_in_turns(manager, daemon, "READY")["STATUS"] == "1 broker"
    for _ in range(3):
        assert next_in_turns(manager, daemon, "WATCHDOG") == {"WATCHDOG": "1"}
    while has_told(manager):
        manager.socket.recv(1 << 16)
    # While the loop makes no turn, no thread says that it does.
    assert not select.select([manager.socket], [], [], 0.1)[0]


def test_watchdog_is_fed_while_no_descriptor_is_left(manager: Manager, write: Write, started: Started) -> None:
    daemon = started(write(streamer("a")), environment_of(manager, WATCHDOG_USEC="20000"))
    next_in_turns(manager, daemon, "WATCHDOG")
    with no_descriptor_left():
        while has_told(manager):
            manager.socket.recv(1 << 16)
        assert next_in_turns(manager, daemon, "WATCHDOG") == {"WATCHDOG": "1"}


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_watchdog_of_another_process_or_none_is_not_fed(manager: Manager, more: dict[str, str]) -> None:
    assert ServiceManager(environment_of(manager, **more)).watchdog_s is None


def test_watchdog_without_a_process_is_for_this_one(manager: Manager) -> None:
    assert ServiceManager(environment_of(manager, WATCHDOG_USEC="3000000")).watchdog_s == 3.0
    assert ServiceManager({"WATCHDOG_USEC": "3000000"}).watchdog_s is None  # there is nobody to tell


def test_broker_that_fails_is_part_of_the_status(manager: Manager, write: Write, started: Started) -> None:
    daemon = started(write(streamer("a") + streamer("b", more="transport = 'libzmq'")), environment_of(manager))
    assert next_in_turns(manager, daemon, "READY")["STATUS"] == "2 brokers"
    working_broker(daemon.engine.brokers["b"]).fail(OSError("disk on fire"))
    assert manager.next("STATUS")["STATUS"] == "2 brokers, 1 failed: b"


def test_end_is_told_while_a_reload_is_under_way(
    manager: Manager, write: Write, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.name)
    slow = streamer("slow", more="transport = 'wire'")
    daemon = Daemon(write(f"[engine]\ndrain_timeout_s = {DEADLINE_S}\n" + streamer("a") + slow))
    with closing(daemon), Threads() as threads:
        daemon.start()
        daemon.engine.start()
        frontend, backend = (port.endpoint for port in daemon.engine.brokers["slow"].ports.values())
        connect(zmq.PUSH, frontend).send(b"held")
        wait_until(lambda: daemon.engine.broker_statistics("slow").ports["frontend"].peers)
        write(f"[engine]\ndrain_timeout_s = {DEADLINE_S}\n" + streamer("a"))
        reload = threads.submit(daemon.reload)
        wait_until(lambda: daemon.engine.brokers["slow"].state is BrokerState.DRAINING)
        daemon.stop()
        end = threads.submit(daemon.end)
        told = manager.next("STOPPING")
        assert daemon.changing.locked()
        assert told["EXTEND_TIMEOUT_USEC"] == f"{2 * DEADLINE_S + 5:.0f}000000"  # the reload, the end, and 5 s more
        assert connect(zmq.PULL, backend).recv() == b"held"
        reload.result(DEADLINE_S)
        assert manager.next("STOPPING")["EXTEND_TIMEOUT_USEC"] == f"{DEADLINE_S + 5:.0f}000000"
        end.result(DEADLINE_S)


def test_main_process_may_become_another(manager: Manager) -> None:
    ServiceManager(environment_of(manager)).main_pid(4711)
    assert manager.next("MAINPID") == {"MAINPID": "4711"}


def test_service_manager_that_is_gone_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gone = ServiceManager({"NOTIFY_SOCKET": f"{tmp_path}/gone"})
    for _ in range(3):
        gone.ready("1 broker")
    assert [one.message for one in caplog.records] == [
        "the service manager cannot be told 'READY=1': No such file or directory"
    ]
    ServiceManager({"NOTIFY_SOCKET": "vsock:2:1234"}).ready("1 broker")
    assert "NOTIFY_SOCKET is 'vsock:2:1234'; expected a path" in caplog.text


def test_without_a_service_manager_nothing_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    ServiceManager({}).ready("1 broker")
    ServiceManager({"NOTIFY_SOCKET": ""}).stopping(1)
    assert not caplog.records


# -- socket activation -------------------------------------------------------------------------------------------------

LAUNCHER = """
import fcntl, os, sys
count = int(sys.argv[1])
copies = [fcntl.fcntl(int(one), fcntl.F_DUPFD_CLOEXEC, 100) for one in sys.argv[2 : 2 + count]]
for number, descriptor in enumerate(copies, 3):
    os.dup2(descriptor, number, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": sys.argv[2 + count]}
os.execv(sys.executable, [sys.executable, "-m", "pollbroker", *sys.argv[3 + count :]])
"""
"""Begins a process as the service manager does: the sockets are its descriptors from 3 on."""


@pytest.fixture
def activate() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []

    def start(sockets: Mapping[str, socket.socket], *arguments: str) -> subprocess.Popen[bytes]:
        numbers = [one.fileno() for one in sockets.values()]
        command = [sys.executable, "-c", LAUNCHER, str(len(numbers)), *map(str, numbers), ":".join(sockets), *arguments]
        with dispositions(()):
            processes.append(
                subprocess.Popen(command, pass_fds=numbers, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("serves", ["libzmq", "wire"])
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_client_that_connects_while_the_daemon_is_down_is_served_when_it_is_back(
    write: Write,
    connect: Connect,
    activate: Callable[..., subprocess.Popen[bytes]],
    transport: str,
    serves: str,
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_INET if transport == "tcp" else socket.AF_UNIX) as held:
        held.bind(("127.0.0.1", 0) if transport == "tcp" else f"{tmp_path}/frontend")
        held.listen(100)
        address = f"tcp://127.0.0.1:{held.getsockname()[1]}" if transport == "tcp" else f"ipc://{tmp_path}/frontend"
        backend = f"ipc://{tmp_path}/backend"
        path = write(streamer("a", address, backend, f"transport = '{serves}'"))
        pull = connect(zmq.PULL, backend)
        for number in range(3):
            early = connect(zmq.PUSH, address)  # the daemon is down, and the kernel accepts the connection
            early.send(b"early %d" % number)
            process = activate({"orders": held}, "run", str(path))
            assert pull.recv() == b"early %d" % number
            process.send_signal(signal.SIGTERM)
            stdout, stderr = process.communicate(timeout=DEADLINE_S)
            assert (process.returncode, stderr) == (0, b"")
            assert f"frontend {address}".encode() in stdout
            early.close()
        if transport == "ipc":
            assert (tmp_path / "frontend").exists()  # it belongs to the service manager


def test_socket_that_no_port_wants_is_closed_with_a_warning(
    write: Write, activate: Callable[..., subprocess.Popen[bytes]]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        datagrams.bind(("127.0.0.1", 0))
        process = activate({"unwanted": held, "datagrams": datagrams}, "run", str(write(streamer("a"))))
        assert process.stdout is not None
        while not process.stdout.readline().startswith(b"ready"):
            pass
        number = held.getsockname()[1]
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=DEADLINE_S)
    assert stderr.decode().splitlines() == [
        "pollbroker: the inherited socket 'datagrams' is closed: it does not listen for streams of tcp or ipc",
        f"pollbroker: the inherited socket 'unwanted' (tcp://127.0.0.1:{number}) is closed: it is not the one address "
        "of any port",
    ]


def listening(family: int, address: object) -> socket.socket:
    made = socket.socket(family)
    made.bind(address)  # type: ignore[arg-type]
    made.listen()
    return made


@pytest.mark.parametrize(
    ("family", "host", "address", "ipv6", "taken"),
    [
        (socket.AF_INET, "127.0.0.1", "tcp://127.0.0.1:PORT", False, True),
        (socket.AF_INET, "127.0.0.1", "tcp://localhost:PORT", False, True),
        (socket.AF_INET, "127.0.0.1", "tcp://lo:PORT", False, True),
        (socket.AF_INET, "127.0.0.1", "tcp://*:PORT", False, False),
        (socket.AF_INET, "127.0.0.1", "tcp://127.0.0.1:*", False, False),
        (socket.AF_INET, "0.0.0.0", "tcp://*:PORT", False, True),
        (socket.AF_INET, "0.0.0.0", "tcp://127.0.0.1:PORT", False, False),
        (socket.AF_INET6, "::", "tcp://*:PORT", False, True),
        (socket.AF_INET6, "::", "tcp://*:PORT", True, True),
        (socket.AF_INET6, "::1", "tcp://[::1]:PORT", True, True),
        (socket.AF_INET, "127.0.0.1", "ipc://127.0.0.1", False, False),
    ],
)
def test_address_of_a_port_is_compared_with_that_of_the_socket(
    family: int, host: str, address: str, ipv6: bool, taken: bool
) -> None:
    held = listening(family, (host, 0))
    inherited = InheritedSockets([(held, "held")])
    found = inherited.take(address.replace("PORT", str(held.getsockname()[1])), ipv6=ipv6)
    assert (found is not None) == taken
    if found is not None:
        assert found.getsockname() == held.getsockname()
        found.close()
    inherited.close()


@pytest.mark.parametrize("abstract", [False, True])
def test_paths_and_abstract_names_are_compared(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"pollbroker-test-{os.getpid()}-{time.monotonic_ns()}" if abstract else "s"
    inherited = InheritedSockets([(listening(socket.AF_UNIX, f"\0{name}" if abstract else f"{tmp_path}/{name}"), "x")])
    for address, fits in ((f"ipc://@{name}", abstract), (f"ipc://{name}", not abstract), ("ipc://other", False)):
        found = inherited.take(address, ipv6=False)
        assert (found is not None) == fits
        if found is not None:
            found.close()
    inherited.close()


@pytest.mark.parametrize(
    ("environment", "warning"),
    [
        ({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, ""),
        ({"LISTEN_FDS": "1"}, ""),
        ({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}, "LISTEN_FDS is 'many'; expected a number of sockets"),
        ({}, ""),
    ],
)
def test_environment_of_another_process_is_left_alone(
    environment: dict[str, str], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    inherited = InheritedSockets.of_environment(environment)
    assert environment == {}
    assert [one.message for one in caplog.records] == ([warning] if warning else [])
    inherited.close_unwanted()
    assert inherited.take("tcp://127.0.0.1:1", ipv6=False) is None


def test_descriptor_that_is_no_socket_is_closed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(activation, "_FIRST", reading)
    InheritedSockets.of_environment({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "pipe"})
    assert caplog.messages == [
        f"the inherited descriptor {reading} ('pipe') is not a socket: Socket operation on non-socket"
    ]
    with pytest.raises(OSError, match="Broken pipe"):
        os.write(writing, b"x")
    os.close(writing)


@pytest.mark.parametrize("serves", ["libzmq", "wire"])
def test_broker_that_a_reload_brings_back_has_its_socket_again(
    write: Write, connect: Connect, activate: Callable[..., subprocess.Popen[bytes]], serves: str
) -> None:
    control = "[engine]\ncontrol = 'ipc://control'\n"
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"tcp://127.0.0.1:{held.getsockname()[1]}"
        text = control + streamer("a", address, "ipc://backend", f"transport = '{serves}'")
        process = activate({"a": held}, "run", str(write(text)))
        assert process.stdout is not None

        def read_until(start: bytes) -> None:
            assert process.stdout is not None
            while not (line := process.stdout.readline()).startswith(start):
                assert line

        read_until(b"ready")
        for part in (control, text):
            write(part)
            assert invoke("ctl", "ipc://control", "RELOAD").exit_code == 0
            read_until(b"reloaded")
        connect(zmq.PUSH, address).send(b"again")
        assert connect(zmq.PULL, "ipc://backend").recv() == b"again"
