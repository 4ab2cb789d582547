"""The loop's rules, on both pumps and both waiters. Most tests make the turns themselves, so that nothing is chance."""

import threading
import time
from typing import Any

import pytest
import zmq

from pollbroker import (
    FILTER,
    FORWARDER,
    QUEUE,
    REFLECTOR,
    STREAMER,
    BrokerState,
    Device,
    Engine,
    EngineError,
    FlowStatistics,
    Route,
)
from pollbroker.broker import working_broker
from pollbroker.pump import RETRY, FlowState, Implementation
from pollbroker.working import RETRY_MOST_S
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, MakeEngine, Socket


def flow_of(engine: Engine, name: str, source: str = "frontend") -> FlowStatistics:
    return engine.statistics().brokers[name].flows[source]


def turn_until_idle(engine: Engine) -> int:
    """Make turns until there is nothing to do; how many."""
    turns = 1
    while engine.step():
        turns += 1
        assert turns < 10_000, "the engine does not come to rest"
    return turns


# Settling: a handler is given a request, and while it works a reply comes in at the backend. The send that follows
# processes the command that announces it, so ZMQ_FD falls silent. Only ZMQ_EVENTS, read after that send, still tells.
def test_reply_announced_during_a_send_is_not_slept_over(make_engine: MakeEngine, connect: Connect) -> None:
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
def test_request_announced_during_the_send_of_a_reply_is_not_slept_over(
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
def test_room_announced_during_a_receive_is_not_slept_over(make_engine: MakeEngine, connect: Connect) -> None:
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


def streamer(engine: Engine, connect: Connect, *, hwm: int = 1000, name: str = "s") -> tuple[Socket, str]:
    """A streamer on inproc sockets in the test's own context: its producer, and where consumers connect."""
    producer = connect(zmq.PUSH, linger=0)
    producer.set_hwm(0)
    frontend, backend = producer.context.socket(zmq.PULL), producer.context.socket(zmq.PUSH)
    frontend.set_hwm(0)
    backend.set_hwm(hwm)
    frontend.bind(f"inproc://{name}-frontend")
    backend.bind(f"inproc://{name}-backend")
    producer.connect(f"inproc://{name}-frontend")
    engine.register(frontend, backend, STREAMER, name=name)
    return producer, f"inproc://{name}-backend"


def test_a_stalled_flow_sleeps(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    producer, _ = streamer(engine, connect)
    for number in range(100):
        producer.send(b"%d" % number)
        turn_until_idle(engine)
    assert flow_of(engine, "s").state == "stalled"
    assert engine.next_timer_s() is None
    turn_until_idle(engine)
    before = engine.statistics().turns
    engine.step(0.2)  # asleep for all of it, though 99 messages wait at the source
    assert engine.statistics().turns == before + 1
    assert (flow_of(engine, "s").received, flow_of(engine, "s").held) == (1, 1)


def test_a_stalled_flow_is_woken_by_its_sink(engine: Engine, connect: Connect) -> None:
    producer, backend = streamer(engine, connect, hwm=1)
    for number in range(100):
        producer.send(b"%d" % number)
    wait_until(lambda: flow_of(engine, "s").state == "stalled")
    consumer = connect(zmq.PULL, backend, rcvhwm=1)
    for number in range(100):
        assert consumer.recv() == b"%d" % number
    flow = flow_of(engine, "s")
    assert flow.stalls > 0
    assert flow.stalled_s > 0
    assert flow.received == flow.sent == 100


# XPUB_NODROP: POLLOUT is always reported, the send says EAGAIN, and nothing wakes: only a timer can.
def test_xpub_nodrop_is_retried_by_a_timer_that_backs_off(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    broker = engine.add(
        "f",
        Device("nodrop", zmq.PULL, zmq.XPUB, (Route("frontend", "backend"),), backend_options={"xpub_nodrop": 1}),
        frontend="tcp://127.0.0.1:*",
        backend="inproc://nodrop",
        backend_options={"sndhwm": 2},
    )
    producer = connect(zmq.PUSH, *broker.frontend.endpoints)
    with engine.context.socket(zmq.SUB) as subscriber:
        subscriber.rcvhwm = 2
        subscriber.rcvtimeo = DEADLINE_MS
        subscriber.subscribe(b"")
        subscriber.connect("inproc://nodrop")
        for number in range(50):
            producer.send(b"%d" % number)
        wait_until(lambda: flow_of(engine, "f").state == "retrying", engine=engine)
        delays = []
        for _ in range(12):
            delay = engine.next_timer_s()
            assert delay is not None, "nothing will ever wake this flow"
            delays.append(delay)
            turns = engine.statistics().turns
            wait_until(lambda: engine.step(0.05) or flow_of(engine, "f").state != "retrying", engine=engine)
            wait_until(lambda: flow_of(engine, "f").state == "retrying", engine=engine)
            assert engine.statistics().turns - turns < 10
        assert max(delays) <= RETRY_MOST_S
        assert delays[-1] > RETRY_MOST_S / 2 > delays[0]
        received: list[bytes] = []
        while len(received) < 50:
            engine.step(0.001)
            while subscriber.poll(0):
                received.append(subscriber.recv())
        assert received == [b"%d" % number for number in range(50)]


def test_a_mandatory_router_with_one_slow_peer_waits_when_told_to(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    device = Device("waiting", zmq.PULL, zmq.ROUTER, (Route("frontend", "backend"),), slow_peer="wait")
    producer = connect(zmq.PUSH)
    frontend, backend = producer.context.socket(zmq.PULL), producer.context.socket(zmq.ROUTER)
    backend.router_mandatory = 1
    backend.sndhwm = 2
    frontend.bind("inproc://in")
    backend.bind("inproc://out")
    producer.connect("inproc://in")
    slow, fast = (connect(zmq.DEALER, "inproc://out", routing_id=name, rcvhwm=2) for name in (b"slow", b"fast"))
    engine.register(frontend, backend, device, name="w")
    for name in (b"slow", b"fast"):
        for number in range(20):
            producer.send_multipart([name, b"%d" % number])
    wait_until(lambda: flow_of(engine, "w").state == "retrying", engine=engine)
    seen: dict[Socket, list[bytes]] = {slow: [], fast: []}
    deadline = time.monotonic() + DEADLINE_MS / 1000
    while min(map(len, seen.values())) < 20:
        assert time.monotonic() < deadline
        engine.step(0.001)
        for peer, messages in seen.items():
            while peer.poll(0):
                messages.append(peer.recv())
    assert seen == {slow: [b"%d" % n for n in range(20)], fast: [b"%d" % n for n in range(20)]}
    assert flow_of(engine, "w").dropped == 0


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


def unroutable_after_a_reply(engine: Engine, worker: Socket, requests: list[list[bytes]], whose: bytes) -> bool:
    before = flow_of(engine, "q", "backend")
    worker.send_multipart([next(r[0] for r in requests if r[1].startswith(whose)), b"gone?"])
    wait_until(lambda: flow_of(engine, "q", "backend").received > before.received)
    return flow_of(engine, "q", "backend").unroutable > before.unroutable


# One burst each: a flooded broker keeps nobody waiting for longer than its burst, whatever is queued in it.
def test_a_flooded_broker_lets_the_others_have_their_turn(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine(burst_messages=10)
    flooded, flooded_backend = streamer(engine, connect, hwm=0, name="flooded")
    quiet, quiet_backend = streamer(engine, connect, hwm=0, name="quiet")
    connect(zmq.PULL, flooded_backend, rcvhwm=0)
    quiet_consumer = connect(zmq.PULL, quiet_backend)
    control = connect(zmq.PULL)
    control.bind("inproc://control")
    commander = connect(zmq.PUSH, "inproc://control")
    commands: list[bytes] = []
    engine.add_reader(control, lambda: commands.append(control.recv()))
    turn_until_idle(engine)
    for number in range(10_000):
        flooded.send(b"%d" % number)
    assert engine.step()
    for number in range(50):
        quiet.send(b"quiet %d" % number)
        commander.send(b"command %d" % number)
        before = flow_of(engine, "flooded").sent
        called: list[int] = []
        engine.call_soon_threadsafe(called.append, number)
        engine.call_later(0, called.append, number)
        for _ in range(2):
            assert engine.step()
        assert flow_of(engine, "flooded").sent - before <= 2 * 10
        assert quiet_consumer.recv(zmq.DONTWAIT) == b"quiet %d" % number
        assert commands[-1] == b"command %d" % number
        assert called == [number, number]
    engine.remove_reader(control)


def test_a_flooded_direction_lets_the_other_have_its_turn(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine(burst_messages=10)
    device = Device("both", zmq.DEALER, zmq.DEALER, (Route("frontend", "backend"), Route("backend", "frontend")))
    left, right = connect(zmq.DEALER), connect(zmq.DEALER)
    frontend, backend = left.context.socket(zmq.DEALER), left.context.socket(zmq.DEALER)
    for socket in (left, right, frontend, backend):
        socket.set_hwm(0)
    frontend.bind("inproc://left")
    backend.bind("inproc://right")
    left.connect("inproc://left")
    right.connect("inproc://right")
    engine.register(frontend, backend, device, name="both")
    turn_until_idle(engine)
    for number in range(10_000):
        left.send(b"%d" % number)
    assert engine.step()
    for number in range(50):
        right.send(b"back %d" % number)
        before = flow_of(engine, "both").sent
        for _ in range(2):
            assert engine.step()
        assert flow_of(engine, "both").sent - before <= 2 * 10
        assert left.recv(zmq.DONTWAIT) == b"back %d" % number


def test_a_paused_broker_moves_nothing(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    producer, backend = streamer(engine, connect)
    consumer = connect(zmq.PULL, backend)
    producer.send(b"before")
    turn_until_idle(engine)
    assert consumer.recv() == b"before"
    engine.pause("s")
    for number in range(100):
        producer.send(b"%d" % number)
        turn_until_idle(engine)
    assert not consumer.poll(0)
    assert (flow_of(engine, "s").received, flow_of(engine, "s").state) == (1, "paused")
    turns = engine.statistics().turns
    engine.step(0.05)  # nor does it spin
    assert engine.statistics().turns == turns + 1
    engine.resume("s")
    turn_until_idle(engine)
    assert [consumer.recv() for _ in range(100)] == [b"%d" % number for number in range(100)]


def test_a_broker_paused_while_it_holds_a_message_keeps_it(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    producer, backend = streamer(engine, connect)
    producer.send(b"held")
    turn_until_idle(engine)
    engine.pause("s")
    consumer = connect(zmq.PULL, backend)
    turn_until_idle(engine)
    engine.step(0.02)
    assert not consumer.poll(0)
    assert flow_of(engine, "s").held == 1
    engine.resume("s")
    turn_until_idle(engine)
    assert consumer.recv() == b"held"


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


def ask(client: Socket, worker: Socket, question: bytes) -> bool:
    client.send(question)
    assert worker.recv() == question
    worker.send(b"answer")
    assert client.recv() == b"answer"
    return False


@pytest.mark.parametrize("transport", ["tcp://127.0.0.1:*", "ipc://{}/broker", "inproc://broker"])
def test_every_transport(engine: Engine, connect: Connect, transport: str, tmp_path: object) -> None:
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


def test_several_endpoints_bound_and_connected(engine: Engine, connect: Connect) -> None:
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


def test_the_end_of_its_own_context_ends_run(make_engine: MakeEngine, implementation: Implementation) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    engine = make_engine(context)
    broker = engine.add("q", QUEUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
    runner = threading.Thread(target=engine.run)
    runner.start()
    context.term()
    runner.join(DEADLINE_MS / 1000)
    assert not runner.is_alive()
    assert (broker.state, broker.error) == (BrokerState.ENDED, None)


def test_an_engine_that_is_stepped_can_be_stopped_and_still_sleeps(make_engine: MakeEngine) -> None:
    engine = make_engine()
    turn_until_idle(engine)
    engine.stop()
    assert engine.stopping
    engine.step(0)  # hears the waker
    began_s = time.monotonic()
    engine.step(0.05)
    assert time.monotonic() - began_s > 0.04
    engine.run()  # ends after its first turn
    assert not engine.stopping


def test_an_interrupted_turn_loses_no_reader_and_no_broker(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    heard: list[str] = []

    def interrupt(name: str, socket: Socket) -> None:
        socket.recv(zmq.DONTWAIT)
        heard.append(name)
        if len(heard) == 1:
            raise KeyboardInterrupt

    senders = []
    for name in ("a", "b"):
        reader = connect(zmq.PAIR)
        reader.bind(f"inproc://{name}")
        senders.append(connect(zmq.PAIR, f"inproc://{name}"))
        engine.add_reader(reader, interrupt, name, reader)
    producer, backend = streamer(engine, connect)
    consumer = connect(zmq.PULL, backend)
    turn_until_idle(engine)
    for sender in senders:
        sender.send(b"1")
        sender.send(b"2")
    producer.send(b"message")
    with pytest.raises(KeyboardInterrupt):
        turn_until_idle(engine)
    turn_until_idle(engine)
    assert sorted(heard) == ["a", "a", "b", "b"]
    assert consumer.recv(zmq.DONTWAIT) == b"message"


def test_a_socket_has_one_reader(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    router, dealer, pair = connect(zmq.ROUTER), connect(zmq.DEALER), connect(zmq.PAIR)
    engine.register(router, dealer, QUEUE, name="q")
    with pytest.raises(EngineError, match=r"^add_reader: the socket is registered already, as brokers\.q\.frontend$"):
        engine.add_reader(router, print)
    heard: list[bytes] = []
    pair.bind("inproc://pair")
    engine.add_reader(pair, lambda: heard.append(pair.recv(zmq.DONTWAIT)))
    pairs = Device("pairs", zmq.PAIR, zmq.PAIR, (Route("frontend", "backend"),))
    with pytest.raises(EngineError, match=r"^brokers\.p\.backend: the socket is registered already, as a reader's$"):
        engine.register(connect(zmq.PAIR), pair, pairs, name="p")
    assert list(engine.brokers) == ["q"]
    connect(zmq.PAIR, "inproc://pair").send(b"still read")
    turn_until_idle(engine)
    assert heard == [b"still read"]
    assert engine.remove_reader(pair)
    engine.register(connect(zmq.PAIR), pair, pairs, name="p")


def test_what_was_to_be_done_at_the_end_can_be_taken_back(make_engine: MakeEngine) -> None:
    engine = make_engine()
    done: list[int] = []
    first, _ = engine.on_close(lambda: done.append(1)), engine.on_close(lambda: done.append(2))
    first.cancel()
    engine.close()
    assert done == [2]


# However many brokers are busy, a turn ends in time, and each has its burst before any has its second.
def test_many_busy_brokers_take_turns_and_leave_control_its_own(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect
) -> None:
    now_s = [0.0]

    def clock() -> float:
        now_s[0] += 0.0005  # so long does every burst take
        return now_s[0]

    engine = make_engine(context, burst_messages=10, clock=clock)
    names = [f"s{number}" for number in range(20)]
    for name in names:
        engine.add(name, STREAMER, frontend=f"inproc://{name}-in", backend=f"inproc://{name}-out")
        producer, _ = connect(zmq.PUSH, f"inproc://{name}-in"), connect(zmq.PULL, f"inproc://{name}-out")
        for _ in range(100):
            producer.send(b"x")
    sent = [0] * 20
    for _ in range(50):
        before = sum(sent)
        engine.step()
        sent = [flow_of(engine, name).sent for name in names]
        assert sum(sent) - before <= 50  # five bursts and no more
        assert max(sent) - min(sent) <= 10
    turn_until_idle(engine)
    assert [flow_of(engine, name).sent for name in names] == [100] * 20


@pytest.mark.parametrize("spin_s", [0.0001, 0.01])
def test_a_spinning_engine_relays_and_falls_asleep(make_engine: MakeEngine, connect: Connect, spin_s: float) -> None:
    engine = make_engine(spin_s=spin_s)
    engine.start()
    broker = engine.add("a", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
    producer = connect(zmq.PUSH, broker.frontend.endpoint)
    consumer = connect(zmq.PULL, broker.backend.endpoint)
    for number in range(50):
        producer.send(b"%d" % number)
        assert consumer.recv() == b"%d" % number
    cpu_s = [time.process_time()]

    def fell_asleep() -> bool:
        """Whether a hundred looks, which take 100 ms or more, cost less than half a core."""
        cpu_s.append(time.process_time())
        return len(cpu_s) > 100 and cpu_s[-1] - cpu_s[-100] < 0.05

    wait_until(fell_asleep)
    engine.stop()
    wait_until(lambda: not engine.running)


# Under gevent the poller runs the other greenlets: however busy the brokers are, they have their turn.
def test_a_poller_that_is_handed_in_is_asked_in_every_turn(
    context: zmq.Context[Socket], make_engine: MakeEngine, connect: Connect
) -> None:
    asked = 0

    class CountingPoller(zmq.Poller):
        def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
            nonlocal asked
            asked += 1
            return super().poll(timeout)

    engine = make_engine(context, poller=CountingPoller(), burst_messages=1)
    engine.add("a", STREAMER, frontend="inproc://in", backend="inproc://out")
    producer, consumer = connect(zmq.PUSH, "inproc://in"), connect(zmq.PULL, "inproc://out")
    for _ in range(50):
        producer.send(b"x")
    turns = 0
    while flow_of(engine, "a").sent < 50:
        engine.step()
        turns += 1
        assert asked == turns
    assert sum(consumer.recv() == b"x" for _ in range(50)) == 50


# A sink that refuses for a minute has been tried three thousand times: the delay is the longest, and a number still.
def test_the_delay_of_a_retry_has_a_bound(make_engine: MakeEngine) -> None:
    engine = make_engine()
    broker = engine.add("a", STREAMER, frontend="inproc://in", backend="inproc://out")
    turn_until_idle(engine)
    flow = working_broker(broker).hub.flows[0]
    flow.state, flow.retries = FlowState.RETRYING, 3000
    working_broker(broker).carry_out(RETRY)
    delay_s = engine.next_timer_s()
    assert delay_s is not None
    assert RETRY_MOST_S / 2 < delay_s <= RETRY_MOST_S


# What the kit of pollbroker.testing found: a mandatory ROUTER that has no peer left never says POLLOUT, so that a reply
# held for the last one was held for ever.
def test_reply_that_waits_for_a_client_is_dropped_when_the_last_client_leaves(
    make_engine: MakeEngine, connect: Connect
) -> None:
    engine = make_engine()
    waiting = Device("waiting", QUEUE.frontend, QUEUE.backend, QUEUE.routes, QUEUE.frontend_options, slow_peer="wait")
    client, worker = connect(zmq.DEALER, rcvhwm=1, routing_id=b"client"), connect(zmq.DEALER, sndhwm=0)
    frontend, backend = client.context.socket(zmq.ROUTER), client.context.socket(zmq.DEALER)
    frontend.router_mandatory = 1
    frontend.sndhwm = 1
    frontend.bind("inproc://frontend")
    backend.bind("inproc://backend")
    client.connect("inproc://frontend")
    worker.connect("inproc://backend")
    engine.register(frontend, backend, waiting, name="q")
    turn_until_idle(engine)
    for _ in range(5):
        worker.send_multipart([b"client", b"reply"])
    wait_until(lambda: flow_of(engine, "q", "backend").held, engine=engine)
    client.disconnect("inproc://frontend")

    def all_dropped() -> bool:
        client.getsockopt(zmq.EVENTS)  # the client's part of leaving
        flow = flow_of(engine, "q", "backend")
        return (flow.received, flow.held) == (5, 0)

    wait_until(all_dropped, engine=engine)
    flow = flow_of(engine, "q", "backend")
    assert flow.unroutable == 5 - flow.sent > 0


# Who waits for a DEALER's room is told of it: a timer would only wake an idle engine.
def test_only_what_waits_for_a_client_is_tried_by_a_timer(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    waiting = Device("waiting", QUEUE.frontend, QUEUE.backend, QUEUE.routes, QUEUE.frontend_options, slow_peer="wait")
    client, worker = connect(zmq.DEALER, rcvhwm=1, routing_id=b"client"), connect(zmq.DEALER, sndhwm=0)
    frontend, backend = client.context.socket(zmq.ROUTER), client.context.socket(zmq.DEALER)
    frontend.router_mandatory = 1
    frontend.sndhwm = 1
    frontend.bind("inproc://frontend")
    backend.bind("inproc://backend")
    client.connect("inproc://frontend")
    broker = engine.register(frontend, backend, waiting, name="q")
    turn_until_idle(engine)
    client.send(b"request")
    wait_until(lambda: flow_of(engine, "q").state == "stalled", engine=engine)
    assert engine.next_timer_s() is None
    engine.pause("q")  # so that the request stays where it is when a worker comes
    worker.connect("inproc://backend")
    for _ in range(5):
        worker.send_multipart([b"client", b"reply"])
    worker.disconnect("inproc://backend")
    engine.resume("q")
    wait_until(lambda: flow_of(engine, "q", "backend").held, engine=engine)
    there, back = working_broker(broker).hub.flows
    wait_until(lambda: back.armed, engine=engine)
    assert not there.armed
