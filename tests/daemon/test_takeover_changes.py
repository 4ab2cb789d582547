"""Changes of a daemon's brokers, by commands and reloads, while one daemon takes the place of another."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import Broker
from pollbroker.daemon import ConfigurationError, Daemon
from pollbroker.states import BrokerState
from tests.daemon.conftest import StartDaemon, Write
from tests.daemon.test_ending_by_itself import fail, is_over
from tests.daemon.test_running import address, streamer
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.http import ask
from tests.support.threads import Threads
from tests.support.types import Connect

ENGINE = f"[engine]\ntakeover = 'takeover'\ndrain_timeout_s = {DEADLINE_S}\n"
WIRE = "transport = 'wire'"


class WatchedLock:
    """A lock that tells when a thread has to wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.locked = self._lock.locked
        self.is_waited_for = threading.Event()

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            self.is_waited_for.set()
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


# -- the old daemon ----------------------------------------------------------------------------------------------------


def test_removal_that_is_under_way_is_finished_before_the_others_move(
    write: Write, start_daemon: StartDaemon, take_over: StartDaemon, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(ENGINE + streamer("a", "ipc://a", more=WIRE) + streamer("slow", more=WIRE))
    old = start_daemon(path)
    backend = address(old, "slow", "backend")
    connect(zmq.PUSH, address(old, "slow")).send(b"held")
    wait_until(lambda: old.engine.broker_statistics("slow").ports["frontend"].peers)
    lock = WatchedLock()
    monkeypatch.setattr(old, "changing", lock)
    write(ENGINE + streamer("a", "ipc://a", more=WIRE))
    with Threads() as threads:
        removal = threads.submit(old.live.remove, "slow")
        wait_until(lambda: old.engine.brokers["slow"].state is BrokerState.DRAINING)
        takeover = threads.submit(take_over, path)
        assert lock.is_waited_for.wait(DEADLINE_S)
        assert connect(zmq.PULL, backend).recv() == b"held"
        assert removal.result(DEADLINE_S).loss is None
        new = takeover.result(DEADLINE_S)
    wait_until(lambda: not old.engine.running)
    old.end()
    old.close()
    connect(zmq.PUSH, "ipc://a").send(b"reached")
    assert connect(zmq.PULL, address(new, "a", "backend")).recv() == b"reached"


# -- the new one, whose brokers wait for the end of the old one --------------------------------------------------------


def titanic(maxframes: int, name: str = "t") -> str:
    """A broker that begins when the old daemon has ended, since it has a behaviour."""
    return (
        f"[brokers.{name}]\ndevice = 'titanic'\nfrontend = 'ipc://{name}'\nmaxframes = {maxframes}\n"
        f"settings = {{ path = '{name}.db' }}\n"
    )


@pytest.fixture
def between(
    write: Write, start_daemon: StartDaemon, take_over: StartDaemon
) -> Callable[[str], tuple[Daemon, Callable[[], None]]]:
    """Has a daemon take the place of another one that has not ended yet. Returns the new one, and what ends the old
    one."""

    def begin(text: str) -> tuple[Daemon, Callable[[], None]]:
        path = write(ENGINE + text)
        old = start_daemon(path)
        new = take_over(path)
        wait_until(lambda: new.servers.successors is not None)

        def end() -> None:
            wait_until(lambda: not old.engine.running)
            old.end()
            old.close()

        return new, end

    return begin


Between = Callable[[str], tuple[Daemon, Callable[[], None]]]


def test_reload_leaves_them_until_then_and_has_them_begin_as_the_file_has_them(write: Write, between: Between) -> None:
    same, changed, gone = titanic(10), titanic(10, "u"), titanic(10, "v")
    new, end = between(streamer("a", more=WIRE) + same + changed + gone)
    write(ENGINE + streamer("a", more=WIRE) + same + titanic(20, "u") + streamer("b"))
    done = new.reload()
    assert (done.added, done.changed, done.removed, done.unchanged) == (("b",), ("u",), ("v",), ("a", "t"))
    assert done.problems == ()
    assert new.engine.brokers.keys() == {"a", "b"}
    end()
    wait_until(lambda: new.engine.brokers.keys() == {"a", "b", "t", "u"})
    assert new.engine.brokers["u"].device.maxframes == 20
    assert str(new.reload()) == "0 added, 0 changed, 0 removed, 4 unchanged"


def test_daemon_is_ready_when_they_have_begun(between: Between) -> None:
    new, end = between("http = '127.0.0.1:0'\n" + streamer("a", more=WIRE) + titanic(10))
    http = new.servers.http_address
    assert http is not None
    why = "brokers.t: it begins when the daemon whose place was taken has ended\n"
    assert ask(http, "/readyz") == (503, why)
    end()
    wait_until(lambda: ask(http, "/readyz") == (200, "ok\n"))
    assert "t" in new.engine.brokers


def test_name_of_one_of_them_cannot_be_added(between: Between) -> None:
    new, _ = between(titanic(10))
    with pytest.raises(ConfigurationError, match=r"brokers\.t: a broker of this name is there already"):
        new.live.add(streamer("t").encode())
    with pytest.raises(ConfigurationError, match=r"brokers\.t\.frontend has this address already"):
        new.live.add(streamer("b", "ipc://t").encode())


def test_daemon_whose_other_brokers_have_failed_waits_for_them(between: Between) -> None:
    new, end = between(streamer("a", more=WIRE) + titanic(10))
    fail(new, "a")
    assert not new.has_no_brokers_left
    end()
    wait_until(lambda: "t" in new.engine.brokers)
    assert new.engine.running


def test_daemon_whose_other_brokers_fail_while_one_of_them_begins_goes_on(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, end = between(streamer("a", more=WIRE) + titanic(10))
    add = new.engine.add

    def fail_meanwhile(**arguments: Any) -> Broker:
        fail(new, "a")
        assert not new.has_no_brokers_left
        return add(**arguments)

    monkeypatch.setattr(new.engine, "add", fail_meanwhile)
    end()
    wait_until(lambda: "t" in new.engine.brokers)
    assert new.engine.running


def test_daemon_whose_other_brokers_have_failed_ends_if_they_cannot_begin(between: Between) -> None:
    new, end = between(streamer("a", more=WIRE) + titanic(10))
    fail(new, "a")
    Path("t.db").unlink()
    Path("t.db").mkdir()
    end()
    wait_until(lambda: is_over(new))


def test_removal_of_another_leaves_their_listeners(between: Between, connect: Connect) -> None:
    new, end = between(streamer("a", more=WIRE) + titanic(10))
    new.live.remove("a")
    assert Path("t").is_socket()
    end()
    wait_until(lambda: new.engine.brokers.keys() == {"t"})
    client = connect(zmq.REQ, "ipc://t")
    client.send_multipart([b"MDPC01", b"mmi.service", b"titanic.request"])
    assert client.recv_multipart()


# -- what is told of the brokers ---------------------------------------------------------------------------------------


def test_drops_are_told_by_one_of_the_two_daemons(
    write: Write, start_daemon: StartDaemon, take_over: StartDaemon, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    broker = "[brokers.a]\ndevice = 'queue'\nfrontend = 'ipc://f'\nbackend = 'ipc://b'\ntransport = 'wire'\n"
    path = write(ENGINE + broker)
    old = start_daemon(path)
    worker = connect(zmq.DEALER, "ipc://b")
    for number in range(5):  # some of them just before the takeover
        worker.send_multipart([b"nobody", b"", b"%d" % number])
        wait_until(lambda: old.engine.brokers["a"].dropped == number + 1)  # noqa: B023 - it is called here
        if number == 1:
            old.brokers.drops.look_at(old.engine.brokers["a"])
    new = take_over(path)
    wait_until(lambda: not old.engine.running)
    old.end()
    old.close()
    new.end()
    new.close()
    told = [record.message for record in caplog.records if "dropped" in record.message]
    assert sum(int(message.split(": ")[1].split()[0]) for message in told) == 5, told
