"""Messages of many frames that come to a control socket: no turn reads much of one, and nothing depends on them."""

import logging

import pytest
import zmq

from pollbroker import Engine
from pollbroker.control import attach, attach_socket
from pollbroker.control.receiving import FRAMES_MOST
from pollbroker.seldom import SeldomLog
from tests.support.control import text_of
from tests.support.deadline import wait_until
from tests.support.types import Connect, Socket

CLIENTS = {zmq.REP: zmq.REQ, zmq.ROUTER: zmq.DEALER, zmq.PAIR: zmq.PAIR, zmq.SUB: zmq.XPUB}

TOO_MANY = f"more than {FRAMES_MOST} frames; expected fewer"


@pytest.fixture(params=CLIENTS, ids=lambda socket_type: socket_type.name)
def client(request: pytest.FixtureRequest, idle: Engine, connect: Connect) -> Socket:
    """A client of a socket of each type that takes commands. The socket is the program's own."""
    control = connect(request.param)
    if request.param == zmq.SUB:
        control.subscribe(b"")
    port = control.bind_to_random_port("tcp://127.0.0.1")
    attach_socket(idle, control)
    client = connect(CLIENTS[request.param], f"tcp://127.0.0.1:{port}")
    if request.param == zmq.SUB:
        wait_until(lambda: client.poll(0), engine=idle)
        assert client.recv() == b"\x01"
    return client


def refusal_of(frames: list[bytes], client: Socket, engine: Engine, caplog: pytest.LogCaptureFixture) -> str:
    """What is said of a command that is refused: to the client, or, where there is no reply, in the log."""
    caplog.clear()
    client.send_multipart(frames)
    if client.type == zmq.XPUB:
        wait_until(lambda: caplog.messages, engine=engine)
        return caplog.messages[-1].removeprefix("control: ")
    wait_until(lambda: client.poll(0), engine=engine)
    return text_of(client.recv_multipart())


def test_message_of_too_many_frames_is_refused_and_the_next_one_is_served(
    idle: Engine, client: Socket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SeldomLog, "__call__", lambda log, *message: log._log(*message))  # not one a second
    with caplog.at_level(logging.WARNING, "pollbroker"):
        for count in (5 * FRAMES_MOST, 10 * FRAMES_MOST):
            assert refusal_of([b"LIST", *[b"x"] * count], client, idle, caplog) == TOO_MANY
    idle.add("a", "streamer", frontend="inproc://f", backend="inproc://b")
    client.send_multipart([b"PAUSE", b"a"])
    wait_until(lambda: idle.brokers["a"].state == "paused", engine=idle)


def test_as_many_frames_as_a_command_may_have_are_looked_at(idle: Engine, connect: Connect) -> None:
    """The envelope counts."""
    (address,) = attach(idle, "tcp://127.0.0.1:*").endpoints
    dealer = connect(zmq.DEALER, address)
    for more, expected in ((0, "LIST: 998 frames; expected the command"), (1, TOO_MANY)):
        dealer.send_multipart([b"", b"LIST", *[b"x"] * (FRAMES_MOST - 3 + more)])
        wait_until(lambda: dealer.poll(0), engine=idle)
        empty, *reply = dealer.recv_multipart()
        assert not empty
        assert text_of(reply).startswith(expected)


def test_a_turn_reads_a_part_of_a_message_of_many_frames(
    idle: Engine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pollbroker.control.server._BURST_S", -1.0)
    (address,) = attach(idle, "tcp://127.0.0.1:*").endpoints
    dealer = connect(zmq.DEALER, address)
    dealer.send_multipart([b"x"] * (10 * FRAMES_MOST))
    before = idle.statistics().turns
    wait_until(lambda: dealer.poll(0), engine=idle)
    assert idle.statistics().turns - before >= 10
    assert text_of(dealer.recv_multipart()) == TOO_MANY
