"""The commands that take time: DRAIN, and PAUSE with a time limit.

Whatever a command waits for is done by the engine's turns. So a command begins here, and its reply is made in a later
turn, when the future of the engine is resolved.
"""

from concurrent.futures import Future
from typing import Final

from pollbroker.control.replies import DONE, TIMEOUT, Frames, Later, refusal
from pollbroker.control.steered import Steered
from pollbroker.errors import EngineError
from pollbroker.remaining import describe_what_is_left

DRAIN_S: Final = 5.0
"""How long DRAIN may take if it does not say."""

LONGEST_WAIT_S: Final = 1e6
"""The longest time limit: eleven days, which every timer of the system can wait."""

_SHOWN_BROKERS: Final = 10
"""How many brokers a reply describes that were not done in time."""


def drain(engine: Steered, name: str | None, wait_s: float) -> Later:
    """Wait until a broker, or every broker, holds nothing and has nothing to read."""
    drained = engine.begin_drain(wait_s, broker=name)
    return Later(drained, lambda: _outcome(engine, drained, f"not drained within {wait_s:g} s"))


def pause_and_flush(engine: Steered, name: str | None, wait_s: float) -> Later:
    """Pause a broker, or every broker, and wait until what it holds is delivered."""
    flushed = engine.begin_pause_and_flush(wait_s, broker=name)
    return Later(flushed, lambda: _outcome(engine, flushed, f"not done within {wait_s:g} s"))


def _outcome(engine: Steered, left: "Future[tuple[str, ...]]", verdict: str) -> Frames:
    names = left.result()
    if not names:
        return DONE
    described = [f"brokers.{name}: {verdict}: {_describe(engine, name)}" for name in names[:_SHOWN_BROKERS]]
    if len(names) > _SHOWN_BROKERS:
        described.append(f"and {len(names) - _SHOWN_BROKERS} more brokers")
    return refusal("; ".join(described), TIMEOUT)


def _describe(engine: Steered, name: str) -> str:
    try:
        statistics = engine.broker_statistics(name)
    except EngineError:
        return "it has ended"
    return describe_what_is_left(statistics)
