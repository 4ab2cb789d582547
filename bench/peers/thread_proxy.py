"""`zmq.devices.ThreadProxy`, pyzmq's own wrapping of `zmq.proxy` in a thread: a device a pair."""

from __future__ import annotations

import zmq
from zmq.devices import ThreadProxy

from bench.peers.sockets import DEVICES
from bench.peers.zmq_devices import ReportsAddresses, start_all
from bench.work import Deployment


class ReportingProxy(ReportsAddresses, ThreadProxy):
    """A `ThreadProxy` that reports its addresses."""


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Start a `ThreadProxy` for every pair. Its monitor socket is not bound, as by default."""
    ports = DEVICES[deployment.device]
    kinds = getattr(zmq, ports.frontend), getattr(zmq, ports.backend)
    return start_all([ReportingProxy(*kinds) for _ in deployment.frontends], context, deployment)
