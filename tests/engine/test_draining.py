"""Draining waits until nothing is held or unread."""

import pytest
import zmq

from pollbroker import STREAMER, Engine
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.clocks import Clock
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import Threads
from tests.support.types import Connect, MakeEngine


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
