"""A broker begins at a listener when nobody else accepts from that any more."""

import os
import socket
import time
from contextlib import closing
from typing import Any

import pytest

from pollbroker import Broker
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


def test_broker_that_a_reload_changes_begins_when_the_old_one_accepts_no_more(
    write: Write, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libzmq closes its copy of the listener late. Whoever connected to that would lose what it sends."""
    text = f"[brokers.a]\ndevice = 'streamer'\ntransport = 'libzmq'\nfrontend = '{ANY_PORT}'\nbackend = '{ANY_PORT}'"
    daemon = start_daemon(write(text))
    add = daemon.engine.add
    others: list[set[int]] = []

    def look_and_add(*arguments: Any, options: dict[str, dict[str, Any]], **more: Any) -> Broker:
        if "replaces" not in more:  # which is tried first, and is possible at ports of the wire alone
            others.extend(copies_of(one["use_fd"]) for one in options.values())
        return add(*arguments, options=options, **more)

    monkeypatch.setattr(daemon.engine, "add", look_and_add)
    for number in range(1, 21):
        write(f"{text}\noptions = {{ sndhwm = {number} }}")
        assert daemon.reload().changed == ("a",)
    assert others == [set()] * 40
