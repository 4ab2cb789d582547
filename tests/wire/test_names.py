"""Names that ports connect to: looked up again at each try, while nobody waits for the answer."""

import logging
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Engine
from pollbroker.wire import connecting, native
from pollbroker.wire.addresses import parse_connected
from pollbroker.wire.connecting import Connection
from tests.support.addresses import ANY_PORT, bind, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect, MakeEngine
from tests.wire.tries import Waits, lookups, options_with, serve
from tests.wire.zmtp import RawListener


class Names:
    """Takes the place of the system's names: `broker.test` is where a test says, or nowhere."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.port: int | None = None
        self.asked = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        ask_system = socket.getaddrinfo

        def getaddrinfo(host: Any, port: Any, *arguments: Any, **more: Any) -> Any:
            if host != "broker.test":
                return ask_system(host, port, *arguments, **more)
            self.asked += 1
            found = self.port
            assert self.may_answer.wait(10)
            if found is None:
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", found))]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    made = Names(monkeypatch)
    yield made
    made.may_answer.set()
    wait_until(lambda: not lookups())


def test_name_is_looked_up_again_at_each_try(
    engine: Engine, connect: Connect, names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "pollbroker"):
        broker = engine.add(
            "a", STREAMER, frontend=">tcp://broker.test:5555", backend=ANY_PORT, frontend_options={"reconnect_ivl": 5}
        )
        wait_until(lambda: names.asked > 3)
    assert any("broker.test does not resolve" in record.getMessage() for record in caplog.records)
    pull = connect(zmq.PULL, endpoint(broker.backend))
    for number in range(3):
        with RawListener() as listener:
            names.port = listener.port
            with listener.accept() as producer:
                producer.shake_hands("PUSH")
                producer.send_message(b"%d" % number)
                assert pull.recv() == b"%d" % number
    asked = names.asked
    wait_until(lambda: names.asked > asked)


def test_name_that_there_was_no_memory_to_look_up_is_looked_up_again(
    engine: Engine, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = parse_connected
    fails = [MemoryError, MemoryError]

    def fail_first(*arguments: Any, **more: Any) -> Any:
        if fails:
            raise fails.pop()
        return look_up(*arguments, **more)

    with RawListener() as listener:
        names.port = listener.port
        monkeypatch.setattr(connecting, "parse_connected", fail_first)
        engine.add(
            "a", STREAMER, frontend=">tcp://broker.test:5555", backend=ANY_PORT, frontend_options={"reconnect_ivl": 5}
        )
        listener.accept().shake_hands("PUSH").close()
    assert not fails


@pytest.mark.parametrize("resolves", [True, False])
def test_broker_is_removed_while_a_name_is_looked_up(engine: Engine, names: Names, resolves: bool) -> None:
    names.may_answer.clear()
    with RawListener() as listener:
        names.port = listener.port if resolves else None
        engine.add("a", STREAMER, frontend=">tcp://broker.test:5555", backend=ANY_PORT)
        wait_until(lambda: names.asked)
        before = engine.remove("a", timeout_s=0)
        assert before.state == "removed"
        names.may_answer.set()
        wait_until(lambda: not lookups())
        engine.statistics()  # a turn follows what the thread has left
        assert not select.select([listener.socket], [], [], 0.05)[0]
    assert engine.running
    assert engine.next_timer_s() is None


@pytest.mark.parametrize("resolves", [True, False])
def test_name_that_is_found_after_the_close_is_not_connected_to(
    port: tuple[native.Net, native.Port], names: Names, resolves: bool
) -> None:
    net, pull = port
    names.may_answer.clear()
    waits = Waits()
    with RawListener() as listener:
        names.port = listener.port if resolves else None
        connection = Connection(pull, "tcp://broker.test:5555", options_with(), waits)
        wait_until(lambda: names.asked)
        connection.close()
        names.may_answer.set()
        wait_until(lambda: waits.calls)
        waits.come()
        serve(net)
        assert not select.select([listener.socket], [], [], 0.02)[0]
    assert not waits.delays_s


def test_engine_is_closed_while_a_name_is_looked_up(make_engine: MakeEngine, names: Names) -> None:
    names.may_answer.clear()
    engine = make_engine()
    engine.start()
    engine.add("a", STREAMER, frontend=">tcp://broker.test:5555", backend=ANY_PORT)
    wait_until(lambda: names.asked)
    engine.close(timeout_s=0)
    names.may_answer.set()
    wait_until(lambda: not lookups())  # an exception in the thread would fail the test


def test_slow_name_does_not_hold_up_the_engine(engine: Engine, connect: Connect, names: Names) -> None:
    names.may_answer.clear()
    engine.add("slow", STREAMER, frontend=">tcp://broker.test:5555", backend=ANY_PORT)
    wait_until(lambda: names.asked)
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    push.send(b"passes")
    assert pull.recv() == b"passes"


def test_localhost_is_a_name(engine: Engine, connect: Connect) -> None:
    source = connect(zmq.PUSH)
    number = bind(source).rpartition(":")[2]
    broker = engine.add("a", STREAMER, frontend=f">tcp://localhost:{number}", backend=ANY_PORT)
    pull = connect(zmq.PULL, endpoint(broker.backend))
    source.send(b"passes")
    assert pull.recv() == b"passes"
