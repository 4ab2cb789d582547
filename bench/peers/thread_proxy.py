"""`zmq.devices.ThreadProxy`, pyzmq's own wrapping of `zmq.proxy` in a thread: a device a pair."""

from __future__ import annotations

import zmq
from zmq.devices import ThreadProxy

from bench.peers.sockets import DEVICES
from bench.peers.zmq_devices import Telling, start_all
from bench.work import Deployment


class TellingProxy(Telling, ThreadProxy):
    """A `ThreadProxy` that tells where it is bound."""


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Start a `ThreadProxy` for every pair; its monitor socket is left unbound, as it comes."""
    ports = DEVICES[deployment.device]
    kinds = getattr(zmq, ports.frontend), getattr(zmq, ports.backend)
    return start_all([TellingProxy(*kinds) for _ in deployment.frontends], context, deployment)
