"""Every pump, and sockets on both of its sides."""

from collections.abc import Callable
from functools import partial
from typing import Any

import zmq

from pollbroker.pump import MAXFRAMES, Implementation, Pump, RoutingPump, choose_implementation
from tests.support.types import Socket

PYTHON = choose_implementation("python")


def identity(frames: list[bytes]) -> list[bytes]:
    """A handler that changes nothing."""
    return frames


def make_handler_pump(
    implementation: Implementation,
    source: Socket,
    sink: Socket,
    *,
    capture: Socket | None = None,
    prefix: bytes | None = None,
    drop_slow_peer: bool = True,
    maxframes: int = MAXFRAMES,
) -> Pump:
    """The pump of a route with a handler, which is made as the others are."""
    sender = implementation.make_sender(sink, capture, prefix, drop_slow_peer)
    return RoutingPump(implementation.make_receiver(source, maxframes), identity, {"sink": sender})


MAKERS: dict[str, Callable[..., Pump]] = {
    "native": choose_implementation("native").make_pump,
    "python": choose_implementation("python").make_pump,
    "native handler": partial(make_handler_pump, choose_implementation("native")),
    "python handler": partial(make_handler_pump, choose_implementation("python")),
}
"""Each pump by its name; the one of a handler route keeps the same contract."""


class Line:
    """producer -> source | pump | sink -> consumer, all inproc in one thread."""

    def __init__(
        self,
        context: zmq.Context[Socket],
        make_pump: Callable[..., Pump],
        *,
        sink_type: int = zmq.PUSH,
        consumer_type: int = zmq.PULL,
        sink_hwm: int = 0,
        **options: Any,
    ) -> None:
        self.context = context
        self.sockets: list[Socket] = []
        self.source = self._socket(zmq.PULL, 0)
        self.source.bind(f"inproc://source-{id(self)}")
        self.producer = self._socket(zmq.PUSH, 0)
        self.producer.connect(f"inproc://source-{id(self)}")
        self.sink = self._socket(sink_type, sink_hwm)
        if sink_type == zmq.ROUTER:
            self.sink.router_mandatory = 1
        self.sink.bind(f"inproc://sink-{id(self)}")
        self._consumer_type = consumer_type
        self._sink_hwm = sink_hwm
        self.pump = make_pump(self.source, self.sink, **options)

    def _socket(self, socket_type: int, hwm: int) -> Socket:
        socket = self.context.socket(socket_type)
        socket.linger = 0
        socket.set_hwm(hwm)
        self.sockets.append(socket)
        return socket

    def consumer(self, routing_id: bytes | None = None) -> Socket:
        """A consumer that is attached to the sink when this returns."""
        consumer = self._socket(self._consumer_type, self._sink_hwm)
        if routing_id is not None:
            consumer.routing_id = routing_id
        consumer.connect(f"inproc://sink-{id(self)}")
        self.sink.getsockopt(zmq.EVENTS)  # processes the bind
        return consumer

    def give(self, *given: list[bytes]) -> None:
        for message in given:
            self.producer.send_multipart(message)

    def close(self) -> None:
        for socket in self.sockets:
            socket.close()


def router_line(lines: Callable[..., Line], **options: Any) -> Line:
    """A line whose sink is a ROUTER, which says what it cannot deliver."""
    return lines(sink_type=zmq.ROUTER, consumer_type=zmq.DEALER, **options)
