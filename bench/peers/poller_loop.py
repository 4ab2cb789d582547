"""The loop that a good program without pollbroker would have: `zmq.Poller`, `recv_multipart`, `send_multipart`.

All pairs are in one thread. A source that is ready is read until it is empty, because asking the poller before each
message costs more than the message. It is read up to `BURST_MESSAGES` times, so that a busy source cannot starve the
others. Sends block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import zmq

from bench.peers.sockets import DEVICES, addresses, bound_pairs
from bench.work import Deployment

BURST_MESSAGES = 1000
"""How many messages are moved from one source before the others have their turn: as in libzmq's proxy and
pollbroker."""

Move = Callable[[zmq.Socket[bytes], zmq.Socket[bytes]], None]


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair and relay for all of them in one loop."""
    return start_with(drain, context, deployment)


def start_with(
    move: Move, context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair, and call `move` with each source that is ready and its sink, in one loop."""
    pairs = bound_pairs(context, deployment)
    bound = addresses(pairs)
    sinks = dict(pairs)
    if DEVICES[deployment.device].two_way:
        sinks |= {backend: frontend for frontend, backend in pairs}
    threading.Thread(target=_relay, args=(sinks, move), daemon=True).start()
    return bound


def _relay(sinks: dict[zmq.Socket[bytes], zmq.Socket[bytes]], move: Move) -> None:
    poller = zmq.Poller()
    for source in sinks:
        poller.register(source, zmq.POLLIN)
    while True:
        for source, _ in poller.poll():
            move(source, sinks[source])


def drain(source: zmq.Socket[bytes], sink: zmq.Socket[bytes]) -> None:
    """Move the messages that the source has, up to `BURST_MESSAGES`."""
    for _ in range(BURST_MESSAGES):
        try:
            message = source.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        sink.send_multipart(message)
