"""Brokers that are removed: in traffic, while they hold messages, and by several callers at once."""

import socket as net
from typing import Any

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Device, Engine, EngineError, Port, Route
from pollbroker.broker import working_broker
from pollbroker.port import WorkingPort
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.clocks import Clock
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.streamers import Peers, lent, streamer_with
from tests.support.threads import Threads
from tests.support.transports import can_receive, holding, holding_streamer
from tests.support.turns import within_a_turn
from tests.support.types import Connect, MakeEngine


def test_removed_broker_says_what_it_could_not_deliver(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", holding_streamer(), frontend=ANY_PORT, backend=ANY_PORT)
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    for number in range(5):
        push.send_multipart([b"%d" % number, b"x"])
    wait_until(lambda: flow_of(engine, "a").held)
    statistics = engine.remove("a", timeout_s=0.01)
    flow = statistics.flows["frontend"]
    assert (statistics.state, flow.received, flow.sent, flow.held) == ("removed", 1, 0, 1)
    assert "a" not in engine.brokers


@pytest.mark.parametrize("paused", [False, True])
def test_removed_broker_delivers_what_it_holds_if_somebody_comes_in_time(
    engine: Engine, connect: Connect, paused: bool
) -> None:
    broker = engine.add("a", holding_streamer(), frontend=ANY_PORT, backend=ANY_PORT)
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    for number in range(5):
        push.send_multipart([b"%d" % number, b"x"])
    wait_until(lambda: flow_of(engine, "a").held)
    if paused:
        engine.pause("a")
    with Threads() as pool:
        removal = pool.submit(engine.remove, "a", timeout_s=DEADLINE_S)
        wait_until(lambda: broker.state == "removing")
        with pytest.raises(EngineError, match=r"^brokers\.a: it is removing"):
            engine.pause("a")
        with pytest.raises(EngineError, match=r"^brokers\.a: the name is taken"):
            engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        pull = connect(zmq.PULL, endpoint(broker.backend))
        flow = removal.result(DEADLINE_S).flows["frontend"]
    assert (flow.received, flow.sent, flow.held) == (1, 1, 0)
    assert pull.recv_multipart() == [b"0", b"x"]
    assert not pull.poll(20)


def test_broker_is_removed_only_when_its_sockets_are_closed(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    seen: list[str] = []
    close = WorkingPort.close

    def close_and_look(port: WorkingPort) -> None:
        close(port)
        seen.append(broker.state)

    monkeypatch.setattr(WorkingPort, "close", close_and_look)
    broker.remove()
    assert (seen, broker.state) == (["removing"] * 2, "removed")


def test_one_broker_removed_by_two_is_removed_once(make_engine: MakeEngine, connect: Connect) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    engine.start()
    broker = engine.add("a", holding_streamer(), frontend=ANY_PORT, backend=ANY_PORT)
    connect(zmq.PUSH, endpoint(broker.frontend)).send(b"held")
    wait_until(lambda: flow_of(engine, "a").held)
    with Threads() as pool:
        first = pool.submit(engine.remove, "a", timeout_s=0.1)
        wait_until(lambda: broker.state == "removing")
        second = engine.begin_removal("a", timeout_s=3600.0)
        clock.now_s += 0.1
        engine.call_soon_threadsafe(lambda: None)  # so that it looks at the clock
        results = [first.result(DEADLINE_S), second.result(DEADLINE_S)]
    assert [result.flows["frontend"].held for result in results] == [1, 1]
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)


@pytest.mark.parametrize("how", ["thread", "timer", "reader", "call"])
def test_broker_is_removed_in_full_traffic(engine: Engine, connect: Connect, how: str) -> None:
    """The engine and the other brokers go on, whoever removes a broker and at whichever point of a turn."""
    peers = Peers(connect, engine.add("staying", STREAMER, frontend=ANY_PORT, backend=ANY_PORT))
    reader, writer = net.socketpair()
    for number in range(10):
        name = f"a{number}"
        broker = engine.add(name, STREAMER, frontend=f"inproc://f{number}", backend=f"inproc://b{number}")
        push, pull = engine.context.socket(zmq.PUSH), engine.context.socket(zmq.PULL)
        push.sndhwm = pull.rcvhwm = 0
        push.connect(endpoint(broker.frontend))
        pull.connect(endpoint(broker.backend))
        for _ in range(5000):
            push.send(b"x")

        def remove(name: str = name) -> None:
            engine.remove_reader(reader.fileno())
            engine.remove(name)

        if how == "thread":
            remove()
        elif how == "timer":
            engine.call_later(0, remove)
        elif how == "call":
            engine.call_soon_threadsafe(remove)
        else:
            engine.add_reader(reader.fileno(), remove)
            writer.send(b"x")
        wait_until(lambda b=broker: b.state == "removed")  # type: ignore[misc]
        assert broker.error is None
        flow = broker.statistics().flows["frontend"]
        assert flow.received == flow.sent + flow.held
        received = 0
        while received < flow.sent:
            assert pull.recv() == b"x"
            received += 1
        assert not pull.poll(0)
        for socket in (push, pull):
            socket.close(linger=0)
        peers.check()
    reader.close()
    writer.close()


def test_others_are_undisturbed_while_brokers_come_and_go(engine: Engine, connect: Connect) -> None:
    peers = Peers(connect, engine.add("busy", STREAMER, frontend=ANY_PORT, backend=ANY_PORT))
    messages = 20_000

    def come_and_go() -> int:
        number = 0
        while flow_of(engine, "busy").sent < messages:
            for _ in range(5):
                engine.add(f"a{number}", QUEUE, frontend=f"inproc://f{number}", backend=f"inproc://b{number}")
                number += 1
            for gone in range(number - 5, number):
                engine.remove(f"a{gone}")
        return number

    with Threads() as pool:
        coming = pool.submit(come_and_go)
        for number in range(messages):
            peers.push.send_multipart([b"%d" % number, b""])
        for number in range(messages):
            assert peers.pull.recv_multipart() == [b"%d" % number, b""]
        assert coming.result(DEADLINE_S) > 0
    flow = flow_of(engine, "busy")
    assert (flow.received, flow.sent, flow.held, flow.dropped) == (messages, messages, 0, 0)


def test_broker_that_holds_a_message_is_removed_while_nobody_runs_the_engine(
    make_engine: MakeEngine, connect: Connect
) -> None:
    engine = make_engine()
    holding(engine, connect)
    final = engine.remove("a", timeout_s=0.05)
    assert (final.state, final.flows["frontend"].held, final.flows["frontend"].sent) == ("removed", 1, 0)
    assert not engine.brokers


# Readers come before brokers: here one removes a broker that has been told of room, and has not had its turn.
def test_message_is_offered_once_more_by_a_removal_within_a_turn(make_engine: MakeEngine, connect: Connect) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    producer, frontend, backend = lent(connect)
    engine.register(frontend, backend, STREAMER, name="a")
    for message in (b"held", b"left in the source"):
        producer.send(message)
    wait_until(lambda: flow_of(engine, "a").state == "stalled", engine=engine)
    clock.now_s += 7.0
    here, there = net.socketpair()
    finals: list[Any] = []

    def remove() -> None:
        here.recv(1)
        finals.append(engine.remove("a"))

    engine.add_reader(here.fileno(), remove)
    consumer = connect(zmq.PULL, "inproc://backend")
    there.send(b"x")
    wait_until(lambda: finals, engine=engine)
    (final,) = finals
    flow = final.flows["frontend"]
    assert (final.state, flow.held, flow.sent, flow.stalls, flow.stalled_s) == ("removed", 0, 1, 1, 7.0)
    assert consumer.recv() == b"held"
    engine.step()
    assert engine.next_timer_s() is None  # the broker has left no timer
    here.close()
    there.close()


# The room comes in the very turn of the removal, so the flow has not been told of it.
@pytest.mark.parametrize("no_drop", [False, True])
def test_removal_within_a_turn_offers_what_is_stalled(make_engine: MakeEngine, connect: Connect, no_drop: bool) -> None:
    engine = make_engine()
    kinds = (zmq.SUB, zmq.XPUB) if no_drop else (zmq.PULL, zmq.PUSH)
    producer = connect(zmq.PUB if no_drop else zmq.PUSH, linger=0)
    frontend, backend = (producer.context.socket(kind) for kind in kinds)
    consumer = producer.context.socket(zmq.SUB if no_drop else zmq.PULL)
    if no_drop:
        backend.xpub_nodrop = 1
        frontend.subscribe(b"")
        consumer.subscribe(b"")
    for socket in (backend, consumer):
        socket.set_hwm(1)
    frontend.bind("inproc://frontend")
    backend.bind("inproc://backend")
    producer.connect("inproc://frontend")
    consumer.connect("inproc://backend")
    device = Device("d", *kinds, (Route("frontend", "backend"),))
    for socket in (frontend, backend, producer, backend):
        socket.getsockopt(zmq.EVENTS)  # who is connected, and what is subscribed to
    engine.register(frontend, backend, device, name="a")
    for number in range(5):
        producer.send(b"%d" % number)
    wait_until(lambda: flow_of(engine, "a").state in ("stalled", "retrying"), engine=engine)
    held = flow_of(engine, "a").sent
    received: list[bytes] = []

    def remove() -> Any:
        while consumer.poll(0):
            received.append(consumer.recv())
        return engine.remove("a")

    final = within_a_turn(engine, remove).flows["frontend"]
    assert (final.held, final.sent) == (0, held + 1)
    while consumer.poll(0):
        received.append(consumer.recv())
    assert received == [b"%d" % number for number in range(held + 1)]


def test_removed_broker_tells_how_many_messages_it_left_unread(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    broker = engine.add("s", holding_streamer(), frontend=ANY_PORT, backend=ANY_PORT)
    pusher = connect(zmq.PUSH, broker.frontend.endpoints[0])
    for number in range(50):
        pusher.send(b"%d" % number)
    wait_until(lambda: engine.broker_statistics("s").flows["frontend"].held, engine=engine)
    flow = engine.broker_statistics("s").flows["frontend"]
    assert (flow.received, flow.held, flow.unread) == (1, 1, 0)
    unread = 0

    def all_came() -> bool:
        nonlocal unread
        unread += working_broker(broker).hub.flows[0].pump.count_unread(1)
        return unread == 40

    wait_until(all_came)  # forty were read, so that nine are left
    wait_until(lambda: can_receive(working_broker(broker).port("frontend")))
    flow = engine.remove("s", timeout_s=0).flows["frontend"]
    assert (flow.received, flow.held) == (1, 1)
    assert 1 <= flow.unread <= 9


# What is left unread at an XPUB is subscriptions: with the broker gone they are of no use to anybody.
def test_ports_that_may_not_receive_at_the_end_leave_nothing_unread(
    make_engine: MakeEngine, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """A REP that owes a reply may not, nor may a REQ that has asked nothing."""
    device = Device("rep_req", zmq.REP, zmq.REQ, (Route("frontend", "backend"), Route("backend", "frontend")))
    engine = make_engine()
    idle = engine.add("idle", device, frontend=ANY_PORT, backend=ANY_PORT)
    asked = engine.add("asked", device, frontend=ANY_PORT, backend=ANY_PORT)
    client, worker = connect(zmq.REQ, endpoint(asked.frontend)), connect(zmq.REP, endpoint(asked.backend))
    client.send(b"request")
    wait_until(lambda: worker.poll(0), engine=engine)
    for broker in (idle, asked):
        flows = broker.remove(timeout_s=0).flows.values()
        assert [flow.unread for flow in flows] == [0, 0]
    assert not caplog.records


def test_subscriptions_that_are_left_unread_are_no_loss(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    broker = engine.add("news", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    subscriber = connect(zmq.SUB, broker.backend.endpoint)
    subscriber.setsockopt(zmq.SUBSCRIBE, b"a")
    engine.pause("news")  # so that nobody reads it
    wait_until(lambda: can_receive(working_broker(broker).port("backend")), engine=engine)
    flow = engine.remove("news", timeout_s=0).flows["backend"]
    assert (flow.received, flow.unread) == (0, 0)


# -- over the wire -----------------------------------------------------------------------------------------------------


LARGE = b"x" * 4_000_000  # more than the kernel keeps for a consumer that does not read


def test_wire_ports_leave_a_message_without_a_consumer_at_its_source(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    for number in range(5):
        push.send(b"%d" % number)
    wait_until(lambda: flow_of(engine, "a").state == "stalled", engine=engine)
    flow = flow_of(engine, "a")
    assert (flow.received, flow.held, flow.stalls) == (0, 0, 1)
    final = engine.remove("a", timeout_s=DEADLINE_S).flows["frontend"]  # it waits for nothing
    assert (final.received, final.held) == (0, 0)
    assert 1 <= final.unread <= 5


def peer_that_does_not_read(port: Port, kind: bytes) -> net.socket:
    """A peer, without libzmq, that shakes hands and then leaves everything in the kernel."""
    address, _, number = endpoint(port).removeprefix("tcp://").rpartition(":")
    peer = net.create_connection((address, int(number)), timeout=DEADLINE_S)
    ready = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) + bytes([4, len(ready)]) + ready)
    return peer


def all_that_comes(peer: net.socket) -> bytes:
    """Read up to the end of the stream."""
    came = b""
    while more := peer.recv(1 << 20):
        came += more
    return came


@pytest.mark.parametrize("handled", [False, True])
def test_wire_port_that_is_removed_writes_what_it_has_accepted(engine: Engine, connect: Connect, handled: bool) -> None:
    device = streamer_with(lambda frames: frames) if handled else STREAMER
    broker = engine.add("a", device, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    with peer_that_does_not_read(broker.backend, b"PULL") as consumer, Threads() as pool:
        push.send(LARGE)
        wait_until(lambda: flow_of(engine, "a").received)
        flow = flow_of(engine, "a")
        assert (flow.received, flow.sent, flow.held) == (1, 0, 1)
        assert engine.drain(timeout_s=0.01) == ("a",)
        removal = pool.submit(engine.remove, "a", timeout_s=DEADLINE_S)
        wait_until(lambda: broker.state == "removing")
        assert all_that_comes(consumer).endswith(LARGE)
        final = removal.result(DEADLINE_S).flows["frontend"]
    assert (final.received, final.sent, final.held) == (1, 1, 0)


def test_wire_port_that_is_removed_writes_the_copies_that_it_has_accepted(engine: Engine, connect: Connect) -> None:
    broker = engine.add(
        "a",
        STREAMER,
        frontend=ANY_PORT,
        backend=ANY_PORT,
        capture=ANY_PORT,
        capture_type=zmq.PUSH,
        transport="wire",
    )
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    with peer_that_does_not_read(broker.capture, b"PULL") as recorder, Threads() as pool:
        wait_until(lambda: [peer.port for peer in broker.peers()].count("capture"))
        push.send(LARGE)
        assert pull.recv() == LARGE
        removal = pool.submit(engine.remove, "a", timeout_s=DEADLINE_S)
        wait_until(lambda: broker.state == "removing")
        assert all_that_comes(recorder).endswith(LARGE)
        final = removal.result(DEADLINE_S).flows["frontend"]
    assert (final.sent, final.captured) == (1, 1)


@pytest.mark.parametrize("within", [True, False])
def test_wire_port_that_is_removed_in_vain_says_what_it_has_not_written(
    make_engine: MakeEngine, connect: Connect, within: bool
) -> None:
    engine = make_engine()
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    with peer_that_does_not_read(broker.backend, b"PULL"):
        push.send(LARGE)
        wait_until(lambda: flow_of(engine, "a").received, engine=engine)
        final = within_a_turn(engine, lambda: engine.remove("a")) if within else engine.remove("a", timeout_s=0.01)
    flow = final.flows["frontend"]
    assert (final.state, flow.received, flow.sent) == ("removed", 1, 0)
    assert (flow.held, flow.interrupted) == (1, 0)  # also if a part of it was written


def test_removal_does_not_wait_for_a_peer_of_a_wire_port_that_leaves(engine: Engine, connect: Connect) -> None:
    """What is queued for a client of a ROUTER is dropped when that leaves."""
    broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    worker = connect(zmq.DEALER, endpoint(broker.backend))
    with peer_that_does_not_read(broker.frontend, b"DEALER") as client, Threads() as pool:
        client.sendall(b"\x00\x08question")
        routing_id, _ = worker.recv_multipart()
        worker.send_multipart([routing_id, LARGE])
        wait_until(lambda: flow_of(engine, "a", "backend").held)
        removal = pool.submit(engine.remove, "a", timeout_s=3 * DEADLINE_S)
        wait_until(lambda: broker.state == "removing")
        client.close()
        flow = removal.result(DEADLINE_S).flows["backend"]
    assert (flow.received, flow.sent, flow.held, flow.interrupted) == (1, 0, 0, 1)


# A budget of one message is no sign that the broker is being removed.
def test_wire_port_goes_on_with_a_budget_of_one_message(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine(burst_messages=1)
    engine.start()
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0)
    pull = connect(zmq.PULL, endpoint(broker.backend), rcvhwm=1)
    bodies = [b"%d" % number + b"x" * 100_000 for number in range(200)]
    for body in bodies:
        push.send(body)
    assert [pull.recv() for _ in bodies] == bodies
