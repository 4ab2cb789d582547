"""The loop as the ZeroMQ guide writes it (`rrbroker`): one message from every socket that is ready, then ask again."""

from __future__ import annotations

import zmq

from bench.peers.poller_loop import start_with
from bench.work import Deployment


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair and relay for all of them in one loop."""
    return start_with(move_one, context, deployment)


def move_one(source: zmq.Socket[bytes], sink: zmq.Socket[bytes]) -> None:
    """Move one message."""
    sink.send_multipart(source.recv_multipart())
