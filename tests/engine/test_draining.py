"""Draining waits until nothing is held or unread."""

import pytest
import zmq

from pollbroker import STREAMER, Behaviour, Device, Engine, EngineError
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.clocks import Clock
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import Threads
from tests.support.types import Connect, MakeEngine, Socket


def test_drained_engine_holds_nothing(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", STREAMER, frontend="inproc://f", backend=ANY_PORT)
    push = engine.context.socket(zmq.PUSH)
    push.sndhwm = 0
    push.connect(endpoint(broker.frontend))
    pull = connect(zmq.PULL, endpoint(broker.backend), rcvhwm=0)
    for _ in range(5):
        for _ in range(3000):
            push.send(b"x")
        assert engine.drain(timeout_s=DEADLINE_S) == ()
        for _ in range(3000):
            pull.recv()
    assert flow_of(engine, "a").sent == 15_000
    push.close(linger=0)


def test_drain_names_who_could_not(engine: Engine, connect: Connect) -> None:
    for name in ("stalled", "paused", "idle"):
        engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    connect(zmq.PUSH, endpoint(engine.brokers["stalled"].frontend)).send(b"x")
    wait_until(lambda: flow_of(engine, "stalled").state == "stalled")
    engine.pause("paused")
    assert sorted(engine.drain(timeout_s=0.02)) == ["paused", "stalled"]
    connect(zmq.PULL, endpoint(engine.brokers["stalled"].backend))
    wait_until(lambda: flow_of(engine, "stalled").sent)
    engine.resume("paused")
    assert engine.drain(timeout_s=DEADLINE_S) == ()


def test_many_may_drain_at_once(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    with Threads() as pool:  # and nobody runs the engine
        drains = [pool.submit(engine.drain, DEADLINE_S) for _ in range(4)]
        assert [drain.result(DEADLINE_S) for drain in drains] == [()] * 4


def test_drained_engine_is_drained_once(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    assert engine.drain(2.0) == ()
    clock.now_s += 3.0
    engine.step()
    assert engine.next_timer_s() is None
    assert not caplog.records


@pytest.mark.parametrize("how", ["drain", "pause_and_flush"])
def test_run_ends_with_the_brokers_however_long_somebody_would_have_waited(make_engine: MakeEngine, how: str) -> None:
    context = zmq.Context[Socket]()
    engine = make_engine(context)
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    with Threads() as pool:
        run = pool.submit(engine.run)
        assert getattr(engine, how)(3600.0) == ()
        pool.submit(context.term)
        run.result(DEADLINE_S)


class Keeps(Behaviour):
    """A behaviour that keeps every message."""

    max_held = 1
    held = 0

    def on_message(self, port: str, frames: list[bytes]) -> None:
        self.held += 1


@pytest.mark.parametrize("broker", ["a", None])
def test_drain_ends_with_the_broker_whose_behaviour_keeps_messages(
    make_engine: MakeEngine, connect: Connect, broker: str | None
) -> None:
    context = zmq.Context[Socket]()
    engine = make_engine(context)
    device = Device("keeps", ports={"frontend": zmq.PULL}, behaviour=Keeps)
    added = engine.add("a", device, frontend=ANY_PORT)
    connect(zmq.PUSH, endpoint(added.frontend)).send(b"x")
    wait_until(lambda: flow_of(engine, "a", "behaviour").held, engine=engine)
    drained = engine.begin_drain(3600.0, broker=broker)
    with Threads() as pool:
        run = pool.submit(engine.run)
        pool.submit(context.term)
        run.result(DEADLINE_S)
    if broker is None:
        assert drained.result(0) == ("a",)
    else:
        with pytest.raises(EngineError, match=r"brokers\.a: it is ended meanwhile, and 1 message was not delivered"):
            drained.result(0)
