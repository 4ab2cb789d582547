"""What the peers from `zmq.devices` share, and the one from pollbroker's drop-in for it: a background device that
reports the addresses to which it is bound.

Such a device opens its sockets in its own thread, and an error there ends the thread after `start()` has returned. Its
`bind_in_to_random_port` reserves a port, releases it and binds it again later; another process may take it meanwhile.
So these devices bind wildcards themselves, and report the addresses or the error from their own thread. Everything else
is pyzmq's.
"""

from __future__ import annotations

import queue
from typing import Any

import zmq

from bench.peers.sockets import DEVICES
from bench.work import Deployment

BIND_DEADLINE_S = 30.0
SOCKETS_A_DEVICE = 3  # a proxy always opens a monitor socket, too


class ReportsAddresses:
    """A mixin to put before a class of `zmq.devices`: `bound()` returns the addresses of its two sockets."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._reports: queue.SimpleQueue[tuple[str, str] | zmq.ZMQError] = queue.SimpleQueue()

    def _setup_sockets(self) -> Any:
        try:
            sockets = super()._setup_sockets()  # type: ignore[misc]
        except zmq.ZMQError as error:
            self._reports.put(error)
            raise
        frontend, backend = (socket.get_string(zmq.LAST_ENDPOINT) for socket in sockets[:2])
        self._reports.put((frontend, backend))
        return sockets

    def bound(self) -> tuple[str, str]:
        """Return the addresses of the frontend and the backend. Raises the error that the device's thread has
        raised."""
        report = self._reports.get(timeout=BIND_DEADLINE_S)
        if isinstance(report, zmq.ZMQError):
            raise report
        return report


def start_all(
    devices: list[Any], context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Give each device one pair of the deployment, and start it. Return the addresses."""
    context.set(zmq.MAX_SOCKETS, context.get(zmq.MAX_SOCKETS) + (SOCKETS_A_DEVICE - 2) * len(devices))
    ports = DEVICES[deployment.device]
    for device, frontend, backend in zip(devices, deployment.frontends, deployment.backends, strict=True):
        device.context_factory = lambda: context
        for place, marks, endpoint in (
            ("in", ports.frontend_marks, frontend),
            ("out", ports.backend_marks, backend),
        ):
            for mark in marks:
                getattr(device, f"setsockopt_{place}")(getattr(zmq, mark.upper()), deployment.high_water_mark)
            getattr(device, f"bind_{place}")(endpoint)
        device.start()
    bound = [device.bound() for device in devices]
    return tuple(frontend for frontend, _ in bound), tuple(backend for _, backend in bound)
