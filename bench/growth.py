"""Measures how long it takes to add one more broker, and to remove it, in a process that has many.

A peer adds another pair when its `start` is called again. A peer that can remove a pair has `remove_last() -> None`;
libzmq's proxy has not, because it cannot be told to end.
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
    """Return the milliseconds of each addition, and of each removal (empty if the peer cannot remove a pair)."""
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
    """Return another address like `endpoint`, which is a wildcard or a path."""
    return f"{endpoint}-{number}" if endpoint.startswith("ipc://") else endpoint


def _taken_ms(action: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - begun_s)
