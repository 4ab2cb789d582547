"""What each device moves, over each transport, and what its capture socket is given."""

import pytest
import zmq

from pollbroker import FILTER, FORWARDER, QUEUE, REFLECTOR, STREAMER, BrokerState, Device, Engine, Route
from tests.support.accounts import flow_of
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, MakeEngine, Socket

# -- devices -----------------------------------------------------------------------------------------------------------


def test_request_and_reply_through_a_queue(engine: Engine, connect: Connect) -> None:
    broker = engine.add("q", QUEUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
    clients = [connect(zmq.REQ, *broker.frontend.endpoints) for _ in range(3)]
    workers = [connect(zmq.REP, *broker.backend.endpoints) for _ in range(2)]
    for i in range(10):
        for number, client in enumerate(clients):
            client.send_multipart([b"", b"%d" % number, b"%d" % i])
        answered = 0
        while answered < len(clients):
            for worker in workers:
                if worker.poll(1):
                    worker.send_multipart([*worker.recv_multipart(), b"ok"])
                    answered += 1
        for number, client in enumerate(clients):
            assert client.recv_multipart() == [b"", b"%d" % number, b"%d" % i, b"ok"]


def test_only_what_is_subscribed_crosses_a_forwarder(engine: Engine, connect: Connect) -> None:
    broker = engine.add("f", FORWARDER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
    publisher = connect(zmq.XPUB, *broker.frontend.endpoints)
    subscriber = connect(zmq.SUB, *broker.backend.endpoints, subscribe=b"wanted")
    assert publisher.recv() == b"\x01wanted"
    for number in range(20):
        publisher.send_multipart([b"unwanted", b"x"])
        publisher.send_multipart([b"wanted", b"%d" % number])
    for number in range(20):
        assert subscriber.recv_multipart() == [b"wanted", b"%d" % number]
    subscriber.unsubscribe(b"wanted")
    assert publisher.recv() == b"\x00wanted"
    assert flow_of(engine, "f").received == 20  # the rest was never sent to the broker


def test_a_filter_passes_its_topics(engine: Engine, connect: Connect) -> None:
    options = {"subscribe": [b"a", b"b"]}
    broker = engine.add(
        "f", FILTER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*", frontend_options=options
    )
    everything = engine.add("e", FILTER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
    for one, expected in ((broker, [b"a1", b"b1"]), (everything, [b"a1", b"c1", b"b1"])):
        publisher = connect(zmq.XPUB, *one.frontend.endpoints)
        subscriber = connect(zmq.SUB, *one.backend.endpoints, subscribe=b"")
        publisher.recv()

        def joined(publisher: Socket = publisher, subscriber: Socket = subscriber) -> bool:
            publisher.send(b"a-are-you-there")
            return bool(subscriber.poll(1))

        wait_until(joined)
        for message in (b"a1", b"c1", b"b1"):
            publisher.send(message)
        received: list[bytes] = []
        while len(received) < len(expected):
            message = subscriber.recv()
            if message != b"a-are-you-there":
                received.append(message)
        assert received == expected


@pytest.mark.parametrize("peer_type", [zmq.REQ, zmq.DEALER])
def test_a_reflector_sends_back(engine: Engine, connect: Connect, peer_type: int) -> None:
    broker = engine.add("echo", REFLECTOR, frontend="tcp://127.0.0.1:*")
    peers = [connect(peer_type, *broker.frontend.endpoints) for _ in range(3)]
    for number, peer in enumerate(peers):
        peer.send_multipart([b"%d" % number, b"x"])
    for number, peer in enumerate(peers):
        assert peer.recv_multipart() == [b"%d" % number, b"x"]


def test_handlers_change_drop_and_multiply(engine: Engine, connect: Connect) -> None:
    def handle(frames: list[bytes]) -> list[bytes] | None:
        return None if frames == [b"drop"] else [b"seen", *frames]

    def repeat(frames: list[bytes]):  # type: ignore[no-untyped-def]
        for number in range(int(frames[0])):
            yield [b"%d" % number]

    for name, handler in (("one", handle), ("many", repeat)):
        device = Device(name, zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=handler),))
        engine.add(name, device, frontend=f"inproc://{name}-in", backend=f"inproc://{name}-out")
    context = engine.context
    with context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        push.linger = 0
        pull.rcvtimeo = DEADLINE_MS
        push.connect("inproc://one-in")
        pull.connect("inproc://one-out")
        for message in (b"1", b"drop", b"2"):
            push.send(message)
        assert [pull.recv_multipart(), pull.recv_multipart()] == [[b"seen", b"1"], [b"seen", b"2"]]
        assert (flow_of(engine, "one").filtered, flow_of(engine, "one").dropped) == (1, 1)
    with context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        push.linger = 0
        pull.rcvtimeo = DEADLINE_MS
        push.connect("inproc://many-in")
        pull.connect("inproc://many-out")
        for message in (b"3", b"0", b"2"):
            push.send(message)
        assert [pull.recv() for _ in range(5)] == [b"0", b"1", b"2", b"0", b"1"]
        wait_until(lambda: flow_of(engine, "many").filtered == 1)
        flow = flow_of(engine, "many")
        assert (flow.received, flow.added, flow.sent) == (3, 3, 5)


def unroutable_after_a_reply(engine: Engine, worker: Socket, requests: list[list[bytes]], whose: bytes) -> bool:
    before = flow_of(engine, "q", "backend")
    worker.send_multipart([next(r[0] for r in requests if r[1].startswith(whose)), b"gone?"])
    wait_until(lambda: flow_of(engine, "q", "backend").received > before.received)
    return flow_of(engine, "q", "backend").unroutable > before.unroutable


# A mandatory ROUTER and a client that has left: libzmq's own proxy ends with EHOSTUNREACH.
def test_departed_client_costs_its_own_replies_only(engine: Engine, connect: Connect) -> None:
    broker = engine.add("q", QUEUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
    leaving = connect(zmq.DEALER, *broker.frontend.endpoints)
    staying = connect(zmq.DEALER, *broker.frontend.endpoints)
    worker = connect(zmq.DEALER, *broker.backend.endpoints)
    requests = []
    for number in range(5):
        leaving.send(b"leaving %d" % number)
        staying.send(b"staying %d" % number)
        requests += [worker.recv_multipart(), worker.recv_multipart()]
    leaving.close()
    wait_until(lambda: unroutable_after_a_reply(engine, worker, requests, b"leaving"))
    before = flow_of(engine, "q", "backend").unroutable
    for request in requests:
        worker.send_multipart([request[0], b"", *request[1:]])
    for number in range(5):
        assert staying.recv_multipart() == [b"", b"staying %d" % number]
    wait_until(lambda: flow_of(engine, "q", "backend").unroutable == before + 5)
    assert broker.state == BrokerState.RUNNING


# -- capture -----------------------------------------------------------------------------------------------------------


def ask(client: Socket, worker: Socket, question: bytes) -> bool:
    client.send(question)
    assert worker.recv() == question
    worker.send(b"answer")
    assert client.recv() == b"answer"
    return False


def test_capture_with_prefixes_says_the_direction(engine: Engine, connect: Connect) -> None:
    broker = engine.add(
        "q",
        QUEUE,
        frontend="tcp://127.0.0.1:*",
        backend="tcp://127.0.0.1:*",
        capture="tcp://127.0.0.1:*",
        capture_type=zmq.PUSH,
        capture_prefixes=(b"in", b"out"),
    )
    assert broker.capture is not None
    reader = connect(zmq.PULL, *broker.capture.endpoints)
    client = connect(zmq.REQ, *broker.frontend.endpoints)
    worker = connect(zmq.REP, *broker.backend.endpoints)
    wait_until(lambda: reader.poll(0) or ask(client, worker, b"are copies read?"))
    ask(client, worker, b"question")
    request = next(copy for copy in iter(reader.recv_multipart, None) if copy[-1] == b"question")
    reply = reader.recv_multipart()
    assert (request[0], request[2:]) == (b"in", [b"", b"question"])
    assert (reply[0], reply[2:]) == (b"out", [b"", b"answer"])
    assert request[1] == reply[1]


@pytest.mark.parametrize("registered", [False, True])
def test_captured_copies_tell_where_they_came_from(
    make_engine: MakeEngine, connect: Connect, context: zmq.Context[Socket], registered: bool
) -> None:
    engine = make_engine(context)
    prefixes = (b"request", b"reply")
    if registered:
        sockets = [context.socket(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.PUSH)]
        for name, socket in zip(("in", "out", "copies"), sockets, strict=True):
            socket.bind(f"inproc://{name}")
        engine.register(sockets[0], sockets[1], QUEUE, capture=sockets[2], capture_prefixes=prefixes)
    else:
        engine.add(
            "q",
            QUEUE,
            frontend="inproc://in",
            backend="inproc://out",
            capture="inproc://copies",
            capture_type=zmq.PUSH,
            capture_prefixes=prefixes,
        )
    client, worker, reader = (
        connect(kind, f"inproc://{name}") for kind, name in ((zmq.REQ, "in"), (zmq.REP, "out"), (zmq.PULL, "copies"))
    )
    client.send(b"ask")
    wait_until(lambda: worker.poll(0), engine=engine)
    assert worker.recv() == b"ask"
    worker.send(b"answer")
    wait_until(lambda: client.poll(0), engine=engine)
    assert client.recv() == b"answer"
    copies = [reader.recv_multipart(), reader.recv_multipart()]
    assert [(copy[0], *copy[2:]) for copy in copies] == [(b"request", b"", b"ask"), (b"reply", b"", b"answer")]


# -- endpoints ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp://127.0.0.1:*", "ipc://{}/broker", "inproc://broker"])
def test_messages_pass_over_every_transport(engine: Engine, connect: Connect, transport: str, tmp_path: object) -> None:
    endpoint = transport.format(tmp_path)
    unique = endpoint if endpoint.startswith("tcp") else endpoint + "-back"
    broker = engine.add("s", STREAMER, frontend=endpoint, backend=unique)
    context = engine.context
    with context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
        push.linger = 0
        pull.rcvtimeo = DEADLINE_MS
        push.connect(broker.frontend.endpoints[0])
        assert broker.backend is not None
        pull.connect(broker.backend.endpoints[0])
        push.send_multipart([b"1", b"", b"2"])
        assert pull.recv_multipart() == [b"1", b"", b"2"]


def test_port_may_have_several_endpoints_bound_and_connected(engine: Engine, connect: Connect) -> None:
    outer = engine.add("outer", STREAMER, frontend="tcp://127.0.0.1:*", backend="@tcp://127.0.0.1:*")
    assert outer.backend is not None
    inner = engine.add(
        "inner",
        STREAMER,
        frontend=["tcp://127.0.0.1:*", f">{outer.backend.endpoints[0]}"],
        backend="tcp://127.0.0.1:*,tcp://127.0.0.1:*",
    )
    assert inner.backend is not None
    assert len(set(inner.backend.endpoints)) == 2
    consumer = connect(zmq.PULL, inner.backend.endpoints[1])
    for number, endpoint in enumerate((*outer.frontend.endpoints, inner.frontend.endpoints[0])):
        connect(zmq.PUSH, endpoint).send(b"%d" % number)
        assert consumer.recv() == b"%d" % number
