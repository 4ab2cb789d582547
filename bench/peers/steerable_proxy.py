"""`zmq.proxy_steerable` in a thread for each pair: libzmq's broker with a control socket, which has the command
STATISTICS.

A control socket steers one proxy. That of the first pair is bound as the deployment says; the other pairs have none.
"""

from __future__ import annotations

import threading

import zmq

from bench.peers.sockets import addresses, bound_pairs
from bench.work import Deployment


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair and the control socket, and hand each pair to a proxy."""
    control: zmq.Socket[bytes] = context.socket(zmq.REP)
    control.setsockopt(zmq.LINGER, 0)
    control.bind(deployment.control)
    pairs = bound_pairs(context, deployment)
    bound = addresses(pairs)
    for index, (frontend, backend) in enumerate(pairs):
        steered = (frontend, backend, None, control) if index == 0 else (frontend, backend)
        threading.Thread(target=zmq.proxy_steerable, args=steered, daemon=True).start()
    return bound
