"""Waiting for what has to happen, up to a deadline: a test never sleeps to let things settle."""

import threading
import time
from collections.abc import Callable

from pollbroker import Engine

DEADLINE_MS = 10_000
"""How long a test waits for what has to happen before it fails. Nothing is expected to take as long."""

DEADLINE_S = DEADLINE_MS / 1000


def wait_until(
    condition: Callable[[], object], *, engine: Engine | None = None, deadline_s: float = DEADLINE_S
) -> None:
    """Wait for a condition, up to the deadline; with an `engine` that nobody runs, by making turns of it."""
    pause = threading.Event()
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, "the condition did not come true before the deadline"
        if engine is not None:
            engine.step(0.001)
        else:
            pause.wait(0.001)
