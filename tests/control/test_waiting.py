"""Commands that take time: they are answered when they are done, and nothing waits for them meanwhile."""

import json
import threading

import pytest
import zmq

from pollbroker import Engine
from pollbroker.control import NotInTimeError, attach, attach_socket, request
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, bind
from tests.support.control import make_ask, text_of
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.transports import holding_streamer
from tests.support.types import Connect


def hold(engine: Engine, connect: Connect) -> str:
    """Add a streamer `a` that holds a message, for want of consumers. Return where they may connect."""
    broker = engine.add("a", holding_streamer(), frontend=ANY_PORT, backend=ANY_PORT)
    connect(zmq.PUSH, broker.frontend.endpoint).send(b"held")
    wait_until(lambda: flow_of(engine, "a").held and flow_of(engine, "a").state == "stalled")
    return broker.backend.endpoint


def text_of_timeout(reply: list[bytes]) -> str:
    assert reply[0] == b"TIMEOUT"
    return text_of([b"ERROR", *reply[1:]])


def test_drain_is_answered_when_the_broker_holds_nothing(engine: Engine, connect: Connect) -> None:
    backend = hold(engine, connect)
    client = connect(zmq.DEALER, *attach(engine, ANY_PORT).endpoints)
    client.send_multipart([b"1", b"", b"DRAIN", b"a", b"%f" % DEADLINE_S])
    for _ in range(20):  # the engine goes on, and answers others and the same client
        client.send_multipart([b"2", b"", b"LIST"])
        assert client.recv_multipart() == [b"2", b"", b"OK", b"a"]
    puller = connect(zmq.PULL, backend)
    assert client.recv_multipart() == [b"1", b"", b""]
    assert puller.recv() == b"held"
    assert flow_of(engine, "a").held == 0


def test_drain_that_is_not_done_in_time_says_what_is_left(engine: Engine, connect: Connect) -> None:
    hold(engine, connect)
    engine.add("b", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    engine.pause("b")
    ask = make_ask(connect(zmq.REQ, *attach(engine, ANY_PORT).endpoints))
    held = "brokers.a: not drained within 0.01 s: 1 message held from frontend to backend (stalled)"
    paused = "brokers.b: not drained within 0.01 s: it is paused"
    assert text_of_timeout(ask(b"DRAIN", b"a", b"0.01")) == held
    assert text_of_timeout(ask(b"DRAIN", b"b", b"0.01")) == paused
    assert text_of_timeout(ask(b"DRAIN", b"*", b"0.01")) == f"{held}; {paused}"


def test_drain_says_so_if_the_messages_wait_at_their_source(engine: Engine, connect: Connect) -> None:
    """Between ports of the wire, none is held while there is no consumer."""
    broker = engine.add("a", "streamer", frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    connect(zmq.PUSH, broker.frontend.endpoint).send(b"waits")
    wait_until(lambda: flow_of(engine, "a").state == "stalled")
    ask = make_ask(connect(zmq.REQ, *attach(engine, ANY_PORT).endpoints))
    left = "brokers.a: not drained within 0.01 s: frontend has more to read, and backend has no room (stalled)"
    assert text_of_timeout(ask(b"DRAIN", b"a", b"0.01")) == left


def test_star_is_a_name_if_a_broker_has_it(engine: Engine, connect: Connect) -> None:
    hold(engine, connect)
    engine.add("*", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    ask = make_ask(connect(zmq.REQ, *attach(engine, ANY_PORT).endpoints))
    assert ask(b"DRAIN", b"*", b"%f" % DEADLINE_S) == [b""]


@pytest.mark.parametrize("command", [b"DRAIN", b"PAUSE"])
def test_broker_that_is_removed_with_messages_is_not_done(engine: Engine, connect: Connect, command: bytes) -> None:
    hold(engine, connect)
    client = connect(zmq.DEALER, *attach(engine, ANY_PORT).endpoints)
    client.send_multipart([b"1", b"", command, b"a", b"%f" % DEADLINE_S])
    client.send_multipart([b"2", b"", b"TERMINATE", b"a"])
    replies = dict(_by_number(client.recv_multipart()) for _ in range(2))
    assert replies[b"2"] == [b""]
    assert text_of(replies[b"1"]) == "brokers.a: it is removed meanwhile, and 1 message was not delivered"


def test_broker_that_is_removed_without_messages_is_drained(engine: Engine, connect: Connect) -> None:
    backend = hold(engine, connect)
    client = connect(zmq.DEALER, *attach(engine, ANY_PORT).endpoints)
    client.send_multipart([b"1", b"", b"DRAIN", b"a", b"%f" % DEADLINE_S])
    client.send_multipart([b"2", b"", b"REMOVE", b"a"])
    puller = connect(zmq.PULL, backend)
    replies = dict(_by_number(client.recv_multipart()) for _ in range(2))
    assert replies == {b"1": [b""], b"2": [b"OK", b""]}
    assert puller.recv() == b"held"


def _by_number(reply: list[bytes]) -> tuple[bytes, list[bytes]]:
    """The number in front of a reply, and the reply."""
    return reply[0], reply[2:]


def test_rep_socket_takes_the_next_command_after_the_reply(engine: Engine, connect: Connect) -> None:
    """libzmq's REP cannot receive before it has answered."""
    backend = hold(engine, connect)
    socket = connect(zmq.REP)
    endpoint = bind(socket)
    server = attach_socket(engine, socket)
    waiting, other = (connect(zmq.REQ, endpoint) for _ in range(2))
    waiting.send_multipart([b"DRAIN", b"a", b"%f" % DEADLINE_S])
    wait_until(lambda: server._control.awaited)
    other.send(b"LIST")
    assert not other.poll(50)
    connect(zmq.PULL, backend)
    assert waiting.recv_multipart() == [b""]
    assert other.recv_multipart() == [b"OK", b"a"]
    for _ in range(3):
        waiting.send_multipart([b"DRAIN", b"a", b"%f" % DEADLINE_S])
        assert waiting.recv_multipart() == [b""]


def test_reply_to_a_client_that_has_left_is_dropped_and_counted_and_not_warned_of(
    engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    hold(engine, connect)
    server = attach(engine, ANY_PORT)

    def leaves_in_time() -> bool:
        """Return True if the engine has learned that the client is gone before it answers."""
        client = connect(zmq.DEALER, *server.endpoints)
        client.send_multipart([b"", b"DRAIN", b"a", b"0.05"])
        wait_until(lambda: server._control.awaited)
        client.close()
        wait_until(lambda: not server._control.awaited)
        return server.dropped_replies > 0  # it may be counted a moment after the command is done with

    wait_until(leaves_in_time)
    assert make_ask(connect(zmq.REQ, *server.endpoints))(b"LIST") == [b"OK", b"a"]
    assert not caplog.records


def test_too_many_commands_that_wait_are_refused(
    engine: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pollbroker.control.commands._AWAITED_MOST", 3)
    backend = hold(engine, connect)
    client = connect(zmq.DEALER, *attach(engine, ANY_PORT).endpoints)
    for number in range(4):
        client.send_multipart([b"%d" % number, b"", b"DRAIN", b"a", b"%f" % DEADLINE_S])
    refused = client.recv_multipart()
    assert refused[:2] == [b"3", b""]
    assert text_of(refused[2:]) == "DRAIN: 3 commands wait for their reply; expected fewer"
    connect(zmq.PULL, backend)
    assert sorted(client.recv_multipart() for _ in range(3)) == [[b"%d" % number, b"", b""] for number in range(3)]


def test_server_that_closes_owes_no_reply(engine: Engine, connect: Connect) -> None:
    backend = hold(engine, connect)
    server = attach(engine, ANY_PORT)
    connect(zmq.DEALER, *server.endpoints).send_multipart([b"", b"DRAIN", b"a", b"%f" % DEADLINE_S])
    wait_until(lambda: server._control.awaited)
    server.close()
    connect(zmq.PULL, backend)
    wait_until(lambda: not server._control.awaited)
    assert server.dropped_replies == 0


def test_command_that_waits_is_answered_when_the_engine_closes(engine: Engine, connect: Connect) -> None:
    hold(engine, connect)
    server = attach(engine, ANY_PORT)
    client = connect(zmq.DEALER, *server.endpoints)
    client.send_multipart([b"", b"PAUSE", b"a", b"%f" % DEADLINE_S])
    wait_until(lambda: server._control.awaited)
    closing = threading.Thread(target=engine.close, kwargs={"timeout_s": 0})
    closing.start()
    assert client.recv_multipart()[0] == b""
    closing.join()


# -- PAUSE with a time limit -------------------------------------------------------------------------------------------


def test_pause_with_a_time_limit_is_answered_when_nothing_is_held(engine: Engine, connect: Connect) -> None:
    backend = hold(engine, connect)
    client = connect(zmq.DEALER, *attach(engine, ANY_PORT).endpoints)
    client.send_multipart([b"", b"PAUSE", b"a", b"%f" % DEADLINE_S])
    connect(zmq.PUSH, engine.brokers["a"].frontend.endpoint).send(b"not read any more")
    client.send_multipart([b"", b"STATS", b"a"])
    *_, document = client.recv_multipart()
    assert json.loads(document)["state"] == "paused"
    puller = connect(zmq.PULL, backend)
    assert client.recv_multipart() == [b"", b""]
    assert puller.recv() == b"held"
    assert (flow_of(engine, "a").held, flow_of(engine, "a").received, flow_of(engine, "a").state) == (0, 1, "paused")
    engine.resume("a")
    assert puller.recv() == b"not read any more"


def test_pause_that_is_not_done_in_time_says_what_is_held(engine: Engine, connect: Connect) -> None:
    backend = hold(engine, connect)
    (endpoint,) = attach(engine, ANY_PORT).endpoints
    for broker in ("a", None):
        with pytest.raises(NotInTimeError) as raised:
            request(endpoint, "PAUSE", broker, wait_s=0.01, timeout_s=DEADLINE_S)
        expected = "not done within 0.01 s: it is paused, 1 message held from frontend to backend (paused)"
        assert str(raised.value) == f"brokers.a: {expected}"
    engine.resume("a")
    assert connect(zmq.PULL, backend).recv() == b"held"
    assert request(endpoint, "PAUSE", wait_s=1.0, timeout_s=DEADLINE_S) == [b""]
