"""What a daemon has for operators while it takes the place of another one: the control socket, HTTP, and the socket at
which it waits for its own successor."""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pollbroker.daemon import Configuration, Daemon, succession
from pollbroker.daemon.problems import Problem
from pollbroker.daemon.servers import Servers
from pollbroker.engine import Engine
from tests.daemon.conftest import StartDaemon, Write
from tests.daemon.test_running import streamer
from tests.support.addresses import OWN_HOST, free_address
from tests.support.deadline import wait_until

CONTROL_AND_TAKEOVER = "[engine]\ntakeover = 'takeover'\ncontrol = 'ipc://control'\n"


def end(daemon: Daemon) -> None:
    wait_until(lambda: not daemon.engine.running)
    daemon.end()
    daemon.close()


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The keys of what could not be opened, for each time that a daemon has tried to open what operators use."""
    made: list[list[str]] = []
    open_all = Servers.open

    def open_noting(servers: Servers, engine: Engine, configuration: Configuration) -> list[Problem]:
        problems = open_all(servers, engine, configuration)
        made.append([problem.key for problem in problems])
        return problems

    monkeypatch.setattr(Servers, "open", open_noting)
    return made


@contextmanager
def taken(address: str) -> Iterator[Callable[[], None]]:
    """As a context: somebody else listens at an address of HTTP, until the block ends or the function is called."""
    with socket.create_server((OWN_HOST, int(address.rpartition(":")[2]))) as one:
        yield one.close


def test_all_of_it_moves(write: Write, start_daemon: StartDaemon, take_over: StartDaemon) -> None:
    http = free_address().removeprefix("tcp://")
    path = write(f"{CONTROL_AND_TAKEOVER}http = '{http}'\n" + streamer("a"))
    old = start_daemon(path)
    new = take_over(path)
    end(old)
    wait_until(lambda: bool(new.servers.control_endpoints) and new.servers.http_address == http)
    wait_until(lambda: Path("takeover").is_socket())


def test_address_that_is_free_a_moment_later_is_tried_again(
    write: Write,
    start_daemon: StartDaemon,
    take_over: StartDaemon,
    tries: list[list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """libzmq may close the sockets of the old daemon some time after that has said that they are closed."""
    old = start_daemon(write(CONTROL_AND_TAKEOVER + streamer("a")))
    http = free_address().removeprefix("tcp://")
    with taken(http) as release:
        new = take_over(write(f"{CONTROL_AND_TAKEOVER}http = '{http}'\n" + streamer("a")))
        wait_until(lambda: ["engine.http"] in tries)
        assert new.servers.control_endpoints == ("ipc://control",)
        release()
        wait_until(lambda: new.servers.http_address == http)
    end(old)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_address_that_the_old_daemon_has_until_its_end_is_tried_again_then(
    write: Write,
    start_daemon: StartDaemon,
    take_over: StartDaemon,
    tries: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(succession, "ADDRESS_RELEASE_S", 0.0)
    old = start_daemon(write(CONTROL_AND_TAKEOVER + streamer("a")))
    http = free_address().removeprefix("tcp://")
    with taken(http) as release:
        new = take_over(write(f"{CONTROL_AND_TAKEOVER}http = '{http}'\n" + streamer("a")))
        wait_until(lambda: ["engine.http"] in tries)
        release()
        end(old)
        wait_until(lambda: new.servers.http_address == http)
    assert tries == [[], ["engine.http"], []]


def test_address_that_stays_in_use_is_said_once(
    write: Write,
    start_daemon: StartDaemon,
    take_over: StartDaemon,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(succession, "ADDRESS_RELEASE_S", 0.0)
    old = start_daemon(write(CONTROL_AND_TAKEOVER + streamer("a")))
    http = free_address().removeprefix("tcp://")
    with taken(http):
        new = take_over(write(f"{CONTROL_AND_TAKEOVER}http = '{http}'\n" + streamer("a")))
        end(old)
        told = f"takeover: brokers.toml:4: engine.http: {http}: cannot listen: Address already in use"
        wait_until(lambda: told in caplog.messages)
    assert caplog.messages.count(told) == 1
    assert new.servers.control_endpoints == ("ipc://control",)


def test_whatever_cannot_be_opened_the_brokers_begin_that_begin_late(
    write: Write,
    start_daemon: StartDaemon,
    take_over: StartDaemon,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(succession, "ADDRESS_RELEASE_S", 0.0)
    titanic = "[brokers.t]\ndevice = 'titanic'\nfrontend = 'ipc://t'\nsettings = { path = 't.db' }\n"
    old = start_daemon(write(CONTROL_AND_TAKEOVER + titanic))

    def fail(*_: object) -> None:
        raise ValueError("nobody has thought of this")

    monkeypatch.setattr("pollbroker.daemon.servers.SuccessorSocket", fail)
    new = take_over(Path("brokers.toml"))
    end(old)
    wait_until(lambda: "t" in new.engine.brokers)
    told = "takeover: brokers.toml:2: engine.takeover: ValueError: nobody has thought of this"
    wait_until(lambda: told in caplog.messages)
