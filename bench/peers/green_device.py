"""`zmq.green.device`: pyzmq's broker for gevent, a greenlet a pair, all in one thread."""

from __future__ import annotations

import threading

import gevent  # type: ignore[import-not-found,import-untyped,unused-ignore]  # has no types, and is optional
import zmq
import zmq.green

from bench.peers.sockets import addresses, bound_pairs
from bench.work import Deployment


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair and hand each to a device, in a thread that has gevent's hub to itself."""
    pairs = bound_pairs(context, deployment)
    bound = addresses(pairs)  # read before another thread uses the sockets
    # The main thread waits for commands in a blocking read, so it cannot run greenlets.
    threading.Thread(target=_run, args=(pairs,), daemon=True).start()
    return bound


def _run(pairs: list[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]) -> None:
    gevent.joinall(
        [
            # The device type is ignored: the types of the sockets decide what is relayed.
            gevent.spawn(zmq.green.device, zmq.QUEUE, *(zmq.green.Socket.shadow(socket) for socket in pair))
            for pair in pairs
        ],
        raise_error=True,
    )
