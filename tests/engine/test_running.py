"""`run`, `start`, `stop` and `step`, in any order and from any thread."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Engine, EngineError
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.pollers import SleeplessPoller
from tests.support.streamers import Peers
from tests.support.threads import Threads, running
from tests.support.turns import can_step, rest, turn_until_idle, within_a_turn
from tests.support.types import Connect, MakeEngine


def test_run_goes_on_until_stop(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    for _ in range(3):
        with running(engine.run):
            name = f"a{len(engine.brokers)}"
            Peers(connect, engine.add(name, STREAMER, frontend=ANY_PORT, backend=ANY_PORT)).check()
            engine.stop()


def test_stop_before_run_ends_it_after_one_turn(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.stop()
    with running(engine.run):
        pass
    assert engine.statistics().turns == 1
    with running(engine.run) as thread:  # the stop was used up
        wait_until(lambda: engine.statistics().turns > 1)
        assert thread.is_alive()
        engine.stop()


def test_stop_from_within_ends_run(make_engine: MakeEngine) -> None:
    engine = make_engine()
    engine.call_later(0, engine.stop)
    engine.run()
    engine.call_soon_threadsafe(engine.stop)
    engine.run()


def test_run_twice_is_an_error(make_engine: MakeEngine) -> None:
    engine = make_engine()
    with running(engine.run):
        wait_until(lambda: engine.statistics().turns)
        for call in (engine.run, engine.start, engine.step):
            with pytest.raises(EngineError, match=r"^the engine is running already"):
                call()
        engine.stop()


# The second call may come before the thread of the first has begun to run.
def test_start_twice_is_an_error(make_engine: MakeEngine) -> None:
    for _ in range(20):
        engine = make_engine()
        engine.start()
        with pytest.raises(EngineError, match=r"^the engine is running already"):
            engine.start()
        engine.close()


def test_start_from_many_threads_starts_one(make_engine: MakeEngine) -> None:
    engine = make_engine()
    barrier = threading.Barrier(4)

    def start() -> str:
        barrier.wait()
        try:
            engine.start()
        except EngineError as error:
            return str(error)
        return "started"

    with Threads() as pool:
        told = [future.result(DEADLINE_S) for future in [pool.submit(start) for _ in range(4)]]
    assert sorted(told) == ["started", *["the engine is running already"] * 3]
    engine.close()


def test_engine_can_be_started_again_after_stop(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    engine.start()
    peers = Peers(connect, engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT))
    for _ in range(5):
        peers.check()
        engine.stop()
        wait_until(lambda: can_step(engine))
        engine.start()
    peers.check()


def test_leaving_the_with_block_stops_and_closes(connect: Connect, implementation: Any, waiter: str) -> None:
    with Engine(pump=implementation.name, waiter=waiter) as engine:
        Peers(connect, engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)).check()
    with pytest.raises(EngineError, match=r"^the engine is closed"):
        engine.statistics()
    with pytest.raises(ZeroDivisionError), Engine(pump=implementation.name, waiter=waiter) as engine:
        raise ZeroDivisionError
    with pytest.raises(EngineError, match=r"^the engine is closed"), engine:
        raise AssertionError("a closed engine was entered")
    with Engine(pump=implementation.name, waiter=waiter) as engine:
        engine.close()


def test_step_returns_true_if_there_is_more_to_do(make_engine: MakeEngine) -> None:
    engine = make_engine(burst_messages=10)
    broker = engine.add("a", STREAMER, frontend="inproc://f", backend="inproc://b")
    push, pull = engine.context.socket(zmq.PUSH), engine.context.socket(zmq.PULL)
    push.connect(endpoint(broker.frontend))
    pull.connect(endpoint(broker.backend))
    while engine.step():
        pass
    for _ in range(35):
        push.send(b"x")
    wait_until(lambda: engine.step(0.001) is True)
    steps = 1
    while engine.step():
        steps += 1
        assert engine.next_timer_s() == 0.0 or steps > 3
    assert flow_of(engine, "a").sent == 35
    assert steps <= 5
    for socket in (push, pull):
        socket.close(linger=0)


def test_stopped_engine_makes_one_turn_that_does_not_sleep(make_engine: MakeEngine) -> None:
    poller = SleeplessPoller()
    engine = make_engine(poller=poller)
    rest(engine)
    poller.asked.clear()
    turns = engine.statistics().turns
    stopping = [engine.stopping]
    engine.stop()
    stopping.append(engine.stopping)
    engine.run()
    assert [*stopping, engine.stopping] == [False, True, False]
    assert (poller.asked, engine.statistics().turns) == ([0], turns + 1)


def test_run_sleeps_in_its_first_turn_unless_it_was_stopped(make_engine: MakeEngine) -> None:
    class Stopping(SleeplessPoller):
        def poll(self, timeout: int | None = None) -> list[tuple[Any, int]]:
            engine.stop()
            return super().poll(timeout)

    poller = Stopping()
    engine = make_engine(poller=poller)
    engine.run()
    assert poller.asked == [None]


def test_engine_that_is_about_to_run_cannot_be_started_again(waiter: str) -> None:
    may_run = threading.Event()

    class Late(Engine):
        def run(self) -> None:
            assert may_run.wait(DEADLINE_S)
            super().run()

    engine = Late(waiter=waiter)
    engine.start()
    with pytest.raises(EngineError, match=r"^the engine is running already$"):
        engine.start()
    may_run.set()
    wait_until(lambda: engine.running)
    for call in (engine.start, engine.run, engine.step):
        with pytest.raises(EngineError, match=r"^the engine is running already$"):
            call()
    engine.close()


def test_engine_runs_in_a_thread_of_that_name_which_ends_no_process(make_engine: MakeEngine) -> None:
    engine = make_engine()
    before = set(threading.enumerate())
    engine.start()
    (thread,) = set(threading.enumerate()) - before
    assert (thread.name, thread.daemon) == ("pollbroker", True)
    engine.close()
    assert not thread.is_alive()


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


@pytest.mark.parametrize("call", [Engine.run, Engine.step, Engine.drain, Engine.close, Engine.start])
def test_blocking_call_cannot_be_made_within_the_loop(engine: Engine, call: Callable[[Engine], Any]) -> None:
    told: list[str] = []

    def within() -> None:
        try:
            call(engine)
        except EngineError as error:
            told.append(str(error))

    engine.call_later(0, within)
    wait_until(lambda: told)
    engine.call_soon_threadsafe(within)
    wait_until(lambda: len(told) == 2)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (Engine.drain, r"^drain\(\) was called from within a turn of the loop, which it would wait for$"),
        (Engine.close, r"^close\(\) was called from within a turn of the loop; call stop\(\) there$"),
        (Engine.step, r"^step\(\) was called from within a turn of the loop$"),
        (Engine.run, r"^run\(\) was called from within a turn of the loop$"),
    ],
)
def test_error_of_a_blocking_call_within_the_loop_says_why(
    make_engine: MakeEngine, call: Callable[[Engine], Any], told: str
) -> None:
    engine = make_engine()
    with pytest.raises(EngineError, match=told):
        within_a_turn(engine, lambda: call(engine))
    engine.step()
