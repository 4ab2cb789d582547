"""STATS, STATISTICS and PEERS of all brokers: asked a few brokers in each turn, and answered when all have told."""

import json
import threading
from functools import partial

import pytest
import zmq

from pollbroker import Engine
from pollbroker.control import Control, attach, attach_socket, request
from tests.support.addresses import ANY_PORT, bind
from tests.support.control import add_streamer, make_ask, text_of
from tests.support.deadline import wait_until
from tests.support.streamers import Peers
from tests.support.transports import holding_streamer
from tests.support.types import Connect, MakeEngine, Socket

TOLD_BY_ALL = (b"STATS", b"STATISTICS", b"PEERS")


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each turn asks one broker only."""
    monkeypatch.setattr("pollbroker.portions._PORTION_S", 0.0)


@pytest.fixture
def idle(make_engine: MakeEngine, slow: None, context: zmq.Context[Socket]) -> Engine:
    """An engine that nobody runs, with five brokers."""
    engine = make_engine(context)
    for name in "01234":
        engine.add(name, "streamer", frontend=f"inproc://{name}-in", backend=f"inproc://{name}-out")
    return engine


@pytest.mark.parametrize("command", TOLD_BY_ALL)
def test_what_is_told_in_portions_is_what_is_told_at_once(
    make_engine: MakeEngine, slow: None, connect: Connect, command: bytes
) -> None:
    engine = make_engine()
    for name in ('a "quoted" name', "b", "ü"):
        broker = engine.add(name, "streamer", frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
        peers = Peers(connect, broker)
        peers.push.send(b"x")
        wait_until(partial(peers.pull.poll, 0), engine=engine)
    whole = Control(engine).handle([command])
    client = connect(zmq.DEALER, *attach(engine, ANY_PORT).endpoints)
    client.send(command)
    wait_until(lambda: client.poll(0), engine=engine)
    in_portions = client.recv_multipart()
    assert whole is not None
    if command == b"STATISTICS":
        assert in_portions == whole
        return
    assert in_portions[0] == whole[0] == b"OK"
    assert len(in_portions) == 2
    first, second = (without_times(json.loads(reply[1])) for reply in (in_portions, whole))
    assert first == second


def without_times(document: object) -> object:
    """A document without what is another at each moment."""
    if isinstance(document, dict):
        return {
            key: without_times(one) for key, one in document.items() if key not in ("turns", "connected_s", "silent_s")
        }
    return [without_times(one) for one in document] if isinstance(document, list) else document


@pytest.mark.parametrize("command", TOLD_BY_ALL)
def test_an_engine_without_brokers_tells_so(engine: Engine, connect: Connect, command: bytes) -> None:
    told = make_ask(connect(zmq.REQ, *attach(engine, ANY_PORT).endpoints))(command)
    expected = {b"STATISTICS": [bytes(8)] * 8, b"PEERS": [b"OK", b"{}"]}
    if command == b"STATS":
        assert json.loads(told[1])["brokers"] == {}
    else:
        assert told == expected[command]


@pytest.mark.parametrize("command", TOLD_BY_ALL)
def test_others_are_answered_while_brokers_are_asked(idle: Engine, connect: Connect, command: bytes) -> None:
    server = attach(idle, "inproc://control")
    asking, other = (connect(zmq.DEALER, "inproc://control") for _ in range(2))
    asking.send(command)
    wait_until(lambda: server._control.awaited, engine=idle)
    other.send_multipart([b"STATS", b"3"])
    other.send(b"LIST")
    wait_until(lambda: other.poll(0), engine=idle)
    assert json.loads(other.recv_multipart()[1])["name"] == "3"
    wait_until(lambda: other.poll(0), engine=idle)
    assert other.recv_multipart() == [b"OK", *(b"%d" % number for number in range(5))]
    assert server._control.awaited, "all brokers have told by now, so that this test shows nothing"
    wait_until(lambda: asking.poll(0), engine=idle)
    assert not server._control.awaited


def test_commands_of_many_clients_are_answered_one_after_the_other_and_one_broker_tells_in_each_turn(
    idle: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[int] = []
    told = Engine.broker_statistics

    def noting(engine: Engine, broker: str) -> object:
        turns.append(engine.statistics(()).turns)
        return told(engine, broker)

    server = attach(idle, "inproc://control")
    clients = [connect(zmq.DEALER, "inproc://control") for _ in range(10)]
    monkeypatch.setattr(Engine, "broker_statistics", noting)
    for client in clients:
        client.send(b"STATS")
    for client in clients:
        wait_until(partial(client.poll, 0), engine=idle)
        assert list(json.loads(client.recv_multipart()[1])["brokers"]) == list("01234")
    assert len(turns) == 50
    assert len(set(turns)) == 50, "two brokers were asked in one turn"
    assert server._control.awaited == 0


def test_too_many_that_wait_are_refused(idle: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pollbroker.control.commands._AWAITED_MOST", 3)
    attach(idle, "inproc://control")
    client = connect(zmq.DEALER, "inproc://control")
    for _ in range(4):
        client.send(b"STATS")
    wait_until(lambda: client.poll(0), engine=idle)
    assert text_of(client.recv_multipart()) == "STATS: 3 commands wait for their reply; expected fewer"
    for _ in range(3):
        wait_until(lambda: client.poll(0), engine=idle)
        assert client.recv_multipart()[0] == b"OK"


def test_a_pair_is_answered_in_the_order_of_its_commands(idle: Engine, connect: Connect) -> None:
    """It has nothing to tell replies apart by."""
    attach(idle, "inproc://control", socket_type=zmq.PAIR)
    client = connect(zmq.PAIR, "inproc://control")
    for command in (b"STATISTICS", b"LIST", b"STATS", b"PEERS", b"LIST"):
        client.send(command)
    replies = []
    for _ in range(5):
        wait_until(lambda: client.poll(0), engine=idle)
        replies.append(client.recv_multipart())
    assert [len(reply) for reply in replies] == [8, 6, 2, 2, 6]


def test_a_pair_takes_commands_while_one_waits_for_traffic(idle: Engine, connect: Connect) -> None:
    """A DRAIN may take long, and the client must be able to do something about it."""
    idle.add("held", holding_streamer(), frontend="inproc://held-in", backend="inproc://held-out")
    attach(idle, "inproc://control", socket_type=zmq.PAIR)
    connect(zmq.PUSH, "inproc://held-in").send(b"held")
    wait_until(lambda: idle.statistics(["held"]).brokers["held"].flows["frontend"].held, engine=idle)
    client = connect(zmq.PAIR, "inproc://control")
    client.send_multipart([b"DRAIN", b"held", b"1000"])
    client.send(b"LIST")
    wait_until(lambda: client.poll(0), engine=idle)
    assert client.recv_multipart()[0] == b"OK"


def test_a_rep_socket_takes_the_next_command_after_the_reply(
    idle: Engine, context: zmq.Context[Socket], connect: Connect
) -> None:
    socket = context.socket(zmq.REP)
    attach_socket(idle, socket)
    endpoint = bind(socket)
    clients = [connect(zmq.REQ, endpoint) for _ in range(3)]
    for client in clients:
        client.send(b"STATS")
    for client in clients:
        wait_until(partial(client.poll, 0), engine=idle)
        assert client.recv_multipart()[0] == b"OK"


def test_a_sub_sends_no_reply_and_goes_on(idle: Engine, connect: Connect) -> None:
    server = attach(idle, "inproc://control", socket_type=zmq.SUB)
    client = connect(zmq.PUB, "inproc://control")

    def waits() -> bool:
        client.send(b"STATS")
        return server._control.awaited > 0

    wait_until(waits, engine=idle)
    client.send_multipart([b"PAUSE", b"3"])
    wait_until(lambda: idle.brokers["3"].state == "paused", engine=idle)
    wait_until(lambda: not server._control.awaited, engine=idle)
    assert server.dropped_replies == 0


def test_the_reply_has_the_brokers_that_are_there_when_they_are_asked(idle: Engine, connect: Connect) -> None:
    server = attach(idle, "inproc://control")
    client = connect(zmq.DEALER, "inproc://control")
    client.send(b"STATS")
    wait_until(lambda: server._control.awaited, engine=idle)
    idle.remove("4")
    idle.add("new", "streamer", frontend="inproc://new-in", backend="inproc://new-out")
    wait_until(lambda: client.poll(0), engine=idle)
    assert list(json.loads(client.recv_multipart()[1])["brokers"]) == list("0123")


def test_an_error_while_brokers_are_asked_is_the_reply(
    idle: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("three")

    server = attach(idle, "inproc://control")
    client = connect(zmq.DEALER, "inproc://control")
    client.send(b"STATS")
    wait_until(lambda: server._control.awaited, engine=idle)
    monkeypatch.setattr(Engine, "broker_statistics", fails)
    wait_until(lambda: client.poll(0), engine=idle)
    assert "ZeroDivisionError('three')" in text_of(client.recv_multipart())


def test_a_client_is_told_when_the_engine_closes_first(idle: Engine, connect: Connect) -> None:
    server = attach(idle, ANY_PORT)
    client = connect(zmq.DEALER, *server.endpoints)
    client.send(b"STATS")
    wait_until(lambda: server._control.awaited, engine=idle)
    closing = threading.Thread(target=idle.close)
    closing.start()
    assert text_of(client.recv_multipart()) == "the engine was closed before every broker was asked"
    closing.join()


def test_statistics_of_one_broker_are_told_in_the_turn_of_the_command(idle: Engine, connect: Connect) -> None:
    server = attach(idle, "inproc://control")
    client = connect(zmq.DEALER, "inproc://control")
    for command in TOLD_BY_ALL:
        client.send_multipart([command, b"3"])
        wait_until(lambda: client.poll(0), engine=idle)
        assert not server._control.awaited
        client.recv_multipart()


def test_traffic_passes_while_brokers_are_asked(engine: Engine, slow: None, connect: Connect) -> None:
    for number in range(5):
        engine.add(f"{number}", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = add_streamer(engine, connect)
    (endpoint,) = attach(engine, ANY_PORT).endpoints
    for number in range(30):
        push.send(b"%d" % number)
        counts = json.loads(request(endpoint, "STATS", timeout_s=10)[1])["brokers"]["jobs"]["flows"]["frontend"]
        assert counts["received"] == counts["sent"] + counts["held"]
        assert pull.recv() == b"%d" % number
