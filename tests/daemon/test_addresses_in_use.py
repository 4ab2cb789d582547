"""A start says all addresses that cannot be bound, whichever of them comes first, and leaves nothing open."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pollbroker.daemon import ConfigurationError, Daemon
from tests.daemon.conftest import StartDaemon, Write
from tests.daemon.test_running import streamer
from tests.support.addresses import ANY_PORT, OWN_HOST, bind, free_address, refused
from tests.support.descriptors import descriptors, opened_since
from tests.support.types import Connect

IN_USE = "Address already in use"


@pytest.fixture
def taken() -> Iterator[list[str]]:
    """Some addresses at which somebody listens."""
    servers = [socket.create_server((OWN_HOST, 0)) for _ in range(5)]
    yield sorted(f"tcp://{OWN_HOST}:{server.getsockname()[1]}" for server in servers)
    for server in servers:
        server.close()


def problems_of_start(path: Path) -> list[str]:
    daemon = Daemon(path)
    before = descriptors()
    with pytest.raises(ConfigurationError) as caught:
        daemon.start()
    assert daemon.engine.closed
    assert not opened_since(before)
    return [str(problem) for problem in caught.value.problems]


def test_every_port_of_every_broker_and_every_server_is_said(write: Write, taken: list[str]) -> None:
    free = free_address()
    engine = (
        f"[engine]\ncontrol = ['ipc://nowhere/c', '{taken[0]}', '{free}']\nhttp = '{taken[1].removeprefix('tcp://')}'\n"
        "takeover = 'takeover'\n"
    )
    first = streamer("a", taken[2], "ipc://nowhere/b", f"capture = '{taken[3]}'")
    several = f"[brokers.b]\ndevice = 'streamer'\nfrontend = '{free_address()}'\n"
    several += f"backend = ['{free_address()}', '{taken[4]}', '{ANY_PORT}']\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind("takeover")
        other.listen()
        found = problems_of_start(write(engine + first + several))
    assert found == [
        "brokers.toml:2: engine.control: @ipc://nowhere/c: cannot bind: No such file or directory",
        f"brokers.toml:2: engine.control: @{taken[0]}: cannot bind: {IN_USE}",
        f"brokers.toml:3: engine.http: {taken[1].removeprefix('tcp://')}: cannot listen: {IN_USE}",
        f"brokers.toml:4: engine.takeover: takeover: cannot listen: {IN_USE}",
        f"brokers.toml:7: brokers.a.frontend: @{taken[2]}: cannot bind: {IN_USE}",
        "brokers.toml:8: brokers.a.backend: @ipc://nowhere/b: cannot bind: No such file or directory",
        f"brokers.toml:9: brokers.a.capture: @{taken[3]}: cannot bind: {IN_USE}",
        f"brokers.toml:13: brokers.b.backend: @{taken[4]}: cannot bind: {IN_USE}",
    ]
    assert refused(free)


def test_control_socket_and_what_ports_bind_themselves_are_said_together(write: Write, taken: list[str]) -> None:
    text = f"[engine]\ncontrol = ['{taken[0]}', '{taken[1]}']\n" + streamer("a").replace(
        f"backend = '{ANY_PORT}'", f"backend = ['{taken[2]}', '{taken[3]}']"
    )
    assert problems_of_start(write(text)) == [
        f"brokers.toml:2: engine.control: @{taken[0]}: cannot bind: {IN_USE}; @{taken[1]}: cannot bind: {IN_USE}",
        f"brokers.toml:6: brokers.a.backend: @{taken[2]}: cannot bind: {IN_USE}",
        f"brokers.toml:6: brokers.a.backend: @{taken[3]}: cannot bind: {IN_USE}",
    ]


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
def test_addresses_of_ports_that_have_several_are_all_said(write: Write, taken: list[str], transport: str) -> None:
    frontend, backend = f"['{free_address()}', '{taken[0]}', '{taken[1]}']", f"['{taken[2]}', '{free_address()}']"
    text = f"[brokers.a]\ndevice = 'streamer'\nfrontend = {frontend}\nbackend = {backend}\ntransport = '{transport}'\n"
    assert problems_of_start(write(text)) == [
        f"brokers.toml:3: brokers.a.frontend: @{taken[0]}: cannot bind: {IN_USE}",
        f"brokers.toml:3: brokers.a.frontend: @{taken[1]}: cannot bind: {IN_USE}",
        f"brokers.toml:4: brokers.a.backend: @{taken[2]}: cannot bind: {IN_USE}",
    ]


def test_address_that_is_only_looked_at_can_be_bound_meanwhile(write: Write, taken: list[str]) -> None:
    """Of several daemons that begin at once with the same file, one has to have all addresses."""
    free = free_address()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((OWN_HOST, int(free.rpartition(":")[2])))  # it is about to listen
        assert problems_of_start(write(streamer("a", taken[0], free))) == [
            f"brokers.toml:3: brokers.a.frontend: @{taken[0]}: cannot bind: {IN_USE}"
        ]
        other.listen()


def test_file_of_a_socket_that_was_left_behind_is_no_problem_and_stays(write: Write, taken: list[str]) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("left")
    assert problems_of_start(write(streamer("a", taken[0], "ipc://left"))) == [
        f"brokers.toml:3: brokers.a.frontend: @{taken[0]}: cannot bind: {IN_USE}"
    ]
    assert Path("left").is_socket()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_that_may_not_be_written_is_said(write: Write, taken: list[str]) -> None:
    Path("locked").mkdir(mode=0o500)
    assert problems_of_start(write(streamer("a", taken[0], "ipc://locked/b")))[1:] == [
        "brokers.toml:4: brokers.a.backend: @ipc://locked/b: cannot bind: Permission denied"
    ]


def test_default_endpoint_that_another_daemon_has_is_said_beside_its_addresses(
    write: Write, start_daemon: StartDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    free = free_address()
    path = write(streamer("a", free))
    start_daemon(path)
    assert problems_of_start(path) == [
        f"brokers.toml: engine.control: ipc://{tmp_path}/control: another daemon (process {os.getpid()}) has the "
        "default endpoint; expected none, or control = 'ipc://...' or control = [] in [engine]",
        f"brokers.toml:3: brokers.a.frontend: @{free}: cannot bind: {IN_USE}",
    ]


def test_every_port_of_a_broker_that_a_reload_would_add_is_said(
    write: Write, start_daemon: StartDaemon, connect: Connect
) -> None:
    free = free_address()
    daemon = start_daemon(write(streamer("a", free)))
    taken = [bind(connect(zmq.PULL)) for _ in range(2)]
    write(streamer("b", free) + streamer("c", *taken))
    assert [str(problem) for problem in daemon.reload().problems] == [
        f"brokers.toml:8: brokers.c.frontend: @{taken[0]}: cannot bind: {IN_USE}",
        f"brokers.toml:9: brokers.c.backend: @{taken[1]}: cannot bind: {IN_USE}",
    ]
    assert daemon.engine.brokers.keys() == {"a"}
