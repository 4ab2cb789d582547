"""Sinks that are full: a stalled flow sleeps, and is woken or tried again when there is room."""

import time
from dataclasses import replace

import zmq

from pollbroker import QUEUE, STREAMER, Device, Engine, Route
from pollbroker.broker import working_broker
from pollbroker.pump import RETRY, FlowState
from pollbroker.retry import RETRY_MOST_S
from tests.support.accounts import flow_of
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.streamers import streamer
from tests.support.turns import turn_until_idle
from tests.support.types import Connect, MakeEngine, Socket


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
    waiting = replace(QUEUE, name="waiting", slow_peer="wait")
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
    waiting = replace(QUEUE, name="waiting", slow_peer="wait")
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
    working = working_broker(broker)
    _, back = working.hub.flows
    wait_until(lambda: bool(working.retries.waiting), engine=engine)
    assert working.retries.waiting == (back,)
