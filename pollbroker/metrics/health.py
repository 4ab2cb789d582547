"""Whether an engine lives, and whether it is ready."""

import threading
from collections.abc import Callable, Iterator
from typing import Final

from pollbroker.engine import Engine
from pollbroker.errors import PollbrokerError
from pollbroker.states import BrokerState

LIVES_WITHIN_S: Final = 2.0
"""How long the loop may take to make a call before it is said not to live."""

_WELL: Final = frozenset({BrokerState.RUNNING, BrokerState.PAUSED, BrokerState.HANDING_OVER})
"""States of a broker of which nothing has to be said. One that is paused is so because somebody asked for that."""


def why_not_alive(engine: Engine, within_s: float = LIVES_WITHIN_S) -> str | None:
    """Why the engine does not live; None if its loop makes calls."""
    made = threading.Event()
    try:
        engine.call_soon_threadsafe(made.set)
    except PollbrokerError as error:
        return str(error)
    if made.wait(within_s):  # also where a loop of the program's own makes the turns, so that nobody is in `run`
        return None
    return f"the loop has not made a call within {within_s:g} s" if engine.running else "the engine does not run"


def why_not_ready(engine: Engine, is_ending: Callable[[], bool]) -> Iterator[str]:
    """Each reason why the engine is not ready: that it does not live, that it ends, or a broker that does not serve."""
    dead = why_not_alive(engine)
    if dead is not None:
        yield dead
        return
    if is_ending():
        yield "the engine is ending"
    for name, broker in list(engine.brokers.items()):
        if broker.state not in _WELL:
            yield f"brokers.{name}: {broker.state}{f': {broker.error}' if broker.error else ''}"
