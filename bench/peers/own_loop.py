"""What the peers share that run pollbroker in the loop of a program: the loop has a thread, because the main thread of
the process waits for commands in a blocking read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

Addresses = tuple[tuple[str, ...], tuple[str, ...]]

BIND_DEADLINE_S = 30.0


def start_thread(run: Callable[[Future[Addresses]], object]) -> Addresses:
    """Call `run` in a thread, and return the addresses when it has put them into the future that it is given."""
    bound: Future[Addresses] = Future()
    threading.Thread(target=run, args=(bound,), daemon=True).start()
    return bound.result(BIND_DEADLINE_S)
