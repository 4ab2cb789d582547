"""A pause that flushes: nothing more is read, and what is held is delivered."""

import asyncio

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Device, Engine, EngineError, Route
from pollbroker.broker import working_broker
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT
from tests.support.clocks import Clock
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.transports import holding
from tests.support.turns import turn_until_idle
from tests.support.types import Connect, MakeEngine


def test_what_is_held_is_delivered_and_nothing_more_is_read(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    backend = holding(engine, connect)
    producer = connect(zmq.PUSH, engine.brokers["a"].frontend.endpoint)
    flushed = engine.begin_pause_and_flush(DEADLINE_S, broker="a")
    for number in range(10):
        producer.send(b"%d" % number)
        turn_until_idle(engine)
    assert not flushed.done()
    assert (engine.brokers["a"].state, flow_of(engine, "a").received) == ("paused", 1)
    consumer = connect(zmq.PULL, backend)
    wait_until(flushed.done, engine=engine)
    assert flushed.result() == ()
    assert consumer.recv() == b"held"
    turn_until_idle(engine)
    assert (flow_of(engine, "a").received, flow_of(engine, "a").state) == (1, "paused")
    turns = engine.statistics().turns
    engine.step(0.05)  # nor does it spin
    assert engine.statistics().turns == turns + 1
    engine.resume("a")
    turn_until_idle(engine)
    assert [consumer.recv() for _ in range(10)] == [b"%d" % number for number in range(10)]


def test_what_cannot_be_delivered_in_time_stays_held(make_engine: MakeEngine, connect: Connect) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    backend = holding(engine, connect)
    flushed = engine.begin_pause_and_flush(2.0, broker="a")
    longer = engine.begin_pause_and_flush(4.0)
    clock.now_s += 3.0
    turn_until_idle(engine)
    assert flushed.result() == ("a",)
    assert flow_of(engine, "a").state == "stalled"  # it is still offered, for the other
    clock.now_s += 2.0
    turn_until_idle(engine)
    assert longer.result() == ("a",)
    assert flow_of(engine, "a").state == "paused"
    consumer = connect(zmq.PULL, backend)
    turn_until_idle(engine)
    engine.step(0.02)
    assert not consumer.poll(0)
    again = engine.begin_pause_and_flush(DEADLINE_S, broker="a")  # a paused broker goes on delivering
    wait_until(again.done, engine=engine)
    assert (again.result(), consumer.recv()) == ((), b"held")


def test_broker_that_holds_nothing_is_paused_at_once(engine: Engine) -> None:
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    assert engine.pause_and_flush(DEADLINE_S) == ()
    assert engine.brokers["a"].state == "paused"
    assert engine.brokers["a"].pause_and_flush(DEADLINE_S)


def test_broker_that_is_resumed_meanwhile_is_named(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    backend = holding(engine, connect)
    flushed = engine.begin_pause_and_flush(DEADLINE_S, broker="a")
    turn_until_idle(engine)
    engine.resume("a")
    wait_until(flushed.done, engine=engine)
    assert flushed.result() == ("a",)
    producer = connect(zmq.PUSH, engine.brokers["a"].frontend.endpoint)
    consumer = connect(zmq.PULL, backend)
    producer.send(b"more")
    wait_until(lambda: flow_of(engine, "a").sent == 2, engine=engine)
    assert [consumer.recv() for _ in range(2)] == [b"held", b"more"]


def test_broker_may_be_removed_while_it_flushes(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    backend = holding(engine, connect)
    flushed = engine.begin_pause_and_flush(DEADLINE_S, broker="a")
    turn_until_idle(engine)
    removed = engine.begin_removal("a", timeout_s=DEADLINE_S)
    consumer = connect(zmq.PULL, backend)
    wait_until(lambda: removed.done() and flushed.done(), engine=engine)
    assert (flushed.result(), consumer.recv()) == ((), b"held")
    assert removed.result().flows["frontend"].sent == 1


def test_flush_that_has_ended_every_flow_removes_nothing(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    backend = holding(engine, connect)  # it has one flow
    flushed = engine.begin_pause_and_flush(DEADLINE_S, broker="a")
    consumer = connect(zmq.PULL, backend)
    wait_until(flushed.done, engine=engine)
    assert engine.brokers["a"].state == "paused"
    assert working_broker(engine.brokers["a"]).hub.flushing is False
    assert consumer.recv() == b"held"


def test_queues_of_the_wire_are_written_before_a_flush_is_done(engine: Engine, connect: Connect) -> None:
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, transport="wire")
    client = connect(zmq.DEALER, broker.frontend.endpoint, sndhwm=0)
    worker = connect(zmq.DEALER, broker.backend.endpoint, rcvhwm=1, rcvbuf=4096)
    for _ in range(100):
        client.send(bytes(20_000))
    wait_until(lambda: broker.statistics().flows["frontend"].held)
    assert not broker.pause_and_flush(0.01)
    flushed = engine.begin_pause_and_flush(DEADLINE_S, broker=broker)
    received = broker.statistics().flows["frontend"].received
    for _ in range(received):
        worker.recv_multipart()
    assert flushed.result(DEADLINE_S) == ()
    assert broker.statistics().flows["frontend"].sent == received


def test_a_handler_cannot_flush_its_own_broker(engine: Engine, connect: Connect) -> None:
    raised: list[str] = []

    def handler(frames: list[bytes]) -> list[bytes]:
        for which in ("own", None):
            try:
                engine.begin_pause_and_flush(0.0, broker=which)
            except EngineError as error:
                raised.append(str(error))
        try:
            engine.pause_and_flush()
        except EngineError as error:
            raised.append(str(error))
        return frames

    own = Device("own", zmq.ROUTER, None, (Route("frontend", "frontend", via=handler),))
    broker = engine.add("own", own, frontend=ANY_PORT)
    engine.add("other", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    client = connect(zmq.DEALER, broker.frontend.endpoint)
    client.send(b"x")
    assert client.recv() == b"x"
    assert [one.state for one in engine.brokers.values()] == ["running", "running"]
    assert ["its own handler" in text for text in raised] == [True, True, False]
    assert "from within a turn" in raised[2]


def test_flush_of_no_broker_is_refused(engine: Engine) -> None:
    with pytest.raises(EngineError, match="no broker is named 'x'"):
        engine.pause_and_flush(broker="x")


def test_flush_waits_for_coroutine_handlers() -> None:
    from pollbroker.asyncio import Engine as AsyncioEngine

    async def scenario() -> None:
        entered, may_end = asyncio.Event(), asyncio.Event()

        async def handler(frames: list[bytes]) -> list[bytes]:
            entered.set()
            await may_end.wait()
            return frames

        device = Device("slow", zmq.PULL, zmq.PUSH, (Route("frontend", "backend", via=handler),))
        with zmq.Context() as context, context.socket(zmq.PUSH) as push, context.socket(zmq.PULL) as pull:
            push.linger = pull.linger = 0
            async with AsyncioEngine() as engine:
                broker = await engine.add("slow", device, frontend=ANY_PORT, backend=ANY_PORT)
                push.connect(broker.frontend.endpoint)
                pull.connect(broker.backend.endpoint)
                push.send(b"x")
                await asyncio.wait_for(entered.wait(), DEADLINE_S)
                assert not await broker.pause_and_flush(0.01)
                flushing = asyncio.create_task(engine.pause_and_flush(DEADLINE_S, broker=broker))
                await asyncio.sleep(0)
                may_end.set()
                assert await asyncio.wait_for(flushing, DEADLINE_S) == ()
                assert broker.statistics().flows["frontend"].sent == 1
                assert broker.state == "paused"

    asyncio.run(scenario())


@pytest.mark.parametrize("broker", ["a", None])
def test_pause_is_told_once_and_so_is_its_end(engine: Engine, broker: str | None) -> None:
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    engine.add("paused", STREAMER, frontend=ANY_PORT, backend=ANY_PORT).pause()
    with engine.events() as events:
        for _ in range(2):
            assert engine.pause_and_flush(DEADLINE_S, broker=broker) == ()
        engine.resume("a")
        told = [(event.kind, event.broker) for event in iter(lambda: events.read(0), None) if event is not None]
    assert told == [("broker_paused", "a"), ("broker_resumed", "a")]


@pytest.mark.parametrize("broker", ["a", None])
def test_who_is_told_of_the_pause_may_remove_the_broker(engine: Engine, broker: str | None) -> None:
    for name in ("a", "b"):
        engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    end = engine.on_event(lambda event: event.kind == "broker_paused" and engine.remove(event.broker))
    assert engine.pause_and_flush(DEADLINE_S, broker=broker) == ()
    end()
    assert set(engine.brokers) == (set() if broker is None else {"b"})
