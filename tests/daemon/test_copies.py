"""A broker begins at a listener when nobody else accepts from that any more."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from pollbroker import Broker, binding
from pollbroker.daemon import copies, listeners
from pollbroker.daemon.copies import wait_until_closed
from tests.daemon.conftest import StartDaemon, Write
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_S
from tests.support.descriptors import descriptors


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def copies_of(original: int) -> set[int]:
    """The descriptors of this process that are of the same socket."""
    status = os.fstat(original)
    return {number for number, *what in descriptors() if what == [status.st_dev, status.st_ino]} - {original}


def test_all_copies_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with listener() as original, listener() as other:
        late = [original.dup(), original.dup()]
        monkeypatch.setattr(time, "sleep", lambda _: late.pop().close())
        copies = {one.fileno() for one in (*late, other)}
        assert wait_until_closed(copies, [original.fileno()], DEADLINE_S)
        assert not late


def test_copy_that_is_not_closed_in_time_is_told() -> None:
    with listener() as original, closing(original.dup()) as copy:
        assert not wait_until_closed([copy.fileno()], [original.fileno()], 0)
        assert wait_until_closed([copy.fileno()], [], 0)


def test_descriptor_that_is_something_else_by_now_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with listener() as original, listener() as other:
        copy = os.dup(original.fileno())
        monkeypatch.setattr(time, "sleep", lambda _: os.dup2(other.fileno(), copy))
        assert wait_until_closed([copy], [original.fileno()], DEADLINE_S)
        os.close(copy)


TEXT = f"[brokers.a]\ndevice = 'streamer'\ntransport = 'libzmq'\nfrontend = '{ANY_PORT}'\nbackend = '{ANY_PORT}'"


class Changing:
    """A daemon whose broker is changed by each reload, and the copies that libzmq has of its listeners at each
    beginning."""

    def __init__(self, write: Write, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
        self._write = write
        self._daemon = start_daemon(write(TEXT))
        self._add = self._daemon.engine.add
        self._number = 0
        self.listeners: set[int] = set()
        self.copies: list[set[int]] = []
        monkeypatch.setattr(self._daemon.engine, "add", self._look_and_add)

    def _look_and_add(self, *arguments: Any, options: dict[str, dict[str, Any]], **more: Any) -> Broker:
        if "replaces" not in more:  # which is tried first, and is possible at ports of the wire alone
            self.listeners = {one["use_fd"] for one in options.values()}
            self.copies.append(set().union(*map(copies_of, self.listeners)))
        return self._add(*arguments, options=options, **more)

    def reload(self) -> None:
        self._number += 1
        self._write(f"{TEXT}\noptions = {{ sndhwm = {self._number} }}")
        assert self._daemon.reload().changed == ("a",)


@pytest.fixture
def changing(write: Write, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch) -> Changing:
    return Changing(write, start_daemon, monkeypatch)


@pytest.fixture
def kept(changing: Changing, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A copy of a listener that libzmq does not close by itself."""
    changing.reload()
    with socket.socket(fileno=os.dup(min(changing.listeners))) as copy:
        monkeypatch.setattr(listeners, "COPIES_AT_LIBZMQ", binding.COPIES_AT_LIBZMQ | {copy.fileno()})
        yield copy


def test_broker_that_a_reload_changes_begins_when_the_old_one_accepts_no_more(changing: Changing) -> None:
    """libzmq closes its copy of the listener late. Whoever connected to that would lose what it sends."""
    for _ in range(20):
        changing.reload()
    assert changing.copies == [set()] * 20


def test_reload_waits_for_libzmq_to_accept_no_more(
    changing: Changing, kept: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "_INTERVAL_S", 0.0)
    sleep = time.sleep

    def close_and_sleep(seconds: float) -> None:
        if seconds == copies._INTERVAL_S:
            kept.close()
        sleep(seconds)

    monkeypatch.setattr(time, "sleep", close_and_sleep)
    changing.reload()
    assert changing.copies[-1] == set()


def test_reload_goes_on_with_a_warning_when_libzmq_accepts_for_too_long(
    changing: Changing, kept: socket.socket, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listeners, "ADDRESS_RELEASE_S", 0.2)
    changing.reload()
    assert kept.fileno() in changing.copies[-1]
    assert "libzmq has not yet closed a socket of a broker that has ended" in caplog.text
