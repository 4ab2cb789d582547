"""A broker that cannot begin is a problem of its own, whatever its behaviour raises: the others begin."""

import socket
from pathlib import Path

import pytest
import zmq

from pollbroker.daemon import ConfigurationError, Daemon
from pollbroker.states import BrokerState
from tests.daemon.conftest import StartDaemon, Write
from tests.daemon.test_running import address, streamer
from tests.support.addresses import ANY_PORT, OWN_HOST, bind, free_address
from tests.support.deadline import wait_until
from tests.support.http import ask, get
from tests.support.types import Connect

READERS = """
from pathlib import Path

import zmq

from pollbroker import Behaviour, Device


class Reader(Behaviour):
    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_start(self) -> None:
        self.path.read_bytes()

    def on_message(self, port, frames) -> None:
        self.send("backend", frames)


READER = Device("reader", zmq.PULL, zmq.PUSH, behaviour=Reader)
"""


@pytest.fixture
def write_readers(write: Write) -> Write:
    """Writes files, as `write` does, beside a module with a device whose broker fails to begin if its file is missing,
    and beside such a file, `there`."""
    write(READERS, "readers_of_files.py")
    write("", "there")
    return write


def reader(name: str, path: str, frontend: str = ANY_PORT, maxframes: int = 10) -> str:
    """A broker of this device, and the file that it reads when it begins."""
    return (
        f"[brokers.{name}]\ndevice = 'readers_of_files:READER'\nfrontend = '{frontend}'\nbackend = '{ANY_PORT}'\n"
        f"maxframes = {maxframes}\nsettings = {{ path = '{path}' }}\n"
    )


def what_is_missing(path: str) -> str:
    return f"FileNotFoundError: [Errno 2] No such file or directory: '{path}'"


def test_reload_changes_the_others_and_puts_this_one_back(
    write_readers: Write, start_daemon: StartDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = start_daemon(write_readers(reader("a", "there") + reader("b", "there")))
    before = address(daemon, "a")
    write_readers(reader("a", "gone") + reader("b", "there", maxframes=20) + streamer("c"))
    done = daemon.reload()
    assert (done.added, done.changed) == (("c",), ("a", "b"))
    assert [(problem.key, problem.text) for problem in done.problems] == [("brokers.a", what_is_missing("gone"))]
    brokers = daemon.engine.brokers
    assert {name: one.state for name, one in brokers.items()} == dict.fromkeys("abc", BrokerState.RUNNING)
    assert (brokers["a"].device.maxframes, brokers["b"].device.maxframes) == (10, 20)
    assert address(daemon, "a") == before
    traces = [record for record in caplog.records if record.exc_info]
    assert [record.getMessage() for record in traces] == ["brokers.a: it cannot begin"]
    write_readers("", "gone")
    assert daemon.reload().problems == ()  # it was tried again


def test_broker_that_cannot_go_on_as_it_was_either_leaves_the_others(
    write_readers: Write, start_daemon: StartDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = start_daemon(write_readers(reader("a", "there") + reader("b", "there")))
    Path("there").rename("elsewhere")
    write_readers(reader("a", "gone") + reader("b", "elsewhere"))
    done = daemon.reload()
    assert [problem.key for problem in done.problems] == ["brokers.a"]
    assert list(daemon.engine.brokers) == ["b"]
    assert f"reload: brokers.a: it cannot go on as it was: {what_is_missing('there')}" in caplog.messages


def test_start_says_all_that_failed_and_leaves_nothing_open(write_readers: Write) -> None:
    free = free_address()
    daemon = Daemon(write_readers(reader("a", "gone") + streamer("b", free) + reader("c", "lost")))
    with pytest.raises(ConfigurationError) as caught:
        daemon.start()
    assert [(problem.key, problem.text) for problem in caught.value.problems] == [
        ("brokers.a", what_is_missing("gone")),
        ("brokers.c", what_is_missing("lost")),
    ]
    assert daemon.engine.closed
    with socket.create_server((OWN_HOST, int(free.rpartition(":")[2]))):
        pass


def test_adding_is_whole_or_not_at_all(write_readers: Write, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write_readers(streamer("a")))
    with pytest.raises(ConfigurationError) as caught:
        daemon.live.add((streamer("b") + reader("c", "gone")).encode())
    assert [(problem.key, problem.text) for problem in caught.value.problems] == [
        ("brokers.c", what_is_missing("gone"))
    ]
    assert list(daemon.engine.brokers) == ["a"]


def test_address_that_its_other_port_was_to_have_is_free(
    write: Write, start_daemon: StartDaemon, connect: Connect
) -> None:
    daemon = start_daemon(write(streamer("a")))
    taken, free = bind(connect(zmq.PULL)), free_address()
    several = f"['{free_address()}', '{taken}']"  # a port of several addresses binds them itself
    text = f"[brokers.b]\ndevice = 'streamer'\nfrontend = {several}\nbackend = '{free}'\ntransport = 'libzmq'\n"
    with pytest.raises(ConfigurationError, match="Address already in use"):
        daemon.live.add(text.encode())
    with socket.create_server((OWN_HOST, int(free.rpartition(":")[2]))):
        pass


def test_broker_that_begins_late_leaves_the_others(
    write_readers: Write, start_daemon: StartDaemon, take_over: StartDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    """Behaviours begin when the daemon whose place was taken has ended."""
    engine = "[engine]\ntakeover = 'takeover'\nhttp = '127.0.0.1:0'\n"
    old = start_daemon(write_readers(engine + streamer("a")))
    new = take_over(write_readers(engine + reader("b", "gone") + reader("c", "there") + streamer("a")))
    wait_until(lambda: not old.engine.running)
    old.end()
    old.close()
    told = f"takeover: brokers.toml:4: brokers.b: {what_is_missing('gone')}"
    wait_until(lambda: told in caplog.messages)
    assert new.engine.brokers.keys() == {"a", "c"}
    http = new.servers.http_address
    assert http is not None
    assert "\npollbroker_config_last_reload_successful 0.0\n" in get(http, "/metrics")
    why = "brokers.b: it could not begin when the daemon whose place was taken had ended\n"
    assert ask(http, "/readyz") == (503, why)
    write_readers(engine + reader("b", "still gone") + reader("c", "there") + streamer("a"))
    assert new.reload().problems
    assert ask(http, "/readyz") == (503, why)
    with pytest.raises(ConfigurationError, match=r"brokers\.d: .*'missing'"):  # what b needs is there
        new.live.add((reader("b", "there") + reader("d", "missing")).encode())
    assert ask(http, "/readyz") == (503, why)
    write_readers("", "gone")
    write_readers(engine + reader("b", "gone") + reader("c", "there") + streamer("a"))
    assert new.reload().problems == ()
    assert "\npollbroker_config_last_reload_successful 1.0\n" in get(http, "/metrics")
    assert ask(http, "/readyz") == (200, "ok\n")


def test_broker_that_begins_late_is_not_missed_once_the_file_has_it_no_more(
    write_readers: Write, start_daemon: StartDaemon, take_over: StartDaemon
) -> None:
    engine = "[engine]\ntakeover = 'takeover'\n"
    old = start_daemon(write_readers(engine + streamer("a")))
    new = take_over(write_readers(engine + reader("b", "gone") + streamer("a")))
    assert list(new.brokers.why_not_ready()) == ["brokers.b: it begins when the daemon whose place was taken has ended"]
    wait_until(lambda: not old.engine.running)
    old.end()
    old.close()
    why = ["brokers.b: it could not begin when the daemon whose place was taken had ended"]
    wait_until(lambda: list(new.brokers.why_not_ready()) == why)
    write_readers(engine + streamer("a"))
    new.reload()
    assert list(new.brokers.why_not_ready()) == []
