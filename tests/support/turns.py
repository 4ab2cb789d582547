"""Turns of an engine that nobody runs."""

import threading
from collections.abc import Callable
from typing import Any

from pollbroker import Engine, EngineError
from tests.support.deadline import wait_until


def turn_until_idle(engine: Engine) -> int:
    """Make turns until there is nothing to do; how many."""
    turns = 1
    while engine.step():
        turns += 1
        assert turns < 10_000, "the engine does not come to rest"
    return turns


def rest(engine: Engine) -> None:
    """Make turns until there is nothing to do, or the deadline is over."""
    wait_until(lambda: not engine.step())


def within_a_turn(engine: Engine, call: Callable[[], Any]) -> Any:
    """What a call gives, or raises, in a turn of an engine that nobody runs."""
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(call())
        except Exception as error:  # noqa: BLE001 - raised below
            results.append(error)

    engine.call_soon_threadsafe(run)
    engine.step()
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result


def can_step(engine: Engine) -> bool:
    """Make a turn; return False if somebody else runs the engine."""
    try:
        engine.step()
    except EngineError:
        return False
    return True


def makes_no_turns(engine: Engine) -> bool:
    """True if nothing but two questions brings about a turn of a running engine within 0.3 s, but for one turn. Up to
    three times 50 ms go before, since turns may be left that belong to what has just happened."""

    def rests(seconds: float) -> bool:
        before = engine.statistics().turns
        threading.Event().wait(seconds)
        return engine.statistics().turns - before <= 2

    return any(rests(0.05) for _ in range(3)) and rests(0.3)
