"""Timers: they come in their order and in time, and those that are cancelled do not."""

import math
import threading
import time

import pytest

from pollbroker import Engine
from pollbroker.engine import engine_loop
from pollbroker.timers import Timers
from tests.support.clocks import Clock
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import MakeEngine


def test_timers_come_in_their_order(make_engine: MakeEngine) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    came: list[str] = []
    for delay_s, name in ((3, "third"), (1, "first"), (2, "second"), (1, "first, added later"), (-5, "overdue")):
        engine.call_later(delay_s, came.append, name)
    assert engine.next_timer_s() == 0.0
    engine.step()
    assert came == ["overdue"]
    assert engine.next_timer_s() == 1.0
    clock.now_s += 0.5
    engine.step()
    assert (came[1:], engine.next_timer_s()) == ([], 0.5)
    clock.now_s += 1.5
    engine.step()
    assert came[1:] == ["first", "first, added later", "second"]
    clock.now_s += 100
    assert engine.next_timer_s() == 0.0
    engine.step()
    assert came[4:] == ["third"]
    assert engine.next_timer_s() is None


def test_cancelled_timer_does_not_come(make_engine: MakeEngine) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    came: list[str] = []
    first = engine.call_later(1, came.append, "first")
    engine.call_later(2, came.append, "second")
    first.cancel()
    assert first.cancelled()
    assert engine.next_timer_s() == 2.0
    third = engine.call_later(2, came.append, "third")
    engine.call_later(2, third.cancel)
    fourth = engine.call_later(2, came.append, "fourth")
    engine.call_later(1.9, fourth.cancel)
    soon = engine.call_soon_threadsafe(came.append, "soon")
    soon.cancel()
    clock.now_s += 2
    engine.step()
    assert came == ["second", "third"]
    third.cancel()


def test_timer_comes_in_time_while_the_engine_sleeps(engine: Engine) -> None:
    wait_until(lambda: engine.statistics().turns)
    came = threading.Event()
    begun = time.monotonic()
    engine.call_later(0.02, came.set)
    assert came.wait(DEADLINE_S)
    assert 0.02 <= time.monotonic() - begun < 1


def test_next_timer_is_in_seconds(make_engine: MakeEngine) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    assert engine.next_timer_s() is None
    engine.call_later(3.0, print)
    assert engine.next_timer_s() == 3.0
    clock.now_s += 5.0
    assert engine.next_timer_s() == 0.0


@pytest.mark.parametrize("delay_s", [30 * 86_400.0, math.inf])
def test_loop_of_the_program_is_asked_to_sleep_for_a_day_at_most(make_engine: MakeEngine, delay_s: float) -> None:
    """poll(2) takes 24.8 days, and `select` not much more."""
    clock = Clock()
    engine = make_engine(clock=clock)
    called: list[str] = []
    engine.call_later(delay_s, called.append, "called")
    for _ in range(29):
        assert engine.next_timer_s() == 86_400.0
        clock.now_s += 86_400.0
        engine.step()
    assert called == []
    clock.now_s += 86_400.0
    engine.step()
    assert called == ([] if math.isinf(delay_s) else ["called"])


def test_timer_that_is_set_by_a_timer_has_its_turn_in_the_next(make_engine: MakeEngine) -> None:
    clock = Clock()
    engine = make_engine(clock=clock)
    called: list[str] = []

    def first() -> None:
        called.append("first")
        engine.call_later(0.0, called.append, "third")

    engine.call_later(1.0, first)
    engine.call_later(1.0, called.append, "second")
    engine.step()
    assert called == []
    clock.now_s += 1.0
    engine.step()
    assert called == ["first", "second"]
    engine.step()
    assert called == ["first", "second", "third"]


def test_cancelled_timers_are_not_kept_until_their_time(make_engine: MakeEngine) -> None:
    engine = make_engine()
    kept = [engine.call_later(3600.0, print) for _ in range(50)]
    for _ in range(10_000):
        engine.call_later(3600.0, print).cancel()
    assert len(engine_loop(engine).timers) <= 200
    assert not any(handle.cancelled() for handle in kept)
    assert engine.next_timer_s() == pytest.approx(3600.0, abs=DEADLINE_S)


def test_another_thread_may_ask_whether_a_timer_is_due() -> None:
    """It takes none out of those that the engine's thread looks at."""
    timers = Timers(lambda: 0.0)
    cancelled = timers.add(1, print)
    cancelled.cancel()
    assert not timers.has_any()
    timers.add(2, print)
    assert timers.has_any()
    assert len(timers) == 2
