"""Brokers that are added to a daemon and removed from it while it runs."""

import socket
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest
import zmq

from pollbroker.control import CommandRefusedError, ask, attach, request
from pollbroker.daemon import ConfigurationError, Daemon
from pollbroker.errors import EngineError
from pollbroker.states import BrokerState
from tests.daemon.conftest import StartDaemon, Write
from tests.daemon.test_running import address, streamer
from tests.support.addresses import ANY_PORT, OWN_HOST, bind, free_address
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect

CONTROL = "[engine]\ncontrol = 'ipc://control'\n"


def added(daemon: Daemon, text: str) -> tuple[str, ...]:
    return daemon.live.add(text.encode())


def problems_of(daemon: Daemon, text: str | bytes) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        daemon.live.add(text if isinstance(text, bytes) else text.encode())
    return [str(problem) for problem in caught.value.problems]


# -- adding ------------------------------------------------------------------------------------------------------------


def test_broker_that_is_added_carries_messages_and_has_the_defaults(
    write: Write, start_daemon: StartDaemon, connect: Connect
) -> None:
    daemon = start_daemon(write("[defaults]\ntransport = 'wire'\n" + streamer("a")))
    assert added(daemon, streamer("b")) == ("b",)
    assert daemon.engine.statistics().brokers["b"].ports["frontend"].transport == "wire"
    connect(zmq.PUSH, address(daemon, "b")).send(b"x")
    assert connect(zmq.PULL, address(daemon, "b", "backend")).recv() == b"x"


def test_everything_that_is_wrong_is_said_with_line_and_key(write: Write, start_daemon: StartDaemon) -> None:
    taken = free_address()
    daemon = start_daemon(write(streamer("a", taken)))
    text = (
        "[brokers.b]\ndevice = 'streamer'\nfrontned = 'tcp://127.0.0.1:*'\nbackend = 'tcp://127.0.0.1:70000'\n"
        "[brokers.c]\ndevice = 'steamer'\n[engine]\ncontrol = 'ipc://x'\n"
    )
    found = problems_of(daemon, text)
    assert [line.split(": ")[:2] for line in found] == [
        ["standard input:3", "brokers.b.frontned"],
        ["standard input:4", "brokers.b.backend"],
        ["standard input:6", "brokers.c.device"],
        ["standard input:7", "engine"],
    ]
    assert "did you mean 'frontend'?" in found[0]
    (shared,) = problems_of(daemon, streamer("b", taken))
    assert shared == (
        f"standard input:3: brokers.b.frontend: {taken}: brokers.a.frontend has this address already, at "
        "brokers.toml:3; expected another"
    )
    assert list(daemon.engine.brokers) == ["a"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "standard input: there is no broker; expected [brokers.NAME]"),
        ("brokers = 3", "standard input:1: brokers: expected a table of brokers by name"),
        ("include = ['/etc/*']", "standard input:1: include: only brokers can be added; expected [brokers.NAME]"),
        (
            streamer("b", "tcp://127.0.0.1:${HOME}"),
            "standard input:3: brokers.b.frontend: ${HOME}: nothing is taken from the environment here",
        ),
        (streamer("a"), "standard input:1: brokers.a: a broker of this name is there already; expected another name"),
        ("[", "standard input:1: not valid TOML"),
        (b"\xff", "standard input:1: byte 0xff: expected text in UTF-8"),
    ],
)
def test_what_cannot_be_added_is_refused(
    write: Write, start_daemon: StartDaemon, text: str | bytes, problem: str
) -> None:
    daemon = start_daemon(write(streamer("a")))
    assert problems_of(daemon, text)[0].startswith(problem)
    assert list(daemon.engine.brokers) == ["a"]


def test_adding_is_whole_or_not_at_all(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    daemon = start_daemon(write(streamer("a")))
    free, foreign = free_address(), bind(connect(zmq.PULL))
    (problem,) = problems_of(daemon, streamer("b", free) + streamer("c", foreign))
    assert problem.endswith("cannot bind: Address already in use")
    (problem,) = problems_of(
        daemon,
        streamer("b", free)
        + "[brokers.d]\ndevice = 'titanic'\nfrontend = 'tcp://127.0.0.1:*'\nsettings = { path = 'none/b.db' }",
    )
    assert "brokers.d" in problem
    assert list(daemon.engine.brokers) == ["a"]
    wait_until(lambda: can_be_bound(free))  # libzmq closes its copy in its own thread
    assert added(daemon, streamer("b", free)) == ("b",)


def test_broker_that_began_with_one_that_was_refused_is_not_told_of_at_the_end(
    write: Write, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(write(streamer("a")))
    titanic = "[brokers.c]\ndevice = 'titanic'\nfrontend = 'ipc://c'\nsettings = { path = 'none/c.db' }\n"
    assert "brokers.c" in problems_of(daemon, streamer("b") + titanic)[0]
    assert set(daemon.end()) == {"a"}


def can_be_bound(free: str) -> bool:
    try:
        with socket.create_server((OWN_HOST, int(free.rpartition(":")[2]))):
            return True
    except OSError:
        return False


# -- reloads -----------------------------------------------------------------------------------------------------------


def test_reload_leaves_alone_what_was_added(write: Write, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write(streamer("a")))
    added(daemon, streamer("b"))
    before = daemon.engine.brokers["b"]
    write(streamer("a") + streamer("c"))
    assert str(daemon.reload()) == "1 added, 0 changed, 0 removed, 2 unchanged"
    assert daemon.engine.brokers["b"] == before
    assert before.state is BrokerState.RUNNING
    assert str(daemon.reload()) == "0 added, 0 changed, 0 removed, 3 unchanged"


def test_broker_that_was_added_is_the_files_once_it_has_the_name(write: Write, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write(streamer("a")))
    added(daemon, streamer("b"))
    before = daemon.engine.brokers["b"]
    write(streamer("a") + streamer("b"))
    assert str(daemon.reload()) == "0 added, 0 changed, 0 removed, 2 unchanged"
    assert daemon.engine.brokers["b"] == before
    write(streamer("a") + streamer("b", "ipc://other"))
    assert str(daemon.reload()) == "0 added, 1 changed, 0 removed, 1 unchanged"
    write(streamer("a"))
    assert str(daemon.reload()) == "0 added, 0 changed, 1 removed, 1 unchanged"
    assert list(daemon.engine.brokers) == ["a"]


def test_file_that_wants_an_address_of_what_was_added_changes_nothing(write: Write, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write(streamer("a")))
    taken = free_address()
    added(daemon, streamer("b", taken))
    write(streamer("a") + streamer("c", taken))
    (problem,) = daemon.reload().problems
    assert "has this address already" in problem.text
    assert list(daemon.engine.brokers) == ["a", "b"]
    daemon.live.remove("b")
    assert str(daemon.reload()) == "1 added, 0 changed, 0 removed, 1 unchanged"


def test_broker_that_was_added_and_ended_stays_away(write: Write, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write(CONTROL + streamer("a")))
    added(daemon, streamer("b"))
    request("ipc://control", "TERMINATE", "b")
    assert str(daemon.reload()) == "0 added, 0 changed, 0 removed, 1 unchanged"
    assert list(daemon.engine.brokers) == ["a"]


# -- removing ----------------------------------------------------------------------------------------------------------


def test_address_of_a_broker_that_was_removed_is_free(write: Write, start_daemon: StartDaemon) -> None:
    free = free_address()
    daemon = start_daemon(write(CONTROL + streamer("a") + streamer("b", free)))
    assert request("ipc://control", "REMOVE", "b", timeout_s=DEADLINE_S) == [b"OK", b""]
    assert list(daemon.engine.brokers) == ["a"]
    wait_until(lambda: can_be_bound(free))
    assert str(daemon.reload()) == "1 added, 0 changed, 0 removed, 1 unchanged"


def test_broker_that_is_removed_delivers_what_it_has(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    daemon = start_daemon(write(CONTROL + streamer("a")))
    push, pull = connect(zmq.PUSH, address(daemon, "a")), connect(zmq.PULL, address(daemon, "a", "backend"))
    for i in range(100):
        push.send(b"%d" % i)
    assert pull.recv() == b"0"
    assert request("ipc://control", "REMOVE", "a", timeout_s=DEADLINE_S) == [b"OK", b""]
    assert [pull.recv() for _ in range(99)] == [b"%d" % i for i in range(1, 100)]


# -- by control --------------------------------------------------------------------------------------------------------


def test_adding_by_control(write: Write, start_daemon: StartDaemon) -> None:
    start_daemon(write(CONTROL + streamer("a")))
    with zmq.Context[zmq.Socket[bytes]]() as context:

        def add(*frames: bytes) -> list[bytes]:
            return ask("ipc://control", [b"ADD", *frames], timeout_s=DEADLINE_S, context=context)

        assert add((streamer("b") + streamer("c")).encode()) == [b"OK", b"b", b"c"]
        assert request("ipc://control", "LIST") == [b"OK", b"a", b"b", b"c"]
        with pytest.raises(CommandRefusedError) as caught:
            add(b"[brokers.d]\n[brokers.e]\n")
        assert [line.partition(": ")[0] for line in caught.value.lines] == [
            "standard input:1",
            "standard input:2",
        ]
        with pytest.raises(CommandRefusedError, match=r"ADD: 1 frames; expected the command and brokers in TOML"):
            add()


def test_reload_by_control_answers_when_all_is_done(write: Write, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write(CONTROL + streamer("a")))
    write(CONTROL + streamer("a") + streamer("b"))
    assert request("ipc://control", "RELOAD") == [b"OK", b"1 added, 0 changed, 0 removed, 1 unchanged"]
    assert list(daemon.engine.brokers) == ["a", "b"]
    write(CONTROL + "[brokers.d]\n[brokers.e]\n")
    with pytest.raises(CommandRefusedError) as caught:
        request("ipc://control", "RELOAD")
    assert [line.partition(": ")[0] for line in caught.value.lines] == ["brokers.toml:3", "brokers.toml:4"]
    with pytest.raises(CommandRefusedError, match=r"RELOAD: 2 frames; expected the command alone"):
        request("ipc://control", "RELOAD", "a")


def test_engine_of_a_library_has_no_add(start_daemon: StartDaemon, write: Write) -> None:
    daemon = start_daemon(write(streamer("a")))
    (endpoint,) = attach(daemon.engine, ANY_PORT).endpoints
    with pytest.raises(CommandRefusedError, match=r"'ADD' is not a command"):
        request(endpoint, "ADD", "x")


def test_traffic_goes_on_while_brokers_are_added(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    daemon = start_daemon(write(streamer("a")))
    push, pull = connect(zmq.PUSH, address(daemon, "a")), connect(zmq.PULL, address(daemon, "a", "backend"))
    adding = threading.Thread(target=lambda: [added(daemon, streamer(f"n{i}")) for i in range(5)])
    adding.start()
    for i in range(500):
        push.send(b"%d" % i)
        assert pull.recv() == b"%d" % i
    adding.join(DEADLINE_S)
    assert len(daemon.engine.brokers) == 6


class EndsMeanwhile:
    """A lock: while a thread waits for it, the daemon is told to end."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def __enter__(self) -> None:
        self._daemon.stop()

    def __exit__(self, *_: object) -> None: ...

    def locked(self) -> bool:
        return False


def test_reload_by_control_that_comes_too_late_is_refused(
    write: Write, start_daemon: StartDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = start_daemon(write(streamer("a")))
    monkeypatch.setattr(daemon, "changing", EndsMeanwhile(daemon))
    answer = daemon.live.commands[b"RELOAD"]([])
    assert isinstance(answer, Future)
    wait_until(lambda: not daemon.engine.running)
    wait_until(answer.done, engine=daemon.engine)  # the end makes turns
    with pytest.raises(EngineError, match="the daemon is ending"):
        answer.result()


def test_daemon_that_has_ended_adds_nothing(write: Write, start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon(write(streamer("a")))
    daemon.end()
    with pytest.raises(Exception, match="the daemon is ending"):
        added(daemon, streamer("b"))
    with pytest.raises(Exception, match="the daemon is ending"):
        daemon.live.remove("a")
