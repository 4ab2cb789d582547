"""The open sockets of one device, and the broker that they become in an engine.

The engine's own capture never waits, and drops a copy that its socket cannot take: that is what a PUB socket would do
anyhow. From any other monitor socket pyzmq's users expect every message, so it is a second sink of each route: while it
is full the route reads nothing, as `zmq.proxy` would, but without blocking a thread.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import zmq

from pollbroker.broker import Broker
from pollbroker.device import CAPTURE, Device, Route
from pollbroker.devices.steering import MONITOR, steer
from pollbroker.engine import Engine
from pollbroker.port import socket_type_of
from pollbroker.pump import Handler, Socket, To
from pollbroker.remaining import warn_of_undelivered
from pollbroker.standard_devices import guess_device


@dataclass(frozen=True)
class DeviceSockets:
    """What one device works on. The sockets are the caller's, and stay open when the device has ended."""

    frontend: Socket
    backend: Socket
    """May be the frontend itself: then each message goes back to the socket that it came from."""
    monitor: Socket | None = None
    control: Socket | None = None
    prefixes: tuple[bytes, bytes] | None = field(default=None, kw_only=True)
    """The frames of a monitored queue, which precede the monitor's copies; None for any other device."""

    def start(self, engine: Engine) -> Broker:
        """Start the broker; if anything fails, nothing is left in the engine.

        When the broker has ended, however that came, the log says how many messages are lost. So it is to be removed
        before its engine is closed, which would say it once more.

        Raises as `Engine.register`, and `ConfigError` for a control socket of a type that cannot take commands.
        """
        more: dict[str, Any] = {} if self.monitor is None else {MONITOR if self._tees else CAPTURE: self.monitor}
        prefixes = None if self._tees else self.prefixes
        broker = engine.register(self.frontend, self.backend, self._device(), capture_prefixes=prefixes, **more)
        if self.control is not None:
            try:
                server = steer(engine, broker, self.control)
            except BaseException:
                broker.remove(timeout_s=0.0)
                raise
            broker.removed.add_done_callback(lambda _: server.close())
        broker.removed.add_done_callback(lambda final: warn_of_undelivered(final.result()))
        return broker

    @property
    def _tees(self) -> bool:
        """True if the monitor socket is a sink of each route."""
        return self.monitor is not None and self.monitor.type != zmq.PUB

    def _device(self) -> Device:
        """The device that goes with the types of the sockets, as for `zmq.proxy`.

        Raises `DeviceError` if nothing can pass between them.
        """
        both = (self.frontend,) if self.frontend is self.backend else (self.frontend, self.backend)
        types = [socket_type_of(socket) for socket in both]
        device = guess_device(None, types)
        swap = self.prefixes is not None and set(types) == {zmq.ROUTER}
        if not (swap or self._tees):
            return device
        ports = dict(zip(device.ports, types, strict=True))
        if self.monitor is not None and self._tees:
            ports[MONITOR] = socket_type_of(self.monitor)
        return Device(
            "proxy" if self.prefixes is None else "monitored_queue",
            ports=ports,
            routes=[self._route(route.source, str(route.sink), swap=swap) for route in device.routes],
        )

    def _route(self, source: str, sink: str, *, swap: bool) -> Route:
        if not self._tees:
            return Route(source, sink, via=_swap)
        prefix = None if self.prefixes is None else self.prefixes[source == "backend"]
        return Route(source, (sink, MONITOR), via=None if prefix is None else _make_tee(sink, prefix, swap=swap))


def _swap(message: list[bytes]) -> list[bytes]:
    """Between two ROUTERs the first frame says who sent the message, and the second who is to have it."""
    return [*message[1::-1], *message[2:]]


def _make_tee(sink: str, prefix: bytes, *, swap: bool) -> Handler:
    """Make a handler that has each message sent on, and to the monitor behind a prefix."""

    def tee(message: list[bytes]) -> Iterator[To]:
        message = _swap(message) if swap else message
        yield To(sink, message)
        yield To(MONITOR, [prefix, *message])

    return tee
