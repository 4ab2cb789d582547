"""pollbroker with its control socket in a context of its own, so that the traffic's I/O thread does not serve it."""

from __future__ import annotations

import zmq

from bench.peers.pollbroker_engine import run
from bench.work import Deployment
from pollbroker import DEVICES


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Add a broker for every pair to one engine and start it."""
    return run(context, deployment, DEVICES[deployment.device], zmq.Context())
