"""A daemon starts whole or not at all, changes what differs, and ends in order."""

import os
import socket
import threading
from http.client import HTTPConnection
from pathlib import Path

import pytest
import zmq

from pollbroker import Limits
from pollbroker.daemon import ConfigurationError, Daemon, read_checked
from pollbroker.daemon.listeners import Listeners
from pollbroker.states import BrokerState
from tests.daemon.conftest import Problems, StartDaemon, Write
from tests.support.addresses import ANY_PORT, OWN_HOST, bind, free_address
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import started_since
from tests.support.transports import holds_without_a_consumer
from tests.support.types import Connect, Socket


def streamer(name: str, frontend: str = ANY_PORT, backend: str = ANY_PORT, more: str = "") -> str:
    return f"[brokers.{name}]\ndevice = 'streamer'\nfrontend = '{frontend}'\nbackend = '{backend}'\n{more}\n"


def address(daemon: Daemon, broker: str, port: str = "frontend") -> str:
    return daemon.engine.brokers[broker].ports[port].endpoint


# -- start -------------------------------------------------------------------------------------------------------------


def test_brokers_of_a_file_carry_messages(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    daemon = start_daemon(write(streamer("a") + streamer("b", backend="ipc://b", more="transport = 'wire'")))
    for name in ("a", "b"):
        connect(zmq.PUSH, address(daemon, name)).send(name.encode())
        assert connect(zmq.PULL, address(daemon, name, "backend")).recv() == name.encode()


def test_start_that_fails_says_all_that_failed_and_leaves_nothing_open(write: Write, connect: Connect) -> None:
    taken = [bind(connect(zmq.PULL)) for _ in range(2)]
    free = free_address()
    path = write(streamer("a", taken[0]) + streamer("b", free) + streamer("c", ANY_PORT, taken[1]))
    before = threading.enumerate()
    daemon = Daemon(path)
    with pytest.raises(ConfigurationError) as caught:
        daemon.start()
    assert [str(problem) for problem in caught.value.problems] == [
        f"brokers.toml:3: brokers.a.frontend: @{taken[0]}: cannot bind: Address already in use",
        f"brokers.toml:14: brokers.c.backend: @{taken[1]}: cannot bind: Address already in use",
    ]
    assert daemon.engine.closed
    assert not started_since(before)
    with socket.create_server((OWN_HOST, int(free.rpartition(":")[2]))):
        pass  # it is free again


def test_broker_that_fails_to_begin_ends_the_start_of_all(write: Write) -> None:
    free = free_address()
    titanic = "[brokers.b]\ndevice = 'titanic'\nfrontend = 'tcp://127.0.0.1:*'\nsettings = { path = 'none/b.db' }"
    daemon = Daemon(write(streamer("a", free) + titanic))
    with pytest.raises(ConfigurationError, match=r"brokers\.b: .*expected a file in a directory that is there"):
        daemon.start()
    assert daemon.engine.closed
    with socket.create_server((OWN_HOST, int(free.rpartition(":")[2]))):
        pass


def test_listener_that_is_lent_never_waits(write: Write) -> None:
    """Two brokers may accept from it for a moment. Waiting, libzmq's thread would stand still for the late one."""
    broker = read_checked(write(streamer("a"))).brokers["a"]
    listeners = Listeners()
    listeners.open_for(broker)
    for descriptor in listeners.lend(broker).values():
        assert not os.get_blocking(descriptor)
    listeners.keep_only(())
    assert len(listeners) == 0


# -- reload ------------------------------------------------------------------------------------------------------------


def test_address_that_was_released_a_moment_ago_is_waited_for(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """libzmq has a copy of the listener for some time."""
    broker = read_checked(write(streamer("a", free_address(), more="transport = 'libzmq'"))).brokers["a"]
    listeners = Listeners()
    listeners.open_for(broker)
    copy = os.dup(listeners.lend(broker)["frontend"])
    listeners.keep_only(())
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            os.close(copy)

    monkeypatch.setattr("pollbroker.daemon.listeners.time.sleep", wait)
    listeners.open_for(broker)
    listeners.keep_only(())
    assert len(waited) == 3


def test_reload_touches_only_what_differs(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    path = write(streamer("same") + streamer("changed") + streamer("gone"))
    daemon = start_daemon(path)
    before = daemon.engine.brokers
    connect(zmq.PUSH, address(daemon, "same")).send(b"counted")
    assert connect(zmq.PULL, address(daemon, "same", "backend")).recv() == b"counted"
    write("# a comment\n" + streamer("new") + streamer("changed", more="maxframes = 7") + streamer("same"))
    done = daemon.reload()
    assert (done.added, done.changed, done.removed, done.unchanged) == (("new",), ("changed",), ("gone",), ("same",))
    after = daemon.engine.brokers
    assert set(after) == {"same", "changed", "new"}
    assert after["same"] == before["same"]
    assert after["same"].statistics().flows["frontend"].sent == 1
    assert after["changed"] != before["changed"]
    assert after["changed"].device.maxframes == 7
    assert before["gone"].state is BrokerState.REMOVED


def test_wrong_file_changes_nothing(write: Write, start_daemon: StartDaemon, caplog: pytest.LogCaptureFixture) -> None:
    daemon = start_daemon(write(streamer("a")))
    before = daemon.engine.brokers
    write(streamer("b") + "[brokers.c]\ndevice = 'streamr'")
    done = daemon.reload()
    assert [problem.key for problem in done.problems] == ["brokers.c.device"]
    assert daemon.engine.brokers == before
    assert "brokers.toml:7: brokers.c.device: 'streamr' is not a device" in caplog.text
    assert "nothing was changed" in caplog.text


def test_address_in_use_changes_nothing(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    taken = bind(connect(zmq.PULL))
    free = free_address()
    daemon = start_daemon(write(streamer("a") + streamer("gone")))
    before = daemon.engine.brokers
    write(streamer("a", more="maxframes = 7") + streamer("b", taken) + streamer("c", free))
    (problem,) = daemon.reload().problems
    assert problem.key == "brokers.b.frontend"
    assert daemon.engine.brokers == before
    with socket.create_server((OWN_HOST, int(free.rpartition(":")[2]))):
        pass  # it was given back


def test_wildcard_address_of_a_changed_broker_stays(write: Write, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write(streamer("a")))
    before = address(daemon, "a")
    write(streamer("a", more="maxframes = 7"))
    daemon.reload()
    assert address(daemon, "a") == before


@pytest.mark.parametrize("serves", ["libzmq", "wire"])
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_no_connection_is_refused_while_a_broker_is_replaced(
    write: Write, start_daemon: StartDaemon, transport: str, serves: str, tmp_path: Path
) -> None:
    frontend = ANY_PORT if transport == "tcp" else f"ipc://{tmp_path}/frontend"
    daemon = start_daemon(write(streamer("a", frontend, more=f"transport = '{serves}'")))
    family = socket.AF_INET if transport == "tcp" else socket.AF_UNIX
    host, _, port = address(daemon, "a").removeprefix("tcp://").rpartition(":")
    target = (host, int(port)) if transport == "tcp" else f"{tmp_path}/frontend"
    over = threading.Event()
    refused: list[OSError] = []
    made = 0

    def connect_again_and_again() -> None:
        nonlocal made
        while not over.is_set():
            try:
                with socket.socket(family) as one:
                    one.connect(target)
                made += 1
            except OSError as error:
                refused.append(error)

    thread = threading.Thread(target=connect_again_and_again)
    thread.start()
    try:
        for number in range(5):
            before = made
            write(streamer("a", frontend, more=f"maxframes = {number + 1}\ntransport = '{serves}'"))
            assert daemon.reload().changed == ("a",)
            wait_until(lambda: made > before)  # noqa: B023 - it is called here
    finally:
        over.set()
        thread.join()
    assert refused == []
    assert made


def test_client_of_a_replaced_broker_goes_on(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    daemon = start_daemon(write(streamer("a")))
    pusher = connect(zmq.PUSH, address(daemon, "a"), immediate=1)
    puller = connect(zmq.PULL, address(daemon, "a", "backend"))
    pusher.send(b"before")
    assert puller.recv() == b"before"
    write(streamer("a", more="maxframes = 7"))
    daemon.reload()

    def arrives() -> bool:
        pusher.send(b"after")
        return bool(puller.poll(50))

    wait_until(arrives)
    assert puller.recv() == b"after"


def test_address_moves_from_one_broker_to_another(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    frontend = free_address()
    daemon = start_daemon(write(streamer("a", frontend)))
    write(streamer("b", frontend))
    assert daemon.reload().problems == ()
    connect(zmq.PUSH, frontend).send(b"moved")
    assert connect(zmq.PULL, address(daemon, "b", "backend")).recv() == b"moved"


def test_address_becomes_every_address(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    frontend = free_address()
    daemon = start_daemon(write(streamer("a", frontend)))
    write(streamer("a", frontend.replace(OWN_HOST, "0.0.0.0")))
    assert daemon.reload().problems == ()
    connect(zmq.PUSH, frontend).send(b"wider")
    assert connect(zmq.PULL, address(daemon, "a", "backend")).recv() == b"wider"


def test_transport_of_a_broker_may_change(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    frontend = free_address()
    daemon = start_daemon(write(streamer("a", frontend)))
    puller = connect(zmq.PULL, address(daemon, "a", "backend"))
    for transport in ("wire", "libzmq", "wire"):
        write(streamer("a", frontend, more=f"transport = '{transport}'"))
        done = daemon.reload()
        assert (done.changed, done.problems) == (("a",), ())
        assert daemon.engine.broker_statistics("a").ports["frontend"].transport == transport
        pusher, expected = connect(zmq.PUSH, frontend), transport.encode()

        def arrives(pusher: Socket = pusher, expected: bytes = expected) -> bool:
            pusher.send(expected)  # the socket of libzmq that is closed may still accept the connection, and lose it
            return bool(puller.poll(100)) and puller.recv() == expected

        wait_until(arrives)


def test_address_of_a_removed_broker_is_given_back(write: Write, start_daemon: StartDaemon) -> None:
    frontend = free_address()
    daemon = start_daemon(write(streamer("a", frontend)))
    write("")
    assert daemon.reload().removed == ("a",)

    def is_free() -> bool:
        try:
            with socket.create_server((OWN_HOST, int(frontend.rpartition(":")[2]))):
                return True
        except OSError:
            return False

    wait_until(is_free)


def test_broker_that_ended_is_started_again_by_a_reload(write: Write, start_daemon: StartDaemon) -> None:
    daemon = start_daemon(write(streamer("a") + streamer("b")))
    daemon.engine.remove("a")
    assert daemon.reload().added == ("a",)
    assert set(daemon.engine.brokers) == {"a", "b"}


def test_broker_that_cannot_begin_as_it_should_goes_on_as_it_was(write: Write, start_daemon: StartDaemon) -> None:
    text = "[brokers.a]\ndevice = 'titanic'\nfrontend = 'tcp://127.0.0.1:*'\nsettings = { path = '%s' }"
    daemon = start_daemon(write(text % "a.db"))
    before = address(daemon, "a")
    write(text % "none/a.db")
    for _ in range(2):  # each reload tries again
        done = daemon.reload()
        assert done.changed == ("a",)
        assert [problem.key for problem in done.problems] == ["brokers.a"]
        assert daemon.engine.brokers["a"].state is BrokerState.RUNNING
        assert daemon.configuration.brokers["a"].settings == {"path": "a.db"}
        assert address(daemon, "a") == before


@holds_without_a_consumer
def test_removed_broker_delivers_what_it_holds(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    daemon = start_daemon(write("[engine]\ndrain_timeout_s = 60\n" + streamer("a")))
    backend = address(daemon, "a", "backend")
    connect(zmq.PUSH, address(daemon, "a")).send(b"held")
    wait_until(lambda: daemon.engine.broker_statistics("a").flows["frontend"].held)
    write("[engine]\ndrain_timeout_s = 60\n")
    daemon.request_reload()
    assert connect(zmq.PULL, backend).recv() == b"held"
    wait_until(lambda: not daemon.engine.brokers)


@holds_without_a_consumer
def test_reload_says_what_was_lost(
    write: Write, start_daemon: StartDaemon, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = start_daemon(write(streamer("a")))
    connect(zmq.PUSH, address(daemon, "a")).send(b"for nobody")
    wait_until(lambda: daemon.engine.broker_statistics("a").flows["frontend"].held)
    write("[engine]\ndrain_timeout_s = 0.1")
    done = daemon.reload()
    assert done.ended is not None
    assert done.ended["a"].left == 1
    assert "brokers.a: 1 message lost: no consumer connected within the 0.1 s that draining may take" in caplog.text


@pytest.mark.parametrize("transport", ["libzmq", "wire"])
def test_counters_go_on_across_reloads(
    write: Write, start_daemon: StartDaemon, connect: Connect, transport: str
) -> None:
    daemon = start_daemon(write(streamer("a", more=f"transport = '{transport}'")))
    puller = connect(zmq.PULL, address(daemon, "a", "backend"))
    for number in range(1, 4):
        connect(zmq.PUSH, address(daemon, "a")).send(b"counted")
        assert puller.recv() == b"counted"
        wait_until(lambda: daemon.engine.broker_statistics("a").flows["frontend"].sent == number)  # noqa: B023
        write(streamer("a", more=f"transport = '{transport}'\noptions = {{ sndhwm = {number} }}"))
        assert daemon.reload().changed == ("a",)
        statistics = daemon.engine.broker_statistics("a")
        assert (statistics.flows["frontend"].received, statistics.ports["backend"].sent_bytes) == (number, 7 * number)


def test_setting_of_the_engine_that_cannot_change_is_said(
    write: Write, start_daemon: StartDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    said = "reload: engine.burst_messages: the new value takes effect at the next start"
    daemon = start_daemon(write("[engine]\nburst_messages = 5"))
    write("[engine]\nburst_messages = 6")
    for times in (1, 2):  # it is told as long as it is so
        daemon.reload()
        assert caplog.messages.count(said) == times
    write("[engine]\nburst_messages = 5")
    daemon.reload()
    assert caplog.messages.count(said) == 2


# -- end ---------------------------------------------------------------------------------------------------------------


@holds_without_a_consumer
def test_end_tells_broker_by_broker_what_was_left(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    daemon = start_daemon(write("[engine]\ndrain_timeout_s = 0.1\n" + streamer("a") + streamer("b")))
    pusher: Socket = connect(zmq.PUSH, address(daemon, "a"))
    for _ in range(3):
        pusher.send(b"for nobody")
    wait_until(lambda: daemon.engine.broker_statistics("a").flows["frontend"].held)
    wait_until(lambda: pusher.poll(0, zmq.POLLOUT))
    ended = daemon.end()
    assert ended["b"].loss is None
    assert ended["a"].left >= 1
    assert not daemon.engine.brokers


def test_closed_daemon_leaves_nothing_open(write: Write, tmp_path: Path) -> None:
    daemon = Daemon(write(streamer("a", "ipc://frontend")))
    daemon.start()
    assert (tmp_path / "frontend").exists()
    daemon.end()
    daemon.close()
    daemon.close()
    assert not (tmp_path / "frontend").exists()
    assert daemon.reload().problems == ()


def test_daemon_that_is_closed_while_another_thread_opens_its_sockets_opens_none(
    write: Write, start_daemon: StartDaemon
) -> None:
    daemon = start_daemon(write("[engine]\ntakeover = 'takeover'\ncontrol = 'ipc://control'\n" + streamer("a")))
    configuration = daemon.configuration
    daemon.close()
    assert daemon.servers.open(daemon.engine, configuration) == []
    assert not Path("takeover").exists()


def test_limits_and_distribution_are_those_of_the_file(write: Write, start_daemon: StartDaemon) -> None:
    defaults = "[defaults.limits]\nconnections = 7\nhandshakes = 5\n"
    mine = "distribution = 'least_outstanding'\nlimits = { connections = 1 }"
    daemon = start_daemon(write(defaults + streamer("a", more=mine) + streamer("b")))
    brokers = daemon.configuration.brokers
    assert brokers["a"].limits == Limits(connections=1, handshakes=5)
    assert brokers["b"].limits == Limits(connections=7, handshakes=5)
    assert brokers["a"].device.distribution == "least_outstanding"
    assert {port.transport for port in daemon.engine.broker_statistics("b").ports.values()} == {"wire"}
    host, _, port = address(daemon, "a").removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE_S) as first, first.makefile("rb") as greeting:
        assert greeting.read(1) == b"\xff"
        with socket.create_connection((host, int(port)), DEADLINE_S) as second:
            assert second.recv(1) == b""


# -- metrics and health ------------------------------------------------------------------------------------------------


def asked(daemon: Daemon, path: str) -> tuple[int, str]:
    assert daemon.servers.http_address is not None
    connection = HTTPConnection(daemon.servers.http_address, timeout=DEADLINE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_metrics_and_health_are_served_over_http(write: Write, start_daemon: StartDaemon) -> None:
    text = "[engine]\nhttp = '127.0.0.1:0'\n"
    daemon = start_daemon(write(text + streamer("a")))
    wait_until(lambda: asked(daemon, "/readyz") == (200, "ok\n"))
    assert 'pollbroker_broker_state{broker="a",state="running"} 1.0' in asked(daemon, "/metrics")[1]
    write(text + streamer("b"))
    daemon.reload()
    assert 'broker="a"' not in asked(daemon, "/metrics")[1]
    daemon.stop()
    assert asked(daemon, "/readyz")[0] == 503


def test_token_of_the_file_lets_brokers_be_steered_over_http(
    write: Write, start_daemon: StartDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    token = "a-token-of-a-test"
    text = f"[engine]\nhttp = '127.0.0.1:0'\nhttp_token = '{token}'\n"
    daemon = start_daemon(write(text + streamer("a")))
    assert daemon.servers.http_address is not None
    connection = HTTPConnection(daemon.servers.http_address, timeout=DEADLINE_S)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        connection.request("POST", "/steer", '{"command": "pause", "broker": "a"}', headers)
        assert connection.getresponse().status == 200
    finally:
        connection.close()
    assert daemon.engine.brokers["a"].state == "paused"
    write(text.replace(token, f"{token}-2") + streamer("a"))
    daemon.reload()
    assert "reload: engine.http_token: the new value takes effect at the next start" in caplog.text
    assert token not in caplog.text
    assert token not in repr(daemon.configuration)


def test_http_address_in_use_is_a_problem_of_its_line(write: Write, problems: Problems) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = Daemon(write(f"[engine]\nhttp = '{address}'\n" + streamer("a")))
        with pytest.raises(ConfigurationError) as raised:
            daemon.start()
        daemon.close()
    found = f"brokers.toml:2: engine.http: {address}: cannot listen: Address already in use"
    assert str(raised.value) == found
    same = f"[engine]\nhttp = '127.0.0.1:5000'\n{streamer('a', 'tcp://*:5000')}"
    assert "the HTTP server" in problems(same)[0]
