"""`zmq.devices.ThreadMonitoredQueue`: a thread a pair, in pyzmq's Cython, and a prefixed copy of all that passes.

The copies go to a PUB, which drops what its subscriber does not take. Without a capture in the deployment the PUB stays
unconnected.
"""

from __future__ import annotations

from typing import Any

import zmq
from zmq.devices import ThreadMonitoredQueue

from bench.peers.sockets import DEVICES
from bench.peers.zmq_devices import Telling, start_all
from bench.work import CAPTURE_PREFIXES, Deployment


class TellingQueue(Telling, ThreadMonitoredQueue):
    """A `ThreadMonitoredQueue` that tells where it is bound."""


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Start a `ThreadMonitoredQueue` for every pair."""
    ports = DEVICES[deployment.device]
    kinds = getattr(zmq, ports.frontend), getattr(zmq, ports.backend)
    prefixes = [prefix.encode() for prefix in CAPTURE_PREFIXES]
    devices: list[Any] = [TellingQueue(*kinds, zmq.PUB, *prefixes) for _ in deployment.frontends]
    for device, capture in zip(devices, deployment.captures, strict=False):  # captured are all pairs or none
        device.setsockopt_mon(zmq.SNDHWM, deployment.high_water_mark)
        device.connect_mon(capture)
    return start_all(devices, context, deployment)
