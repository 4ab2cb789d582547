"""Successors that come while no descriptor is left for a connection with them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pollbroker import Engine
from pollbroker.daemon.successors import SuccessorSocket
from tests.support.deadline import DEADLINE_S
from tests.support.descriptors import descriptors, no_descriptor_left, opened_since


@pytest.fixture
def successors(tmp_path: Path) -> Iterator[SuccessorSocket]:
    before = descriptors()
    with SuccessorSocket(f"{tmp_path}/takeover") as made:
        yield made
    assert not opened_since(before)


@pytest.fixture
def coming() -> Iterator[list[socket.socket]]:
    """Three sockets of successors that have not come yet."""
    with ExitStack() as made:
        sockets = [made.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(3)]
        for one in sockets:
            one.settimeout(DEADLINE_S)
        yield sockets


def test_first_is_accepted_and_others_are_sent_away(
    successors: SuccessorSocket, coming: list[socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    with no_descriptor_left():
        coming[0].connect(str(successors.path))
        assert successors.accept()
        coming[1].connect(str(successors.path))
        assert not successors.accept()
        assert not successors.accept()  # there is nobody
    assert coming[1].recv(1) == b""
    coming[2].connect(str(successors.path))  # now there are descriptors
    assert successors.accept()
    for one in (coming[0], coming[2]):
        accepted = successors.next()
        assert accepted is not None
        with accepted:
            accepted.send(b"x")
        assert one.recv(1) == b"x"
    assert successors.next() is None
    assert caplog.messages == [
        f"{successors.path}: a successor was sent away: no descriptor is left for it (ulimit -n)"
    ]


def test_none_of_them_wakes_the_engine_again_and_again(
    engine: Engine, successors: SuccessorSocket, coming: list[socket.socket]
) -> None:
    engine.add_reader(successors.fileno(), successors.accept)
    with no_descriptor_left():
        before = engine.statistics().turns
        for one in coming[:2]:  # as many as the socket lets wait
            one.connect(str(successors.path))
        threading.Event().wait(0.05)
        assert engine.statistics().turns - before < 50
    engine.remove_reader(successors.fileno())
