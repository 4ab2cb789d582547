"""The default endpoint, and addresses that other machines reach."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pollbroker import Engine
from pollbroker.control import attach, default_endpoint, request
from pollbroker.control.default_endpoint import (
    make_private_directory,
    path_to_ask,
    path_to_serve,
    private_files,
    process_listening_at,
)
from pollbroker.errors import NobodyListensError


def test_a_daemon_listens_in_the_first_directory_that_is_known(tmp_path: Path) -> None:
    service, session = tmp_path / "service", tmp_path / "session"
    of_service = {"RUNTIME_DIRECTORY": f"{service}:/other"}
    of_session = {"XDG_RUNTIME_DIR": str(session)}
    assert path_to_serve({}) is None
    assert path_to_serve({"RUNTIME_DIRECTORY": "", "XDG_RUNTIME_DIR": ""}) is None
    assert path_to_serve(of_session) == session / "pollbroker/control"
    assert path_to_serve(of_session | of_service) == service / "control"


def test_ctl_asks_at_the_first_file_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = tmp_path / "run"
    monkeypatch.setattr(default_endpoint, "_OF_SERVICES", everywhere)
    environment = {"RUNTIME_DIRECTORY": str(tmp_path / "service"), "XDG_RUNTIME_DIR": str(tmp_path / "session")}
    places = [tmp_path / "service/control", tmp_path / "session/pollbroker/control", everywhere / "control"]
    assert path_to_ask(environment) == places[0]
    assert path_to_ask({}) == places[2]
    for place in reversed(places):
        place.parent.mkdir(parents=True)
        place.touch()
        assert path_to_ask(environment) == place


@contextmanager
def somebody_without_rights() -> Iterator[None]:
    """As a context: this process has the rights of nobody, if it has those of root, who may enter every directory."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_ctl_asks_at_a_file_that_it_may_not_look_at_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    path = closed / "control"
    monkeypatch.setattr(default_endpoint, "_OF_SERVICES", closed)
    with pytest.raises(NobodyListensError, match="there is no such file"):
        request(f"ipc://{path}", "LIST")  # what this imports, somebody without rights may not find
    closed.chmod(0)
    try:
        with somebody_without_rights():
            assert path_to_ask({"XDG_RUNTIME_DIR": "/none"}) == path
            with pytest.raises(NobodyListensError, match="or not for this process: Permission denied"):
                request(f"ipc://{path}", "LIST")
    finally:
        closed.chmod(0o700)


def test_directory_and_file_are_for_one_user(tmp_path: Path) -> None:
    path = tmp_path / "pollbroker" / "control"
    make_private_directory(path)
    make_private_directory(path)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    before = os.umask(0o022)
    try:
        with private_files(), socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
        assert path.stat().st_mode & 0o777 == 0o600
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_process_that_listens_is_known_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "control"
    assert process_listening_at(path) is None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert process_listening_at(path) == os.getpid()
    assert process_listening_at(path) is None


@pytest.mark.parametrize(
    ("endpoint", "from_network", "warned"),
    [
        ("tcp://0.0.0.0:*", False, True),
        ("tcp://0.0.0.0:*", True, False),
        ("tcp://127.0.0.1:*", False, False),
        ("ipc://*", False, False),
        (">tcp://192.0.2.1:9", False, False),
    ],
)
def test_control_socket_that_other_machines_reach_is_warned_of(
    idle: Engine, endpoint: str, from_network: bool, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    attach(idle, endpoint, from_network=from_network)
    assert [record.message for record in caplog.records] == warned * [
        f"control: @{endpoint}: other machines can reach this address, and stop the engine; use ipc://path or "
        "tcp://127.0.0.1:port instead, or say from_network=True"
    ]
