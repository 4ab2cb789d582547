"""The relay of many tutorials: a thread for each direction, both on the same two sockets, frame by frame.

ZeroMQ sockets are not thread-safe, and in a two-way device one thread receives from the socket to which the other
sends. So this relay may hang or abort its process at any moment; it runs in a process of its own, with deadlines. A
STREAMER has one direction and one thread, so there the relay is correct.
"""

from __future__ import annotations

import threading

import zmq

from bench.peers.sockets import DEVICES, addresses, bound_pairs
from bench.work import Deployment


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair and start a thread for each of its directions."""
    pairs = bound_pairs(context, deployment)
    bound = addresses(pairs)  # read before other threads use the sockets
    for frontend, backend in pairs:
        directions = [(frontend, backend)]
        if DEVICES[deployment.device].two_way:
            directions.append((backend, frontend))
        for direction in directions:
            threading.Thread(target=_relay, args=direction, daemon=True).start()
    return bound


def _relay(source: zmq.Socket[bytes], sink: zmq.Socket[bytes]) -> None:
    while True:
        frame = source.recv()
        sink.send(frame, zmq.SNDMORE if source.getsockopt(zmq.RCVMORE) else 0)
