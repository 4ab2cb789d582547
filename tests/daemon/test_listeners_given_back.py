"""A daemon listens for the brokers that are there: what was opened for others, or was left by them, is closed."""

from pathlib import Path

import pytest
import zmq

from pollbroker.control import request
from pollbroker.daemon import ConfigurationError
from pollbroker.daemon.listeners import Listeners
from tests.daemon.conftest import StartDaemon, Write
from tests.daemon.test_failing_to_begin import READERS, reader
from tests.daemon.test_running import streamer
from tests.support.addresses import bind, free_address, refused
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect

CONTROL = "[engine]\ncontrol = 'ipc://control'\n"
WIRE = "transport = 'wire'"


@pytest.fixture
def taken(connect: Connect) -> str:
    """An address at which somebody else listens."""
    return bind(connect(zmq.PULL))


def at_any_address(endpoint: str) -> str:
    """The same port, in another word: at all addresses of this machine."""
    return f"tcp://*:{endpoint.rpartition(':')[2]}"


# -- a change that is refused ------------------------------------------------------------------------------------------


def test_refused_reload_opens_nothing_for_a_broker_that_was_removed(
    write: Write, start_daemon: StartDaemon, taken: str
) -> None:
    free = free_address()
    daemon = start_daemon(write(streamer("a", free, more=WIRE) + streamer("b", more=WIRE)))
    daemon.live.remove("a")
    assert refused(free)
    write(streamer("a", free, more=WIRE) + streamer("b", more=WIRE) + streamer("c", taken))
    assert [problem.key for problem in daemon.reload().problems] == ["brokers.c.frontend"]
    assert refused(free)


def test_refused_reload_leaves_a_disabled_broker_disabled(write: Write, start_daemon: StartDaemon, taken: str) -> None:
    daemon = start_daemon(write(CONTROL + streamer("a", more=WIRE)))
    endpoint = daemon.engine.brokers["a"].frontend.endpoint
    request("ipc://control", "DISABLE", "a")
    write(CONTROL + streamer("a", more=f"{WIRE}\nmaxframes = 7") + streamer("c", taken))
    assert [problem.key for problem in daemon.reload().problems] == ["brokers.c.frontend"]
    assert refused(endpoint)
    request("ipc://control", "ENABLE", "a")
    assert daemon.engine.brokers["a"].frontend.endpoint == endpoint
    assert not refused(endpoint)


def test_refused_addition_opens_nothing_where_a_broker_was_removed(
    write: Write, start_daemon: StartDaemon, taken: str
) -> None:
    free = free_address()
    daemon = start_daemon(write(streamer("a", free, more=WIRE) + streamer("b", more=WIRE)))
    daemon.live.remove("a")
    with pytest.raises(ConfigurationError, match="Address already in use"):
        daemon.live.add(streamer("c", free, taken, more=WIRE).encode())
    assert refused(free)


# -- a broker that cannot begin ----------------------------------------------------------------------------------------


@pytest.fixture
def write_readers(write: Write) -> Write:
    """Writes files, as `write` does, beside the devices of `READERS`, and the file `there`."""
    write(READERS, "readers_of_files.py")
    write("", "there")
    return write


def test_new_broker_that_cannot_begin_leaves_no_listener(write_readers: Write, start_daemon: StartDaemon) -> None:
    free = free_address()
    daemon = start_daemon(write_readers(streamer("a")))
    write_readers(streamer("a") + reader("c", "gone", free))
    assert [problem.key for problem in daemon.reload().problems] == ["brokers.c"]
    wait_until(lambda: refused(free))  # libzmq closes its copy in its own thread
    write_readers(streamer("a") + reader("c", "there", at_any_address(free)))
    assert daemon.reload().problems == ()
    assert not refused(free)


def test_changed_broker_that_is_put_back_leaves_no_listener_where_it_was_to_be(
    write_readers: Write, start_daemon: StartDaemon
) -> None:
    before, after = free_address(), free_address()
    daemon = start_daemon(write_readers(reader("a", "there", before)))
    write_readers(reader("a", "gone", after))
    assert [problem.key for problem in daemon.reload().problems] == ["brokers.a"]
    wait_until(lambda: refused(after))
    assert not refused(before)


def test_broker_that_cannot_begin_late_leaves_no_listener(
    write_readers: Write, start_daemon: StartDaemon, take_over: StartDaemon
) -> None:
    """Behaviours begin when the daemon whose place was taken has ended."""
    engine, free = "[engine]\ntakeover = 'takeover'\n", free_address()
    text = engine + streamer("a", more=WIRE) + reader("b", "there", free)
    old = start_daemon(write_readers(text))
    Path("there").unlink()
    new = take_over(write_readers(text))
    wait_until(lambda: not old.engine.running)
    assert not refused(free)  # who connects meanwhile waits for the broker
    old.end()
    old.close()
    wait_until(lambda: refused(free))
    assert new.brokers.names == {"a"}


# -- TERMINATE ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["wire", "libzmq"])
def test_address_of_a_broker_that_a_command_has_ended_is_free(
    write: Write, start_daemon: StartDaemon, transport: str
) -> None:
    free, more = free_address(), f"transport = '{transport}'"
    daemon = start_daemon(write(CONTROL + streamer("a", free, more=more) + streamer("b")))
    assert request("ipc://control", "TERMINATE", "a", timeout_s=DEADLINE_S) == [b""]
    wait_until(lambda: refused(free))
    write(CONTROL + streamer("a", at_any_address(free), more=more) + streamer("b"))
    assert daemon.reload().problems == ()
    assert not refused(free)


def test_broker_can_be_ended_while_the_daemon_changes_others(write: Write, start_daemon: StartDaemon) -> None:
    free = free_address()
    daemon = start_daemon(write(CONTROL + streamer("a", free, more=WIRE) + streamer("b")))
    with daemon.changing:
        request("ipc://control", "TERMINATE", "a", timeout_s=DEADLINE_S)
        assert daemon.engine.brokers.keys() == {"b"}
    wait_until(lambda: refused(free))


def test_command_that_ends_a_broker_amid_a_reload_does_not_cut_it_in_half(
    write: Write, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start_daemon(write(streamer("a", more=WIRE) + streamer("b", more=WIRE)))
    open_for = Listeners.open_for

    def open_while_a_command_comes(*arguments: object, **more: object) -> None:
        if "a" in daemon.engine.brokers and daemon.engine.brokers["a"].device.maxframes != 7:
            daemon.engine.remove("a", timeout_s=0)
        open_for(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Listeners, "open_for", open_while_a_command_comes)
    write(streamer("a", more=f"{WIRE}\nmaxframes = 7") + streamer("b", more=f"{WIRE}\nmaxframes = 7"))
    done = daemon.reload()
    assert (done.changed, done.problems) == (("a", "b"), ())
    assert {name: one.device.maxframes for name, one in daemon.engine.brokers.items()} == {"a": 7, "b": 7}
