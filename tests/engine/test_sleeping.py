"""When the engine sleeps, for how long, and that an idle one makes no turns."""

import math
import socket as net
import threading
import time

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Engine
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.clocks import Clock
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.pollers import SleeplessPoller
from tests.support.streamers import Peers
from tests.support.turns import rest
from tests.support.types import Connect, MakeEngine


def test_step_sleeps_for_its_timeout_unless_a_timer_is_due(make_engine: MakeEngine) -> None:
    clock, poller = Clock(), SleeplessPoller()
    engine = make_engine(poller=poller, clock=clock)
    rest(engine)

    def asked(*timeout_ms: int | None) -> int | None:
        poller.asked.clear()
        engine.step(*(None if one is None else one / 1000 for one in timeout_ms))
        (sleep_ms,) = poller.asked
        return sleep_ms

    assert [asked(), asked(0), asked(5), asked(None)] == [0, 0, 5, None]
    engine.call_later(1e9, print)
    assert [asked(7), asked(None)] == [7, 86_400_000]
    engine.call_later(3.0, print)
    assert [asked(), asked(2999), asked(3000), asked(3001), asked(None)] == [0, 2999, 3000, 3000, 3000]
    soon = engine.call_later(0.0011, print)
    assert [asked(1), asked(5), asked(None)] == [1, 2, 2]  # not a moment before it is due
    soon.cancel()
    assert asked(None) == 3000
    clock.now_s += 4.0
    assert [asked(None), asked(9)] == [0, 9]


@pytest.mark.parametrize(
    ("timeout_s", "sleep_ms"), [(-0.001, 0), (-5, 0), (-math.inf, 0), (1e15, 86_400_000), (math.inf, 86_400_000)]
)
def test_step_takes_a_negative_time_for_now_and_a_very_long_one_for_a_day(
    make_engine: MakeEngine, timeout_s: float, sleep_ms: int
) -> None:
    poller = SleeplessPoller()
    engine = make_engine(poller=poller)
    rest(engine)
    poller.asked.clear()
    engine.step(timeout_s)
    assert poller.asked == [sleep_ms]


def test_step_does_not_sleep_with_work_left(make_engine: MakeEngine) -> None:
    poller = SleeplessPoller()
    engine = make_engine(poller=poller)
    engine.add("a", STREAMER, frontend="inproc://in", backend="inproc://out")
    assert engine.next_timer_s() == 0.0
    poller.asked.clear()
    engine.step(1.0)
    assert poller.asked == [0]
    rest(engine)
    assert engine.next_timer_s() is None


def turns_meanwhile(engine: Engine, wait_s: float) -> int:
    """The number of turns that the engine makes while another thread's timer runs. The two calls cost one turn each."""
    before = engine.statistics().turns
    over = threading.Event()
    timer = threading.Timer(wait_s, over.set)
    timer.start()
    assert over.wait(DEADLINE_S)
    timer.join()
    return engine.statistics().turns - before


def test_idle_engine_makes_no_turns(engine: Engine, connect: Connect) -> None:
    for number in range(10):
        device = (QUEUE, STREAMER)[number % 2]
        broker = engine.add(f"a{number}", device, frontend=ANY_PORT, backend=ANY_PORT)
    Peers(connect, broker).check()
    reader, writer = net.socketpair()
    engine.add_reader(reader.fileno(), print)
    engine.call_later(3600, print)
    assert engine.drain(timeout_s=DEADLINE_S) == ()
    wait_until(lambda: turns_meanwhile(engine, 0.05) <= 2)  # what libzmq has still to say of the connections
    assert turns_meanwhile(engine, 0.15) <= 2
    engine.remove_reader(reader.fileno())
    reader.close()
    writer.close()


@pytest.mark.parametrize("situation", ["no consumer", "full consumer", "paused"])
def test_queued_messages_without_a_taker_make_no_turns(engine: Engine, connect: Connect, situation: str) -> None:
    body = b"x" * (1_000_000 if situation == "full consumer" else 100)  # more than the kernel's buffers take
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, backend_options={"sndhwm": 1})
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0)
    if situation == "full consumer":
        connect(zmq.PULL, endpoint(broker.backend), rcvhwm=1)
    if situation == "paused":
        engine.pause("a")
    for _ in range(100):
        push.send(body)
    wait_until(lambda: situation == "paused" or flow_of(engine, "a").state == "stalled")
    wait_until(lambda: turns_meanwhile(engine, 0.05) <= 3)
    assert turns_meanwhile(engine, 0.15) <= 20  # the kernel may take a little more; a loop that spins makes thousands
    if situation == "paused":
        engine.resume("a")
    if situation != "full consumer":
        pull = connect(zmq.PULL, endpoint(broker.backend))
        assert [pull.recv() for _ in range(100)] == [body] * 100


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
        """Return True if a hundred looks, which take 100 ms or more, cost less than half a core."""
        cpu_s.append(time.process_time())
        return len(cpu_s) > 100 and cpu_s[-1] - cpu_s[-100] < 0.05

    wait_until(fell_asleep)
    engine.stop()
    wait_until(lambda: not engine.running)
