"""`zmq.devices.ThreadMonitoredQueue`: a thread for each pair, in pyzmq's Cython, and a prefixed copy of each message.

The copies go to a PUB, which drops copies that its subscriber does not take. Without a capture in the deployment the
PUB is not connected.
"""

from __future__ import annotations

from typing import Any

import zmq
from zmq.devices import ThreadMonitoredQueue

from bench.peers.sockets import DEVICES
from bench.peers.zmq_devices import ReportsAddresses, start_all
from bench.work import CAPTURE_PREFIXES, Deployment


class ReportingQueue(ReportsAddresses, ThreadMonitoredQueue):
    """A `ThreadMonitoredQueue` that reports its addresses."""


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Start a `ThreadMonitoredQueue` for every pair."""
    ports = DEVICES[deployment.device]
    kinds = getattr(zmq, ports.frontend), getattr(zmq, ports.backend)
    prefixes = [prefix.encode() for prefix in CAPTURE_PREFIXES]
    devices: list[Any] = [ReportingQueue(*kinds, zmq.PUB, *prefixes) for _ in deployment.frontends]
    for device, capture in zip(devices, deployment.captures, strict=False):  # either all pairs have a capture, or none
        device.setsockopt_mon(zmq.SNDHWM, deployment.high_water_mark)
        device.connect_mon(capture)
    return start_all(devices, context, deployment)
