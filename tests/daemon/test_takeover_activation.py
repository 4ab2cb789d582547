"""Sockets at which the service manager listens, while one daemon takes the place of another: they go along, so that the
new one can have their addresses again and again."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pollbroker.control import request
from pollbroker.daemon import Daemon
from pollbroker.daemon.activation import InheritedSockets
from pollbroker.daemon.configuration import Configuration
from tests.daemon.conftest import StartDaemon, Write
from tests.daemon.test_running import streamer
from tests.support.deadline import wait_until
from tests.support.types import Connect

ENGINE = "[engine]\ntakeover = 'takeover'\ncontrol = 'ipc://control'\n"


@pytest.fixture
def held() -> Iterator[socket.socket]:
    """A socket at which the service manager listens."""
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


@pytest.fixture
def start_activated(start_daemon: StartDaemon, held: socket.socket, monkeypatch: pytest.MonkeyPatch) -> StartDaemon:
    """Starts a daemon that has inherited this socket. A successor inherits none from the service manager."""

    def start(source: Path | Configuration) -> Daemon:
        inherited = InheritedSockets([(held.dup(), "held")])
        with monkeypatch.context() as patch:
            patch.setattr(InheritedSockets, "of_environment", lambda _environment: inherited)
            return start_daemon(source)

    return start


def end(daemon: Daemon) -> None:
    wait_until(lambda: not daemon.engine.running)
    daemon.end()
    daemon.close()


def text(held: socket.socket, serves: str) -> str:
    return ENGINE + streamer("a", address_of(held), "ipc://backend", f"transport = '{serves}'")


def address_of(held: socket.socket) -> str:
    return f"tcp://127.0.0.1:{held.getsockname()[1]}"


@pytest.mark.parametrize("serves", ["libzmq", "wire"])
def test_broker_that_a_reload_brings_back_after_takeovers_has_its_socket_again(
    write: Write,
    start_activated: StartDaemon,
    take_over: StartDaemon,
    connect: Connect,
    held: socket.socket,
    serves: str,
) -> None:
    path = write(text(held, serves))
    daemon = start_activated(path)
    for _ in range(2):  # the socket is in use once, and once it is not
        new = take_over(path)
        end(daemon)
        wait_until(lambda: new.servers.successors)  # noqa: B023 - it is called here
        daemon = new
        write(ENGINE)
        daemon.reload()
    write(text(held, serves))
    assert daemon.reload().problems == ()
    connect(zmq.PUSH, address_of(held)).send(b"again")
    assert connect(zmq.PULL, "ipc://backend").recv() == b"again"


def test_broker_that_was_disabled_after_a_takeover_listens_again(
    write: Write, start_activated: StartDaemon, take_over: StartDaemon, connect: Connect, held: socket.socket
) -> None:
    path = write(text(held, "wire"))
    old = start_activated(path)
    new = take_over(path)
    end(old)
    wait_until(lambda: new.servers.successors)
    request("ipc://control", "DISABLE", "a")
    connect(zmq.PUSH, address_of(held)).send(b"queued")  # the service manager listens all the while
    request("ipc://control", "ENABLE", "a")
    assert connect(zmq.PULL, "ipc://backend").recv() == b"queued"
