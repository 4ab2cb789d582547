"""The units of deploy/ under a real systemd, which runs in namespaces of this machine.

Asked for by `nox -s systemd`, or by POLLBROKER_TEST_SYSTEMD=WHEEL with the path of a wheel.
"""

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from tests.deploy.machine import INSTALL_S, Machine, why_there_is_none
from tests.support.deadline import DEADLINE_MS, DEADLINE_S
from tests.support.tree import TREE
from tests.support.types import Connect

pytestmark = [
    pytest.mark.skipif(
        "POLLBROKER_TEST_SYSTEMD" not in os.environ, reason="asked for by POLLBROKER_TEST_SYSTEMD=WHEEL"
    ),
    pytest.mark.timeout(2 * INSTALL_S),
]

UNIT = "pollbroker"
CONFIGURATION = "/etc/pollbroker/brokers.toml"


def page_commands() -> str:
    """What the page says that installs the daemon, up to its configuration, with the wheel in place of the package."""
    page = (TREE / "docs/howto/deploy.md").read_text()
    commands = page.partition("```sh\n")[2].partition("pollbroker init >")[0]
    assert commands.startswith("apt-get install")
    wheel = Path(os.environ["POLLBROKER_TEST_SYSTEMD"]).resolve()
    return commands.partition("\n")[2].replace("'.[daemon]'", f"'{wheel}[daemon]'")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine on which the daemon is installed, as the page says."""
    why_not = why_there_is_none()
    if why_not is not None:
        pytest.skip(f"no systemd of its own: {why_not}")
    with Machine() as machine:
        machine.run("sh", "-e", "-c", f"cd '{TREE}'\n{page_commands()}", timeout_s=INSTALL_S)
        yield machine


@pytest.fixture
def service(machine: Machine) -> Iterator[Machine]:
    """The same; the service does not run, and is stopped in the end."""
    yield machine
    machine.run("systemctl", "stop", "pollbroker.socket", "pollbroker", check=False)
    machine.run("sh", "-c", "rm -rf /run/systemd/system/pollbroker* /etc/systemd/system/pollbroker.socket")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "reset-failed", check=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def configured(machine: Machine, *ports: int, transport: str = "auto", more: str = "") -> None:
    """Write a configuration with a reflector at each port: it answers by itself."""
    brokers = (
        f'[brokers.b{port}]\ndevice = "reflector"\nfrontend = "tcp://127.0.0.1:{port}"\ntransport = "{transport}"\n'
        for port in ports
    )
    machine.write(CONFIGURATION, "\n".join((*brokers, more)))


def is_served(connect: Connect, port: int) -> None:
    with connect(zmq.REQ, f"tcp://127.0.0.1:{port}") as client:
        client.send(b"hello")
        assert client.recv() == b"hello"


def wait_for(machine: Machine, what: str, *expected: str) -> None:
    """Wait until a property of the unit has one of these values."""
    end_s = time.monotonic() + DEADLINE_S
    while (found := machine.shown(UNIT, what)) not in expected:
        assert time.monotonic() < end_s, f"{what} is {found}, and not {expected}"


@pytest.mark.parametrize("transport", ["wire", "libzmq"])
def test_service_starts_reloads_and_stops(service: Machine, connect: Connect, transport: str) -> None:
    first, second = free_port(), free_port()
    configured(service, first, transport=transport)
    service.run("systemctl", "start", UNIT)
    assert service.shown(UNIT, "StatusText") == "1 broker"
    assert service.run("ps", "-o", "user=", "-p", service.shown(UNIT, "MainPID")).strip() == "pollbroker"
    is_served(connect, first)
    configured(service, first, second, transport=transport)
    service.run("systemctl", "reload", UNIT)
    is_served(connect, second)
    assert service.run("pollbroker", "ctl", "list").split() == [f"b{port}" for port in (first, second)]
    service.run("systemctl", "stop", UNIT)
    assert service.shown(UNIT, "Result") == "success"
    assert "ended  2 brokers" in service.journal(UNIT)


def test_wrong_configuration_is_told_of(service: Machine, connect: Connect) -> None:
    port = free_port()
    service.write(CONFIGURATION, '[brokers.a]\ndevice = "quue"\n')
    service.run("systemctl", "start", UNIT, check=False)
    assert service.shown(UNIT, "ActiveState") != "active"
    assert "did you mean 'queue'" in service.journal(UNIT)
    service.run("systemctl", "stop", UNIT)
    configured(service, port)
    service.run("systemctl", "start", UNIT)
    service.write(CONFIGURATION, '[brokers.a]\ndevice = "quue"\n')
    service.run("systemctl", "reload", UNIT)
    assert "did you mean 'queue'" in service.shown(UNIT, "StatusText")
    is_served(connect, port)


@pytest.mark.parametrize("how", ["hangs", "is killed"])
def test_daemon_that_hangs_or_is_killed_begins_again(service: Machine, connect: Connect, how: str) -> None:
    port = free_port()
    configured(service, port)
    service.run("mkdir", "-p", "/run/systemd/system/pollbroker.service.d")
    service.write("/run/systemd/system/pollbroker.service.d/soon.conf", "[Service]\nWatchdogSec=1s\nRestartSec=10ms\n")
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "start", UNIT)
    process = service.shown(UNIT, "MainPID")
    number = signal.SIGSTOP if how == "hangs" else signal.SIGKILL
    service.run("kill", f"-{number.value}", process)
    wait_for(service, "NRestarts", "1")
    wait_for(service, "ActiveState", "active")
    assert service.shown(UNIT, "MainPID") != process
    is_served(connect, port)


def test_who_connects_while_the_daemon_is_down_is_served_when_it_is_back(service: Machine, connect: Connect) -> None:
    port = free_port()
    unit = (TREE / "deploy/systemd/pollbroker.socket").read_text()
    service.write(
        "/etc/systemd/system/pollbroker.socket", unit.replace("ListenStream=5559", f"ListenStream=127.0.0.1:{port}")
    )
    configured(service, port)
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "start", "pollbroker.socket", UNIT)
    is_served(connect, port)
    service.run("systemctl", "stop", UNIT)
    assert service.shown("pollbroker.socket", "ActiveState") == "active"
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S):  # it is not refused
        is_served(connect, port)  # the connection has started the service
    assert service.shown(UNIT, "ActiveState") == "active"
    client = connect(zmq.REQ, f"tcp://127.0.0.1:{port}")
    for _ in range(3):
        service.run("systemctl", "restart", UNIT)
        client.send(b"again")
        assert client.recv() == b"again"
    assert f"tcp://127.0.0.1:{port}" in service.run("pollbroker", "ctl", "stats", "--json")


def test_another_process_takes_over_and_is_the_service_then(service: Machine, connect: Connect) -> None:
    port = free_port()
    configured(service, port, transport="wire")
    service.run("systemctl", "start", UNIT)
    before = service.shown(UNIT, "MainPID")
    client = connect(zmq.DEALER, f"tcp://127.0.0.1:{port}")
    client.send_multipart([b"", b"1"])
    assert client.recv_multipart() == [b"", b"1"]
    service.run("kill", f"-{signal.SIGUSR2.value}", before)
    end_s = time.monotonic() + DEADLINE_S
    while service.shown(UNIT, "MainPID") in (before, "0"):
        assert time.monotonic() < end_s, "no other process has taken over"
    client.send_multipart([b"", b"2"])
    assert client.recv_multipart() == [b"", b"2"]
    wait_for(service, "ActiveState", "active")
    service.run("systemctl", "reload", UNIT)
    service.run("systemctl", "stop", UNIT)
    assert service.shown(UNIT, "Result") == "success"


def test_what_the_service_may_use_is_enough_for_every_part(service: Machine, connect: Connect) -> None:
    """A database, HTTP, ipc, an authenticator's context, threads: the filter of system calls leaves them theirs."""
    port, http = free_port(), free_port()
    titanic = (
        '[brokers.t]\ndevice = "titanic"\nfrontend = "ipc:///run/pollbroker/titanic"\n'
        'settings = { path = "/var/lib/pollbroker/titanic.db" }\n'
    )
    configured(service, port, more=titanic + f'[engine]\nhttp = "127.0.0.1:{http}"\n')
    service.run("systemctl", "start", UNIT)
    is_served(connect, port)
    with socket.create_connection(("127.0.0.1", http), DEADLINE_MS / 1000) as stream:
        stream.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = stream.makefile("rb").read()
    assert re.search(rb"^pollbroker_\w+", answer, re.MULTILINE)
    service.run("test", "-s", "/var/lib/pollbroker/titanic.db")
