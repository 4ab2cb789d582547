"""Pairs of inproc sockets, and hubs between them."""

from typing import Any, cast

import zmq

from pollbroker.pump import Implementation
from tests.support.types import Socket

MANY = 1 << 40
"""A limit of messages, or bytes, that no test reaches."""


class Pipe:
    """A PUSH and a PULL over inproc: `give` makes the PULL readable, and an unconnected PUSH has no room."""

    def __init__(self, context: zmq.Context[Socket], hwm: int = 0) -> None:
        self._context = context
        self._endpoint = f"inproc://{id(self)}"
        self._hwm = hwm
        self.push = self._socket(zmq.PUSH)
        self.push.bind(self._endpoint)
        self.pull: Socket | None = None

    def _socket(self, socket_type: int) -> Socket:
        socket = self._context.socket(socket_type)
        socket.linger = 0
        socket.set_hwm(self._hwm)
        return socket

    def open(self) -> Socket:
        """Connect the PULL: from now on there is room."""
        if self.pull is None:
            self.pull = self._socket(zmq.PULL)
            self.pull.connect(self._endpoint)
            self.push.getsockopt(zmq.EVENTS)
        return self.pull

    def give(self, *frames: bytes) -> None:
        self.open()
        self.push.send_multipart(frames)


class Stand:
    """One flow (port 0 to port 1) or two (back as well) in a hub, and the pipes on both sides.

    `inputs[i]` feeds flow i, `outputs[i]` takes from it. `places` are the sockets that the hub asks; by default those
    of flow 0.
    """

    def __init__(
        self, context: zmq.Context[Socket], implementation: Implementation, flows: int = 1, **places: Socket
    ) -> None:
        self.inputs = [Pipe(context) for _ in range(flows)]
        self.outputs = [Pipe(context) for _ in range(flows)]
        self.ready: list[Any] = []
        self.guard = context.socket(zmq.PAIR)
        made = [
            implementation.make_flow(implementation.make_pump(taken.open(), given.push), i, (1 - i,))
            for i, (taken, given) in enumerate(zip(self.inputs, self.outputs, strict=True))
        ]
        self.flow = made[0]
        sockets = (places.get("port_0", self.inputs[0].open()), places.get("port_1", self.outputs[0].push))
        self.hub = implementation.make_hub(cast(Any, self), self.ready, sockets, (self.guard,), tuple(made))

    def work(self, now_s: float = 0.0, messages: int = MANY, size: int = MANY) -> int:
        """What the loop does: take it from the list, and let it work."""
        self.ready.clear()
        return self.hub.work(messages, size, now_s)

    @property
    def states(self) -> list[int]:
        return [flow.state for flow in self.hub.flows]


class Refusing(Stand):
    """A flow that holds a message, whose sink says what the test wants and refuses all the same."""

    def __init__(self, context: zmq.Context[Socket], implementation: Implementation) -> None:
        self.said = Pipe(context, hwm=1)
        super().__init__(context, implementation, port_1=self.said.push)
        self.inputs[0].give(b"held")


def take_all(socket: Socket) -> list[list[bytes]]:
    """Receive all messages that are there now."""
    taken = []
    while socket.poll(0):
        taken.append(socket.recv_multipart())
    return taken
