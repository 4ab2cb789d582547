"""Brokers of the wire that a reload changes: they keep their connections, and what is told of them goes on."""

import logging
from typing import Any

import pytest
import zmq

from pollbroker import Broker, EngineError
from tests.daemon.conftest import StartDaemon, Write
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect


def text(device: str, maxframes: int, transport: str = "wire") -> str:
    """A file with one broker."""
    return (
        f"[brokers.a]\ndevice = '{device}'\nfrontend = '{ANY_PORT}'\nbackend = '{ANY_PORT}'\n"
        f"transport = '{transport}'\nmaxframes = {maxframes}\n"
    )


def test_connections_stay(write: Write, start_daemon: StartDaemon, connect: Connect) -> None:
    daemon = start_daemon(write(text("queue", 10)))
    before = daemon.engine.brokers["a"]
    client = connect(zmq.DEALER, endpoint(before.frontend), routing_id=b"client")
    worker = connect(zmq.DEALER, endpoint(before.backend))
    client.send_multipart([b"", b"1"])
    request = worker.recv_multipart()
    write(text("queue", 20))
    done = daemon.reload()
    assert (done.changed, done.problems, done.ended) == (("a",), (), {})
    after = daemon.engine.brokers["a"]
    assert after != before
    assert after.device.maxframes == 20
    assert after.frontend.endpoints == before.frontend.endpoints
    worker.send_multipart(request)
    assert client.recv_multipart() == [b"", b"1"]
    assert {peer.routing_id for peer in after.peers() if peer.port == "frontend"} == {b"client"}
    flow = flow_of(daemon.engine, "a")
    assert (flow.received, flow.sent, flow.dropped) == (1, 1, 0)


def test_why_connections_are_closed_is_logged(
    write: Write, start_daemon: StartDaemon, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = start_daemon(write(text("streamer", 10, "libzmq")))
    write(text("streamer", 20, "libzmq"))
    with caplog.at_level(logging.INFO, "pollbroker.daemon"):
        assert daemon.reload().changed == ("a",)
    assert (
        "reload: it is closed and opened again: brokers.a: the connections of 'a' cannot be kept: its frontend is a "
        "socket of libzmq"
    ) in caplog.messages


def test_drops_are_not_told_again(
    write: Write, start_daemon: StartDaemon, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = start_daemon(write(text("queue", 10)))
    worker = connect(zmq.DEALER, endpoint(daemon.engine.brokers["a"].backend))

    def drop(number: int) -> None:
        worker.send_multipart([b"nobody", b"", b"%d" % number])
        wait_until(lambda: flow_of(daemon.engine, "a", "backend").unroutable == number)

    drop(1)
    daemon.brokers.drops.look_at(daemon.engine.brokers["a"])
    write(text("queue", 20))
    assert daemon.reload().ended == {}
    drop(2)
    daemon.end()
    told = [message for message in caplog.messages if "unroutable" in message]
    assert [one.partition(": ")[2].partition(" dropped")[0] for one in told] == ["1 message", "1 message"]
    assert ["(1 so far)" in told[0], "(2 so far)" in told[1]] == [True, True]


def test_loss_is_told_at_the_end_if_a_command_has_removed_the_broker_since(
    write: Write, start_daemon: StartDaemon, connect: Connect
) -> None:
    daemon = start_daemon(write(text("streamer", 10)))
    pusher = connect(zmq.PUSH, endpoint(daemon.engine.brokers["a"].frontend))
    for number in range(3):
        pusher.send(b"%d" % number)
    wait_until(lambda: daemon.engine.brokers["a"].statistics().ports["frontend"].peers)
    write(text("streamer", 20))
    assert daemon.reload().ended == {}
    daemon.engine.remove("a", timeout_s=0)
    assert daemon.end()["a"].left == 3


def test_any_error_of_replacing_leaves_the_ordinary_way(
    write: Write, start_daemon: StartDaemon, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that no descriptor is left for the ports of the new broker beside those of the old one."""
    daemon = start_daemon(write(text("streamer", 10)))
    before, tried = daemon.engine.brokers["a"], []
    add = daemon.engine.add

    def without_room(*args: Any, **options: Any) -> Broker:
        if options.get("replaces") is not None:
            tried.append(options["replaces"])
            raise EngineError("brokers.a.frontend: cannot open a socket")
        return add(*args, **options)

    monkeypatch.setattr(daemon.engine, "add", without_room)
    write(text("streamer", 20))
    done = daemon.reload()
    assert tried == [before]
    assert (done.changed, done.problems) == (("a",), ())
    after = daemon.engine.brokers["a"]
    assert after.device.maxframes == 20
    connect(zmq.PUSH, endpoint(after.frontend)).send(b"on")
    assert connect(zmq.PULL, endpoint(after.backend)).recv() == b"on"
