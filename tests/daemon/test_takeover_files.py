"""The files of `ipc://` addresses while one daemon takes the place of another: whoever listens at the end has them."""

import os
import random
import signal
import socket as net
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from pollbroker.daemon import ConfigurationError, Daemon, takeover
from pollbroker.daemon.takeover import Predecessor
from tests.daemon.conftest import StartDaemon, Write
from tests.support.addresses import ANY_PORT
from tests.support.commands import Run
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect

WIRE = "transport = 'wire'"
LIBZMQ = "transport = 'libzmq'"
ENGINE = "[engine]\ntakeover = 'takeover'\n"
both = pytest.mark.parametrize("kind", [WIRE, LIBZMQ], ids=["wire", "libzmq"])


def streamer(frontend: str, more: str, name: str = "a") -> str:
    return f"[brokers.{name}]\ndevice = 'streamer'\nfrontend = '{frontend}'\nbackend = 'ipc://backend'\n{more}\n"


class Late:
    """Lets daemons that take over say late that they serve."""

    def __init__(self) -> None:
        self.may_announce = threading.Event()

    def start(self, path: Path) -> Daemon:
        """A daemon that has taken over, and has not said so."""
        daemon = Daemon(path)
        try:
            daemon.start(daemon.connect_to_predecessor())
            daemon.engine.start()
        except BaseException:
            daemon.close()
            raise
        return daemon


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Iterator[Late]:
    made, announce = Late(), Predecessor.announce_serving

    def announce_late(predecessor: Predecessor) -> None:
        made.may_announce.wait(DEADLINE_S)
        announce(predecessor)

    monkeypatch.setattr(Predecessor, "announce_serving", announce_late)
    yield made
    made.may_announce.set()


def check_served(connect: Connect, frontend: str = "ipc://frontend") -> None:
    with connect(zmq.PUSH, frontend) as pusher, connect(zmq.PULL, "ipc://backend") as puller:
        pusher.send(b"through")
        assert puller.recv() == b"through"


@both
@pytest.mark.parametrize("wrong", ["wrong = 1\n", streamer("ipc:///nowhere/at/all", "", "b")], ids=["file", "address"])
def test_daemon_that_cannot_start_leaves_the_files_of_the_old_one(
    write: Write, start_daemon: StartDaemon, take_over: StartDaemon, connect: Connect, kind: str, wrong: str
) -> None:
    start_daemon(write(ENGINE + streamer("ipc://frontend", kind)))
    text = ENGINE + streamer("ipc://frontend", kind) + wrong.replace("ipc://backend", ANY_PORT)
    with pytest.raises(ConfigurationError):
        take_over(write(text))
    check_served(connect)


@both
def test_daemon_that_is_refused_leaves_the_files_of_the_old_one(
    write: Write,
    start_daemon: StartDaemon,
    late: Late,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    connect: Connect,
    kind: str,
) -> None:
    """It has opened a socket of its own, too, whose file goes with it. A broker of the wire is not part of it: its
    connections have moved, so that it cannot be refused any more."""
    path = write(ENGINE + streamer("ipc://frontend", LIBZMQ))
    start_daemon(path)
    monkeypatch.setattr(takeover, "SERVING_S", 0.1)
    write(ENGINE + streamer("ipc://frontend", LIBZMQ) + f"[brokers.b]\ndevice = 'streamer'\n{kind}\n"
          "frontend = 'ipc://new'\nbackend = 'tcp://127.0.0.1:*'\n")  # fmt: skip
    new = late.start(path)
    try:
        assert Path("new").is_socket()
        wait_until(lambda: "nothing is handed over" in caplog.text)
        late.may_announce.set()
        wait_until(lambda: not new.engine.running)
        new.end()
    finally:
        new.close()
    assert not Path("new").exists()
    check_served(connect)


def test_old_daemon_that_ends_amid_a_takeover_leaves_the_files_of_its_successor(
    write: Write, start_daemon: StartDaemon, late: Late, connect: Connect
) -> None:
    path = write(ENGINE + streamer("ipc://frontend", WIRE))
    old = start_daemon(path)
    new = late.start(path)
    try:
        wait_until(lambda: not old.engine.brokers)  # they have moved, and it waits for the word that they are served
        old.stop()
        assert old.end() == {}
        old.close()
        check_served(connect)
        late.may_announce.set()
    finally:
        new.close()
    assert not Path("frontend").exists()


def test_daemon_that_is_closed_before_its_takeover_is_complete_removes_the_files(
    write: Write, start_daemon: StartDaemon, late: Late
) -> None:
    """The old one had not been told yet that the new one serves, so that the files were the old one's until then."""
    path = write(ENGINE + streamer("ipc://frontend", WIRE))
    old = start_daemon(path)
    new = late.start(path)
    closing = threading.Thread(target=new.close)
    closing.start()
    wait_until(lambda: new.engine.closed)
    late.may_announce.set()
    closing.join()
    wait_until(lambda: not old.engine.running)
    old.end()
    old.close()
    assert not Path("frontend").exists()


def test_daemon_that_ends_amid_a_takeover_in_which_nothing_has_moved_takes_its_successor_with_it(
    write: Write, start_daemon: StartDaemon, late: Late
) -> None:
    """It was told to end, and had not been told yet that the other one serves."""
    path = write(ENGINE + streamer("ipc://frontend", LIBZMQ))
    old = start_daemon(path)
    new = late.start(path)
    try:
        old.stop()
        assert old.end().keys() == {"a"}
        old.close()
        assert old.successor is None
        late.may_announce.set()
        wait_until(lambda: not new.engine.running)
        new.end()
    finally:
        new.close()
    assert not Path("frontend").exists()


def test_file_of_an_address_that_the_new_daemon_does_not_want_is_removed(
    write: Write, start_daemon: StartDaemon, take_over: StartDaemon
) -> None:
    path = write(ENGINE + streamer("ipc://frontend", WIRE))
    old = start_daemon(path)
    new = take_over(write(ENGINE + streamer(ANY_PORT, WIRE, "b").replace("ipc://backend", ANY_PORT)))
    wait_until(lambda: not old.engine.running)
    old.end()
    old.close()
    assert old.successor is not None
    wait_until(lambda: not Path("frontend").exists() and not Path("backend").exists())
    assert new.engine.brokers.keys() == {"b"}


@pytest.mark.slow
@both
@pytest.mark.parametrize("times", [int(os.environ.get("POLLBROKER_TAKEOVERS", "1"))])
def test_signal_amid_a_takeover_leaves_a_daemon_that_is_reached_or_none(
    run: Run, write: Write, connect: Connect, kind: str, times: int
) -> None:
    """The old process is ended at a random moment while the new one takes over."""
    path = write(ENGINE + streamer("ipc://frontend", kind))
    chance = random.Random(times)
    pause = threading.Event()
    puller = connect(zmq.PULL, "ipc://backend")
    for _ in range(times):
        old = run("run", str(path))
        old.read_until("ready")
        new = run("run", "--takeover", str(path))
        pause.wait(chance.uniform(0, 1))
        old.process.terminate()
        assert old.end()[0] in (0, -signal.SIGTERM)  # it may have ended in order already, and not left yet
        wait_until(lambda: new.process.poll() is not None or Path("takeover").exists())  # noqa: B023 - it is called here
        if new.process.poll() is None:
            new.read_until("ready")
            connect(zmq.PUSH, "ipc://frontend").send(b"through")
            assert puller.recv() == b"through"
            new.process.terminate()
        code, _, stderr = new.end()
        assert code == (1 if stderr else 0)
        assert not Path("frontend").exists()
        assert not Path("takeover").exists()


def test_file_of_a_broker_that_moves_stays_if_the_daemon_is_to_have_no_listener_for_it(
    write: Write, start_daemon: StartDaemon, take_over: StartDaemon, connect: Connect
) -> None:
    """A port with `sndbuf` binds its address itself. One that has moved listens where the old one did."""
    path = write(ENGINE + streamer("ipc://frontend", WIRE))
    daemon = start_daemon(path)
    write(ENGINE + streamer("ipc://frontend", f"{WIRE}\noptions = {{ sndbuf = 65536 }}"))
    for _ in range(2):
        new = take_over(path)
        wait_until(lambda: not daemon.engine.running)  # noqa: B023 - it is called here
        daemon.end()
        daemon.close()
        wait_until(lambda: Path("takeover").exists())
        check_served(connect)
        daemon = new
    write(ENGINE + streamer(">ipc://frontend", WIRE, "connects").replace("ipc://backend", ANY_PORT))
    assert daemon.reload().removed == ("a",)
    assert not Path("frontend").exists()
    assert not Path("backend").exists()


def test_file_of_a_broker_that_has_moved_is_removed_at_the_end(
    write: Write, start_daemon: StartDaemon, take_over: StartDaemon, connect: Connect
) -> None:
    path = write(ENGINE + streamer("ipc://frontend", WIRE))
    old = start_daemon(path)
    new = take_over(write(ENGINE + streamer("ipc://frontend", f"{WIRE}\noptions = {{ sndbuf = 65536 }}")))
    wait_until(lambda: not old.engine.running)
    old.end()
    old.close()
    wait_until(lambda: Path("takeover").exists())
    check_served(connect)
    new.end()
    new.close()
    assert not Path("frontend").exists()
    assert not Path("backend").exists()


def test_daemon_for_whose_requests_no_thread_can_be_started_takes_nothing_over(
    write: Write, start_daemon: StartDaemon, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(ENGINE + streamer("ipc://frontend", WIRE))
    start_daemon(path)
    start = threading.Thread.start

    def fail(self: threading.Thread) -> None:
        if self.name == "pollbroker-requests":
            raise RuntimeError("can't start new thread")
        start(self)

    new = Daemon(path)
    with new.connect_to_predecessor() or net.socket() as connected, monkeypatch.context() as failing:
        failing.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            new.start(connected)
    new.close()
    check_served(connect)
