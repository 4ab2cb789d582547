"""The loop does not miss a message, or room for one, that arrives during an operation on the same socket."""

import time

import zmq

from pollbroker import Device, Route
from tests.support.accounts import flow_of
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.turns import turn_until_idle
from tests.support.types import Connect, MakeEngine


# Settling: a handler is given a request, and while it works a reply comes in at the backend. The send that follows
# processes the command that announces it, so ZMQ_FD falls silent. Only ZMQ_EVENTS, read after that send, still tells.
def test_engine_does_not_sleep_over_a_reply_announced_during_a_send(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    worker = connect(zmq.DEALER)

    def reply_meanwhile(frames: list[bytes]) -> list[bytes]:
        worker.send_multipart([frames[0], b"reply"])
        busy_until = time.perf_counter() + 0.005  # libzmq processes commands in a send again after about 1 ms
        while time.perf_counter() < busy_until:
            pass
        return frames

    device = Device(
        "slow", zmq.ROUTER, zmq.DEALER, (Route("frontend", "backend", reply_meanwhile), Route("backend", "frontend"))
    )
    context = worker.context
    frontend, backend = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    frontend.bind("inproc://frontend")
    backend.bind("inproc://backend")
    client = connect(zmq.DEALER, "inproc://frontend")
    worker.connect("inproc://backend")
    engine.register(frontend, backend, device, name="slow")
    turn_until_idle(engine)
    for number in range(20):
        client.send(b"request %d" % number)
        deadline = time.monotonic() + DEADLINE_MS / 1000
        while not client.poll(0):
            asleep = not engine.step(0.02)
            if asleep and worker.poll(0):
                turn_until_idle(engine)  # the request is through; the reply must be, without any further event
                assert client.poll(0), "the loop slept although a reply was there to read"
            assert time.monotonic() < deadline
        assert client.recv() == b"reply"
        worker.recv_multipart()


# The same after a receive that found nothing: it settles the frontend, and the reply that is sent on it unsettles it.
def test_engine_does_not_sleep_over_a_request_announced_during_the_send_of_a_reply(
    make_engine: MakeEngine, connect: Connect
) -> None:
    engine = make_engine()
    client, worker = connect(zmq.DEALER), connect(zmq.DEALER)

    def ask_meanwhile(frames: list[bytes]) -> list[bytes]:
        client.send(b"asked meanwhile")
        busy_until = time.perf_counter() + 0.005
        while time.perf_counter() < busy_until:
            pass
        return frames

    routes = (Route("frontend", "backend"), Route("backend", "frontend", ask_meanwhile))
    device = Device("both", zmq.DEALER, zmq.DEALER, routes)
    frontend, backend = client.context.socket(zmq.DEALER), client.context.socket(zmq.DEALER)
    frontend.bind("inproc://frontend")
    backend.bind("inproc://backend")
    client.connect("inproc://frontend")
    worker.connect("inproc://backend")
    engine.register(frontend, backend, device, name="both")
    turn_until_idle(engine)
    for _ in range(20):
        client.send(b"request")
        worker.send(b"reply")
        wait_until(lambda: client.poll(0), engine=engine)
        turn_until_idle(engine)
        assert client.recv() == b"reply"
        assert worker.recv(zmq.DONTWAIT) == b"request"
        assert worker.poll(0), "the loop slept although a request was there to read"
        assert worker.recv() == b"asked meanwhile"


# The same for room: replies are stalled on the frontend; while a request is handled the client takes some, and the
# receive that finds the frontend empty processes the command that announces the room.
def test_engine_does_not_sleep_over_room_announced_during_a_receive(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    client, worker = connect(zmq.DEALER, sndhwm=0, rcvhwm=1), connect(zmq.DEALER)
    received: list[bytes] = []

    def client_reads_meanwhile(frames: list[bytes]) -> list[bytes]:
        while client.poll(0):
            received.append(client.recv())
        return frames

    routes = (Route("frontend", "backend", client_reads_meanwhile), Route("backend", "frontend"))
    device = Device("both", zmq.DEALER, zmq.DEALER, routes)
    frontend, backend = client.context.socket(zmq.DEALER), client.context.socket(zmq.DEALER)
    frontend.sndhwm = 1
    frontend.bind("inproc://frontend")
    backend.bind("inproc://backend")
    client.connect("inproc://frontend")
    worker.connect("inproc://backend")
    engine.register(frontend, backend, device, name="both")
    for number in range(20):
        worker.send(b"%d" % number)
    wait_until(lambda: flow_of(engine, "both", "backend").state == "stalled", engine=engine)
    while len(received) < 20:
        before = len(received)
        client.send(b"request")
        engine.step(DEADLINE_MS / 1000)
        turn_until_idle(engine)
        assert worker.recv(zmq.DONTWAIT) == b"request"
        assert len(received) > before
        expected = min(20, len(received) + 2)
        assert flow_of(engine, "both", "backend").sent == expected, "the loop slept although there was room"
    assert received == [b"%d" % number for number in range(20)]
