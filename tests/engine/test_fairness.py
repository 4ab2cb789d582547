"""However busy a broker is, the others, the other direction, timers and control have their turn."""

from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Device, Route
from tests.support.accounts import flow_of
from tests.support.clocks import Passing
from tests.support.streamers import lent, streamer, streamers
from tests.support.turns import rest, turn_until_idle
from tests.support.types import Connect, MakeEngine, Socket


# A flooded broker keeps the others waiting for one burst only, however many messages are queued in it.
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


# A burst, in messages and in bytes, is what one direction of a broker moves in one turn.
@pytest.mark.parametrize(
    ("arguments", "burst"), [({"burst_messages": 3}, 3), ({"burst_bytes": 45}, 5), ({}, 1000), ({"burst_bytes": 1}, 1)]
)
def test_a_turn_moves_one_burst(
    make_engine: MakeEngine, connect: Connect, arguments: dict[str, Any], burst: int
) -> None:
    engine = make_engine(**arguments)
    producer, frontend, backend = lent(connect)
    engine.register(frontend, backend, STREAMER, name="a")
    connect(zmq.PULL, "inproc://backend", rcvhwm=0)
    rest(engine)
    for _ in range(burst * 2):
        producer.send(b"123456789")
    engine.step()
    sent = [flow_of(engine, "a").sent]
    while engine.step():
        sent.append(flow_of(engine, "a").sent)
    assert {later - sooner for sooner, later in zip([0, *sent], sent, strict=False)} <= {0, burst}
    assert flow_of(engine, "a").sent == burst * 2


# After a time limit no burst begins in a turn, and the brokers that had none come first in the next.
def test_no_burst_begins_in_a_turn_that_has_lasted_long(
    make_engine: MakeEngine, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pollbroker.loop._LONGEST_WORK_S", 0.25)
    engine = make_engine(clock=Passing())
    peers = streamers(engine, connect, 5)
    served: list[list[int]] = []
    for _ in range(2):
        for producer, _ in peers:
            producer.send(b"x")
        while sum(map(len, served)) < 5:
            engine.step()
            served.append([i for i, (_, consumer) in enumerate(peers) if consumer.poll(0) and consumer.recv()])
        assert [len(turn) for turn in served if turn] == [2, 2, 1]
        assert sorted(i for turn in served for i in turn) == [0, 1, 2, 3, 4]
        served.clear()
        rest(engine)
