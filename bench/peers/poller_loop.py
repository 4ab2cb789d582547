"""The loop that the ZeroMQ guide writes: `zmq.Poller`, `recv_multipart`, `send_multipart`, all pairs in one thread.

One message a wake-up from every socket that is ready, as in the guide's `rrbroker`; sends block.
"""

from __future__ import annotations

import threading

import zmq

from bench.peers.sockets import DEVICES, addresses, bound_pairs
from bench.work import Deployment


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair and relay for all of them in one loop."""
    pairs = bound_pairs(context, deployment)
    bound = addresses(pairs)
    sinks = dict(pairs)
    if DEVICES[deployment.device].two_way:
        sinks |= {backend: frontend for frontend, backend in pairs}
    threading.Thread(target=_relay, args=(sinks,), daemon=True).start()
    return bound


def _relay(sinks: dict[zmq.Socket[bytes], zmq.Socket[bytes]]) -> None:
    poller = zmq.Poller()
    for source in sinks:
        poller.register(source, zmq.POLLIN)
    while True:
        for source, _ in poller.poll():
            sinks[source].send_multipart(source.recv_multipart())
