"""Times the addition of one more broker to those that stand already, and its removal, inside their process.

A peer whose `start` was called before takes the further pair by a second call of it. A peer that can take a pair away
again has `remove_last() -> None`; libzmq's proxy cannot be asked to end, so it has none.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import zmq

from bench.work import Deployment


def grow(
    context: zmq.Context[zmq.Socket[bytes]], brokers: Deployment, times: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Milliseconds of each addition and of each removal (none, if the peer cannot)."""
    peer: Any = importlib.import_module(brokers.module)
    more = [
        replace(brokers, frontends=(_fresh(brokers.frontends[0], n),), backends=(_fresh(brokers.backends[0], n),))
        for n in range(times)
    ]
    remove_last: Callable[[], None] | None = getattr(peer, "remove_last", None)
    added_ms = tuple(_taken_ms(partial(peer.start, context, one)) for one in more)
    removed_ms = tuple(_taken_ms(remove_last) for _ in range(times)) if remove_last is not None else ()
    return added_ms, removed_ms


def _fresh(endpoint: str, number: int) -> str:
    """An address of its own beside `endpoint`, which is a wildcard or a path."""
    return f"{endpoint}-{number}" if endpoint.startswith("ipc://") else endpoint


def _taken_ms(action: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - begun_s)
