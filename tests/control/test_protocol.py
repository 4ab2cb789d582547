"""Control on the wire: compatible with libzmq's proxy, by every type of socket."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from pollbroker import Engine
from pollbroker.control import attach, attach_socket, request
from tests.support.addresses import ANY_PORT, bind
from tests.support.control import add_streamer, make_ask, numbers, text_of
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, MakeEngine, Socket


@pytest.mark.parametrize(
    ("server_type", "client_type", "envelope"),
    [
        (zmq.REP, zmq.REQ, ()),
        (zmq.REP, zmq.DEALER, (b"",)),
        (zmq.REP, zmq.DEALER, (b"hop", b"")),
        (zmq.ROUTER, zmq.REQ, ()),
        (zmq.ROUTER, zmq.DEALER, (b"",)),
        (zmq.ROUTER, zmq.DEALER, (b"hop", b"")),
        (zmq.ROUTER, zmq.DEALER, ()),
    ],
)
@pytest.mark.parametrize("own", [False, True])
def test_rep_and_router_answer_every_command(
    engine: Engine, connect: Connect, server_type: int, client_type: int, envelope: tuple[bytes, ...], own: bool
) -> None:
    if own:
        socket = connect(server_type)
        endpoint = bind(socket)
        attach_socket(engine, socket)
    else:
        (endpoint,) = attach(engine, ANY_PORT, socket_type=server_type).endpoints
    engine.add("jobs", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    ask = make_ask(connect(client_type, endpoint), *envelope)
    assert ask(b"PAUSE") == [b""]
    assert ask(b"RESUME") == [b""]
    assert ask(b"STATISTICS") == [bytes(8)] * 8
    assert ask(b"PAUSE", b"jobs") == [b""]
    assert ask(b"STATISTICS", b"jobs") == [bytes(8)] * 8
    assert ask(b"LIST") == [b"OK", b"jobs"]
    assert ask(b"STATS")[0] == b"OK"
    assert "''" in text_of(ask(b""))
    assert "'PAUSE\\x00'" in text_of(ask(b"PAUSE\0"))
    assert ask(b"TERMINATE", b"jobs") == [b""]
    assert ask(b"LIST") == [b"OK"]
    assert ask(b"TERMINATE") == [b""]


def test_pair_answers_all_but_the_three_that_libzmq_leaves_unanswered(engine: Engine, connect: Connect) -> None:
    broker = engine.add("jobs", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    server = attach(engine, ANY_PORT, socket_type=zmq.PAIR)
    client = connect(zmq.PAIR, *server.endpoints)
    client.send(b"PAUSE")
    assert make_ask(client)(b"LIST") == [b"OK", b"jobs"]
    assert broker.state == "paused"
    client.send(b"RESUME")
    assert make_ask(client)(b"STATISTICS") == [bytes(8)] * 8
    assert broker.state == "running"
    assert make_ask(client)(b"PAUSE", b"jobs") == [b""]
    assert "NONSENSE" in text_of(make_ask(client)(b"NONSENSE"))
    client.send(b"TERMINATE")
    wait_until(lambda: not engine.running)
    assert not client.poll(0)


def test_sub_obeys_and_warns(engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    broker = engine.add("jobs", "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    publisher = connect(zmq.XPUB)
    server = attach(engine, f">{bind(publisher)}", socket_type=zmq.SUB)
    assert publisher.recv() == b"\x01"
    for frames in ([b"NONSENSE"], [b"NONSENSE", b"again"], [b"STATISTICS"], [b"PAUSE"]):
        publisher.send_multipart(frames)
    wait_until(lambda: broker.state == "paused")
    publisher.send_multipart([b"RESUME", b"jobs"])
    wait_until(lambda: broker.state == "running")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]  # of two, within a second
    assert "NONSENSE" in caplog.text
    assert not server.closed
    publisher.send(b"TERMINATE")
    wait_until(lambda: not engine.running)


@contextmanager
def libzmq_proxy(context: zmq.Context[Socket], frontend: int, backend: int | None) -> Iterator[list[str]]:
    """libzmq's own steerable proxy; the endpoints of its frontend, backend and control."""
    types = [kind for kind in (frontend, backend, zmq.REP) if kind is not None]
    sockets = [context.socket(kind) for kind in types]
    bound = [bind(socket) for socket in sockets]
    first, second, control = 0, -2, -1  # the second is the first if there is no backend
    thread = threading.Thread(
        target=zmq.proxy_steerable, args=(sockets[first], sockets[second], None, sockets[control])
    )
    thread.start()
    yield [bound[first], bound[second], bound[control]]
    thread.join(DEADLINE_MS / 1000)
    assert not thread.is_alive()


@contextmanager
def our_proxy(engine: Engine, device: str) -> Iterator[list[str]]:
    backend = None if device == "reflector" else ANY_PORT
    broker = engine.add("it", device, frontend=ANY_PORT, backend=backend)
    server = attach(engine, ANY_PORT)
    yield [*broker.frontend.endpoints, *list(broker.ports.values())[-1].endpoints, *server.endpoints]
    wait_until(lambda: not engine.running)


@pytest.mark.parametrize(
    ("device", "frontend", "backend"),
    [("queue", zmq.ROUTER, zmq.DEALER), ("streamer", zmq.PULL, zmq.PUSH), ("reflector", zmq.ROUTER, None)],
)
def test_statistics_are_those_of_libzmq_byte_for_byte(
    engine: Engine, context: zmq.Context[Socket], connect: Connect, device: str, frontend: int, backend: int | None
) -> None:
    replies = []
    for proxy in (libzmq_proxy(context, frontend, backend), our_proxy(engine, device)):
        with proxy as (front, back, control):
            ask = make_ask(connect(zmq.REQ, control))
            if device == "streamer":
                pusher, puller = connect(zmq.PUSH, front), connect(zmq.PULL, back)
                for size in (0, 1, 1000):
                    pusher.send_multipart([b"", bytes(size)])
                    puller.recv_multipart()
            else:
                client = connect(zmq.REQ, front)
                worker = None if backend is None else connect(zmq.REP, back)
                for size in (0, 1, 1000):
                    client.send_multipart([bytes(size), b"end"])
                    if worker is not None:
                        worker.recv_multipart()
                        worker.send(b"done")
                    client.recv_multipart()
            replies.append([ask(b"STATISTICS"), ask(b"TERMINATE")])
    assert replies[0] == replies[1]
    assert any(numbers(replies[1][0]))


def test_script_for_libzmqs_proxy_steers_a_queue(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    broker = engine.add("orders", "queue", frontend=ANY_PORT, backend=ANY_PORT)
    control = connect(zmq.REQ, *attach(engine, ANY_PORT).endpoints)
    client = connect(zmq.REQ, *broker.frontend.endpoints)
    worker = connect(zmq.REP, *broker.backend.endpoints)
    thread = threading.Thread(target=engine.run)
    thread.start()

    def serve(request: bytes) -> None:
        client.send(request)
        assert worker.recv() == request
        worker.send(b"done")
        assert client.recv() == b"done"

    def statistics() -> list[int]:
        control.send(b"STATISTICS")
        return numbers(control.recv_multipart())

    serve(b"one")
    control.send(b"PAUSE")
    assert control.recv_multipart() == [b""]
    before = statistics()
    assert before[::2] == [3, 3, 3, 3]  # routing id, delimiter, body
    client.send(b"two")
    assert all(statistics() == before for _ in range(50))  # each a turn in which it could have moved
    assert not worker.poll(0)
    control.send(b"RESUME")
    assert control.recv_multipart() == [b""]
    assert worker.recv() == b"two"
    worker.send(b"done")
    client.recv()
    assert statistics()[::2] == [6, 6, 6, 6]
    control.send(b"TERMINATE")
    assert control.recv_multipart() == [b""]
    thread.join(DEADLINE_MS / 1000)
    assert not thread.is_alive()


def test_statistics_are_summed_over_all_brokers_or_of_one(engine: Engine, connect: Connect) -> None:
    ask = make_ask(connect(zmq.REQ, *attach(engine, ANY_PORT).endpoints))
    for name, count in (("a", 1), ("b", 2)):
        push, pull = add_streamer(engine, connect, name)
        for _ in range(count):
            push.send_multipart([b"xyz", b""])
            pull.recv_multipart()
    wait_until(lambda: engine.statistics().brokers["b"].flows["frontend"].sent == 2)
    assert numbers(ask(b"STATISTICS")) == [6, 9, 0, 0, 0, 0, 6, 9]
    assert numbers(ask(b"STATISTICS", b"a")) == [2, 3, 0, 0, 0, 0, 2, 3]


def test_broker_that_is_terminated_is_logged(
    engine: Engine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not there any more, so that nothing else tells of it."""
    caplog.set_level("INFO")
    add_streamer(engine, connect)
    assert request(attach(engine, ANY_PORT).endpoints[0], "TERMINATE", "jobs") == [b""]
    assert "control: brokers.jobs: terminated" in caplog.messages


def test_terminate_is_answered_before_everything_closes(engine: Engine, connect: Connect) -> None:
    name = "x" * 200_000
    engine.add(name, "streamer", frontend=ANY_PORT, backend=ANY_PORT)
    client = connect(zmq.DEALER, *attach(engine, ANY_PORT).endpoints, rcvhwm=1, rcvbuf=4096)
    for _ in range(50):
        client.send(b"LIST")  # more than the network takes before the client reads
    client.send(b"TERMINATE")
    wait_until(lambda: not engine.running)
    closing = threading.Thread(target=engine.close)
    closing.start()
    replies = [client.recv_multipart() for _ in range(51)]
    closing.join()
    assert replies == [[b"OK", name.encode()]] * 50 + [[b""]]
