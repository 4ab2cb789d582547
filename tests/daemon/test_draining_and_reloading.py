"""`DRAIN` while a daemon reloads, and a reload during `DRAIN`, in processes of their own: both are answered."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
import zmq

from pollbroker.control import NotInTimeError, request
from tests.daemon.conftest import Write
from tests.support.addresses import ANY_PORT
from tests.support.commands import Command, Run, invoke
from tests.support.control import text_of
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect, Socket

KEPT: Final = "wire"
"""Ports whose connections the broker has that takes the place of the old one."""
CLOSED: Final = "libzmq"
"""Ports that are closed and opened again. The reload waits until the old broker has delivered what it holds."""


@pytest.fixture
def configure(write: Write, tmp_path: Path) -> Callable[..., None]:
    """Writes the file of a daemon with one broker, `a`, which differs in `maxframes`."""

    def write_file(transport: str, maxframes: int, drain_timeout_s: float = DEADLINE_S) -> None:
        write(
            f"[engine]\ncontrol = 'ipc://{tmp_path}/control'\ndrain_timeout_s = {drain_timeout_s}\n"
            f"[brokers.a]\ndevice = 'streamer'\nfrontend = '{ANY_PORT}'\nbackend = 'ipc://{tmp_path}/backend'\n"
            f"transport = '{transport}'\nmaxframes = {maxframes}\n"
        )

    return write_file


class Asked:
    """A client of the control socket that has asked for a drain, which the daemon has begun."""

    def __init__(self, client: Socket, seconds: float = DEADLINE_S) -> None:
        self._client = client
        client.send_multipart([b"drain", b"", b"DRAIN", b"a", b"%f" % seconds])
        assert self.list_brokers() == [b"OK", b"a"]

    def list_brokers(self) -> list[bytes]:
        """What LIST is answered. Commands begin in the order in which they come."""
        self._client.send_multipart([b"list", b"", b"LIST"])
        number, _, *reply = self._client.recv_multipart()
        assert number == b"list", reply
        return reply

    def reply(self) -> list[bytes]:
        """The reply to the drain."""
        number, _, *reply = self._client.recv_multipart()
        assert number == b"drain"
        return reply


def start(run: Run, connect: Connect, tmp_path: Path) -> tuple[Command, str]:
    """A daemon whose broker has a message to deliver, and nobody to give it to."""
    daemon = run("run", "brokers.toml")
    connect(zmq.PUSH, daemon.addresses()["frontend"]).send(b"1")
    control = f"ipc://{tmp_path}/control"
    wait_until(lambda: _is_busy(control))
    return daemon, control


def _is_busy(control: str) -> bool:
    try:
        request(control, "DRAIN", "a", wait_s=0.0, timeout_s=DEADLINE_S)
    except NotInTimeError:
        return True
    return False


@pytest.mark.parametrize("transport", [KEPT, CLOSED])
def test_drain_is_answered_when_a_reload_has_changed_the_broker(
    configure: Callable[..., None], run: Run, connect: Connect, tmp_path: Path, transport: str
) -> None:
    configure(transport, 10)
    daemon, control = start(run, connect, tmp_path)
    drain = Asked(connect(zmq.DEALER, control))
    configure(transport, 20)
    daemon.process.send_signal(signal.SIGHUP)
    if transport == KEPT:
        daemon.read_until("reloaded  0 added, 1 changed")
        assert drain.list_brokers() == [b"OK", b"a"]  # and no reply to the drain: the new broker has the message still
    assert connect(zmq.PULL, f"ipc://{tmp_path}/backend").recv() == b"1"
    assert drain.reply() == [b""]
    daemon.read_until("reloaded  0 added, 1 changed")
    assert request(control, "DRAIN", "a", wait_s=DEADLINE_S) == [b""]


def test_drain_may_begin_while_a_reload_waits_for_the_same_broker(
    configure: Callable[..., None], run: Run, connect: Connect, tmp_path: Path
) -> None:
    configure(CLOSED, 10)
    daemon, control = start(run, connect, tmp_path)
    configure(CLOSED, 20)
    daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: '"state": "draining"' in invoke("ctl", control, "STATS", "a", "--json").stdout)
    drain = Asked(connect(zmq.DEALER, control))
    assert connect(zmq.PULL, f"ipc://{tmp_path}/backend").recv() == b"1"
    assert drain.reply() == [b""]
    daemon.read_until("reloaded  0 added, 1 changed")


def test_drain_says_what_a_reload_has_lost(
    configure: Callable[..., None], run: Run, connect: Connect, tmp_path: Path
) -> None:
    configure(CLOSED, 10, 0.01)
    daemon, control = start(run, connect, tmp_path)
    drain = Asked(connect(zmq.DEALER, control))
    configure(CLOSED, 20, 0.01)
    daemon.process.send_signal(signal.SIGHUP)
    assert text_of(drain.reply()) == "brokers.a: it is removed meanwhile, and 1 message was not delivered"
    daemon.read_until("reloaded  0 added, 1 changed")
