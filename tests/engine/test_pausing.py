"""A paused broker moves nothing, and keeps what it holds."""

import zmq

from pollbroker import FORWARDER
from pollbroker.broker import working_broker
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.streamers import streamer
from tests.support.transports import can_receive
from tests.support.turns import turn_until_idle
from tests.support.types import Connect, MakeEngine


def test_paused_broker_moves_nothing(make_engine: MakeEngine, connect: Connect) -> None:
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


def test_subscription_that_comes_during_a_pause_is_passed_on(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    broker = engine.add("a", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT)
    publisher = connect(zmq.XPUB, endpoint(broker.frontend))
    engine.pause("a")
    connect(zmq.SUB, endpoint(broker.backend)).subscribe(b"news")
    wait_until(lambda: can_receive(working_broker(broker).port("backend")), engine=engine)
    assert can_receive(working_broker(broker).port("backend"))  # to ask is not to take it
    engine.resume("a")
    wait_until(lambda: publisher.poll(0), engine=engine)
    assert publisher.recv() == b"\x01news"
