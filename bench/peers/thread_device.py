"""`zmq.devices.ThreadDevice`, pyzmq's wrapping of `zmq.device` in a thread: a device, and a thread, for each pair."""

from __future__ import annotations

import zmq
from zmq.devices import ThreadDevice

from bench.peers.sockets import DEVICES
from bench.peers.zmq_devices import ReportsAddresses, start_all
from bench.work import Deployment


class ReportingDevice(ReportsAddresses, ThreadDevice):
    """A `ThreadDevice` that reports its addresses."""


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Start a `ThreadDevice` for every pair."""
    ports = DEVICES[deployment.device]
    kinds = getattr(zmq, ports.frontend), getattr(zmq, ports.backend)
    return start_all([ReportingDevice(zmq.QUEUE, *kinds) for _ in deployment.frontends], context, deployment)
