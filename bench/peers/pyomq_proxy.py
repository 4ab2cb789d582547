"""`pyomq.proxy`: the broker of another implementation of ZeroMQ, which is written in Rust, in a thread a pair."""

from __future__ import annotations

import threading
from typing import Any

import pyomq
import zmq

from bench.peers.sockets import bound_pairs
from bench.work import Deployment


def start(context: zmq.Context[Any], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair and hand each to a proxy. Their sockets are of a context of pyomq, instead of the given one."""
    del context
    own: Any = pyomq.Context()
    pairs: list[tuple[Any, Any]] = bound_pairs(own, deployment)
    frontends, backends = (tuple(_address(pair[side]) for pair in pairs) for side in (0, 1))
    for frontend, backend in pairs:
        threading.Thread(target=pyomq.proxy, args=(frontend, backend), daemon=True).start()
    return frontends, backends


def _address(socket: Any) -> str:
    address: bytes = socket.getsockopt(pyomq.LAST_ENDPOINT)
    return address.rstrip(b"\0").decode()
