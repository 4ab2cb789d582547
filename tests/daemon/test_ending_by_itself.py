"""A daemon that can begin no other broker, since it has no control socket or no file, ends when every broker has ended,
but not because a reload ends brokers that are to begin again."""

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from pollbroker import STREAMER, Broker
from pollbroker.broker import working_broker
from pollbroker.control import CommandRefusedError, request
from pollbroker.daemon import Daemon
from pollbroker.daemon.configuration import Configuration
from pollbroker.daemon.single import single
from pollbroker.states import BrokerState
from tests.daemon.conftest import StartDaemon, Write
from tests.daemon.test_running import streamer
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_S, wait_until

ENGINE = "[engine]\ncontrol = []\n"


def fail(daemon: Daemon, name: str) -> None:
    """Let a broker fail, in the engine's thread, as one does."""
    broker, done = working_broker(daemon.engine.brokers[name]), threading.Event()

    def fail_now() -> None:
        broker.fail(OSError("disk on fire"))
        done.set()

    daemon.engine.call_soon_threadsafe(fail_now)
    assert done.wait(DEADLINE_S)


def is_over(daemon: Daemon) -> bool:
    return daemon.has_no_brokers_left and not daemon.engine.running


def test_daemon_ends_when_the_last_broker_has_failed(write: Write, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write(ENGINE + streamer("a") + streamer("b")))
    fail(daemon, "b")
    assert not daemon.has_no_brokers_left
    fail(daemon, "a")
    wait_until(lambda: is_over(daemon))


def test_reload_that_begins_a_broker_again_beside_one_that_has_failed_leaves_the_daemon_running(
    write: Write, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    def text(maxframes: int) -> str:
        more = f"transport = 'libzmq'\nmaxframes = {maxframes}"  # libzmq's sockets are closed and opened again
        return ENGINE + streamer("a", more=more) + streamer("b", more=more)

    daemon = start_daemon(write(text(10)))
    fail(daemon, "b")
    begin_removal = daemon.engine.begin_removal

    def remove_one_after_the_other(broker: Broker, **options: Any) -> "Future[Any]":
        removed = begin_removal(broker, **options)
        removed.result(DEADLINE_S)
        return removed

    monkeypatch.setattr(daemon.engine, "begin_removal", remove_one_after_the_other)
    write(text(20))
    assert daemon.reload().changed == ("a", "b")
    assert not daemon.has_no_brokers_left
    assert daemon.engine.running
    assert {one.state for one in daemon.engine.brokers.values()} == {BrokerState.RUNNING}


def test_daemon_whose_last_broker_fails_amid_a_reload_ends_after_it(
    write: Write, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start_daemon(write(ENGINE + streamer("a")))
    read = daemon.live.with_added

    def fail_meanwhile(*arguments: Any) -> Any:
        fail(daemon, "a")
        assert not daemon.has_no_brokers_left
        return read(*arguments)

    monkeypatch.setattr(daemon.live, "with_added", fail_meanwhile)
    write(ENGINE + streamer("a", "ipc:///nowhere/at/all"))
    assert daemon.reload().problems
    wait_until(lambda: is_over(daemon))


def fixed(control: str) -> Configuration:
    """One broker that no file has, as the command of a device makes it."""
    return single(
        "a", STREAMER, {"frontend": ANY_PORT, "backend": ANY_PORT}, options={}, transport=None, control=control,
        http=None, drain_timeout_s=1.0,
    )  # fmt: skip


@pytest.mark.parametrize("command", ["REMOVE", "TERMINATE"])
def test_daemon_without_a_file_answers_the_command_that_ends_its_last_broker_and_ends(
    start_daemon: StartDaemon, tmp_path: Path, command: str
) -> None:
    control = f"ipc://{tmp_path}/control"
    daemon = start_daemon(fixed(control))
    assert request(control, command, "a", timeout_s=DEADLINE_S)[0] in (b"OK", b"")
    wait_until(lambda: is_over(daemon))


@pytest.mark.parametrize("command", ["ADD", "RELOAD"])
def test_daemon_without_a_file_has_no_command_that_begins_brokers(
    start_daemon: StartDaemon, tmp_path: Path, command: str
) -> None:
    control = f"ipc://{tmp_path}/control"
    start_daemon(fixed(control))
    with pytest.raises(CommandRefusedError, match=rf"'{command}' is not a command"):
        request(control, command, timeout_s=DEADLINE_S)
