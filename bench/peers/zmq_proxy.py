"""`zmq.proxy`, libzmq's own broker, in a thread a pair: the only way to run several, for it never returns."""

from __future__ import annotations

import threading

import zmq

from bench.peers.sockets import addresses, bound_pairs
from bench.work import Deployment


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair and hand each to a proxy."""
    pairs = bound_pairs(context, deployment)
    bound = addresses(pairs)  # read before another thread uses the sockets
    for frontend, backend in pairs:
        threading.Thread(target=zmq.proxy, args=(frontend, backend), daemon=True).start()
    return bound
