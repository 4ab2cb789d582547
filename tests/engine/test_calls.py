"""Calls from other threads, callbacks, and what wakes the loop for them."""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pollbroker import QUEUE, STREAMER, DeviceError, EndpointError, Engine, EngineError
from pollbroker.calls import Calls
from pollbroker.engine import engine_loop
from pollbroker.waker import Waker
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT
from tests.support.clocks import Clock
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.streamers import Peers
from tests.support.threads import Threads, in_thread, running
from tests.support.transports import holding
from tests.support.turns import can_step, within_a_turn
from tests.support.types import Connect, MakeEngine


def test_results_and_exceptions_come_back_to_the_caller(engine: Engine, connect: Connect) -> None:
    """Every thread works with brokers of its own, while traffic flows, and is told the truth about each."""
    peers = Peers(connect, engine.add("busy", STREAMER, frontend=ANY_PORT, backend=ANY_PORT))
    stop = threading.Event()

    def traffic() -> int:
        count = 0
        while not stop.is_set():
            for _ in range(100):
                peers.push.send(b"%d" % count)
                count += 1
            for number in range(count - 100, count):
                assert peers.pull.recv() == b"%d" % number
        return count

    def steer(thread: int) -> int:
        called: list[int] = []
        for number in range(15):
            name = f"{thread}-{number}"
            broker = engine.add(name, QUEUE, frontend=f"inproc://{name}-f", backend=f"inproc://{name}-b")
            assert broker.name == name
            with pytest.raises(EngineError, match=rf"^brokers.{name}: the name is taken"):
                engine.add(name, QUEUE, frontend=f"inproc://{name}-f2", backend=f"inproc://{name}-b2")
            engine.pause(name)
            assert engine.statistics().brokers[name].state == "paused"
            engine.resume(name)
            engine.call_soon_threadsafe(called.append, number)
            engine.call_later(0, called.append, number)
            with pytest.raises(EngineError, match=r"^no broker is named 'nobody'"):
                engine.remove("nobody")
            with pytest.raises(DeviceError, match="is not a device"):
                engine.add(name + "-", "nothing", frontend="inproc://f")
            with pytest.raises(EndpointError, match=rf"^brokers.{name}-.backend: "):
                engine.add(name + "-", STREAMER, frontend=f"inproc://{name}-f3", backend="tcp://192.0.2.1:1")
            assert engine.remove(name).name == name
            assert name not in engine.brokers
        wait_until(lambda: len(called) == 30)
        return thread

    with Threads() as pool:
        flowing = pool.submit(traffic)
        threads = [pool.submit(steer, thread) for thread in range(6)]
        results = [thread.result(60) for thread in threads]
        stop.set()
        count = flowing.result(DEADLINE_S)
    assert results == list(range(6))
    assert list(engine.brokers) == ["busy"]
    flow = flow_of(engine, "busy")
    assert (flow.received, flow.sent, flow.dropped) == (count, count, 0)


def test_call_within_a_turn_is_made_though_another_thread_is_about_to_run_the_engine(make_engine: MakeEngine) -> None:
    """The other thread waits until the turn has ended."""
    engine = make_engine()

    def start_and_call() -> int:
        in_thread(engine.start).result(DEADLINE_S)
        wait_until(lambda: engine.running)
        return len(engine.statistics().brokers)

    assert in_thread(lambda: within_a_turn(engine, start_and_call)).result(DEADLINE_S) == 0


def test_calls_work_while_nobody_runs_the_engine(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()

    def use(thread: int) -> None:
        for number in range(20):
            name = f"{thread}-{number}"
            engine.add(name, STREAMER, frontend=f"inproc://{name}-f", backend=f"inproc://{name}-b")
            engine.statistics()
            engine.remove(name)

    with Threads() as pool:
        for future in [pool.submit(use, thread) for thread in range(4)]:
            future.result(DEADLINE_S)
    assert not engine.brokers


def test_callers_are_answered_while_run_begins_and_ends(make_engine: MakeEngine) -> None:
    engine = make_engine()
    stop = threading.Event()

    def ask() -> int:
        count = 0
        while not stop.is_set():
            assert engine.statistics().pump
            count += 1
        return count

    with Threads() as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        for _ in range(50):
            engine.start()
            engine.stop()
            wait_until(lambda: can_step(engine))
        stop.set()
        assert all(future.result(DEADLINE_S) for future in asking)


def test_call_from_within_waits_for_the_next_turn(make_engine: MakeEngine) -> None:
    engine = make_engine()
    turns: list[int] = []

    def again() -> None:
        turns.append(engine.statistics().turns)
        if len(turns) < 4:
            (engine.call_soon_threadsafe if len(turns) % 2 else lambda fn: engine.call_later(0, fn))(again)

    engine.call_later(0, again)
    wait_until(lambda: len(turns) == 4, engine=engine)
    assert turns == sorted(set(turns)), "each had a turn of its own"


def test_thread_that_waits_for_its_own_call_makes_no_call_of_others(make_engine: MakeEngine) -> None:
    """Nobody runs the engine when the thread can have its lock. The other call is made in a turn."""
    engine = make_engine()
    engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    callers: list[int] = []
    inside, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        assert go_on.wait(DEADLINE_S)

    engine.call_later(0, wait)
    with Threads() as threads:
        stepping = threads.submit(lambda: engine.step(0))
        assert inside.wait(DEADLINE_S)
        engine.call_soon_threadsafe(lambda: callers.append(threading.get_ident()))
        pausing = threads.submit(lambda: engine.pause("a"))
        wait_until(lambda: engine_loop(engine).calls.pending() == 2)
        go_on.set()
        stepping.result(DEADLINE_S)
        pausing.result(DEADLINE_S)
    assert not callers
    engine.step(0)
    assert callers == [threading.get_ident()]
    assert engine.brokers["a"].state == "paused"


def test_call_that_raises_is_logged_and_the_next_comes(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    came = threading.Event()

    def fails() -> None:
        raise ValueError("in a call")

    engine.call_later(0, fails)
    engine.call_soon_threadsafe(fails)
    engine.call_later(0.001, came.set)
    assert came.wait(DEADLINE_S)
    wait_until(lambda: caplog.text.count("ValueError: in a call") == 2)


def test_call_that_a_timer_brings_about_has_its_turn_in_the_next(make_engine: MakeEngine) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    called: list[str] = []
    engine.call_later(1.0, engine.call_soon_threadsafe, called.append, "third")
    engine.call_later(1.0, called.append, "first")
    engine.call_soon_threadsafe(called.append, "second")
    clock.now_s += 1.0
    engine.step()
    assert called == ["first", "second"]
    engine.step()
    assert called == ["first", "second", "third"]


# Whether an asyncio loop runs in this thread is found out without importing asyncio.
def test_thread_may_sleep_in_a_process_that_has_not_imported_asyncio(monkeypatch: pytest.MonkeyPatch) -> None:
    waker = Waker()
    calls = Calls(waker, tuple)
    monkeypatch.delitem(sys.modules, "asyncio", raising=False)
    assert calls.may_sleep()
    assert "asyncio" not in sys.modules
    calls.close()
    waker.close()


def test_broken_waker_raises() -> None:
    waker = Waker()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, waker.fileno())  # no byte reaches the waker any more
    os.close(nothing)
    with pytest.raises(BrokenPipeError):
        waker.wake()
    waker.close()
    waker.wake()  # after the end there is nobody to wake


def test_many_wake_ups_are_drained_at_once() -> None:
    waker = Waker()
    for _ in range(20_000):  # more than a socket's buffer holds
        waker.wake()
    waker.drain_waker()
    waker.wake()
    waker.drain_waker()
    waker.close()


# The default of each time limit, as the signatures say.
@pytest.mark.parametrize(
    ("call", "patience_s"), [(lambda e: e.remove("a"), 1.0), (Engine.drain, 5.0), (Engine.close, 1.0)]
)
def test_default_timeout_is_the_one_in_the_signature(
    make_engine: MakeEngine, connect: Connect, call: Callable[[Engine], Any], patience_s: float
) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    holding(engine, connect)
    assert engine.next_timer_s() is None
    with running(lambda: call(engine)) as waiting:
        wait_until(lambda: engine.next_timer_s())
        assert engine.next_timer_s() == patience_s
        clock.now_s += patience_s - 0.1
        assert engine.next_timer_s() == pytest.approx(0.1)
        assert waiting.is_alive()
        clock.now_s += 0.2
