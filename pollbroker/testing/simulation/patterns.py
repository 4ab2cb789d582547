"""PUSH, PULL, DEALER and PAIR: the types that neither add nor remove frames.

Rules, which are libzmq's (push.cpp, pull.cpp, dealer.cpp, pair.cpp): PUSH sends to its peers in turn, PULL receives
from its peers in turn, DEALER does both. A PAIR has one peer; it closes the pipe of a second one at once.
"""

import zmq

from pollbroker.testing.simulation.context import SimContext
from pollbroker.testing.simulation.frame import Item
from pollbroker.testing.simulation.pipe import Pipe
from pollbroker.testing.simulation.routing import NO_ROOM, TAKEN, Balancer, FairQueue
from pollbroker.testing.simulation.socket import SimSocket
from pollbroker.testing.simulation.truth import Outlook, on_bind


class PushSocket(SimSocket):
    __slots__ = ("_balancer",)

    def __init__(self, context: SimContext, socket_type: zmq.SocketType, number: int) -> None:
        super().__init__(context, socket_type, number)
        self._balancer = Balancer(self)

    def _attach(self, pipe: Pipe) -> None:
        pipe.set_nodelay()
        self._balancer.attach(pipe)

    def _forget(self, pipe: Pipe) -> None:
        self._balancer.on_terminated(pipe)

    def on_readable(self, pipe: Pipe) -> None:
        """Do nothing: a PUSH never reads. It learns of the end of a pipe by another command."""

    def on_writable(self, pipe: Pipe) -> None:
        self._balancer.on_writable(pipe)

    def _send(self, body: bytes, kind: int) -> int:
        return self._balancer.send(body, kind)

    def _has_out(self) -> bool:
        return self._balancer.has_out()

    def _would_send(self, outlooks: list[Outlook], first_frame: bytes | None) -> bool:  # noqa: ARG002
        return self._balancer.in_message or any(outlook.takes for outlook in outlooks)


class PullSocket(SimSocket):
    __slots__ = ("_queue",)

    def __init__(self, context: SimContext, socket_type: zmq.SocketType, number: int) -> None:
        super().__init__(context, socket_type, number)
        self._queue = FairQueue()

    def _attach(self, pipe: Pipe) -> None:
        self._queue.attach(pipe)

    def _forget(self, pipe: Pipe) -> None:
        self._queue.on_terminated(pipe)

    def on_readable(self, pipe: Pipe) -> None:
        self._queue.on_readable(pipe)

    def on_writable(self, pipe: Pipe) -> None:
        """Do nothing: a PULL never writes."""

    def _receive(self) -> Item | None:
        return self._queue.receive()

    def _has_in(self) -> bool:
        return self._queue.has_in()

    def _would_receive(self, outlooks: list[Outlook]) -> bool:
        return self._queue.in_message or super()._would_receive(outlooks)


class DealerSocket(SimSocket):
    __slots__ = ("_balancer", "_queue")

    def __init__(self, context: SimContext, socket_type: zmq.SocketType, number: int) -> None:
        super().__init__(context, socket_type, number)
        self._balancer = Balancer(self)
        self._queue = FairQueue()

    def _attach(self, pipe: Pipe) -> None:
        self._queue.attach(pipe)
        self._balancer.attach(pipe)

    def _forget(self, pipe: Pipe) -> None:
        self._queue.on_terminated(pipe)
        self._balancer.on_terminated(pipe)

    def on_readable(self, pipe: Pipe) -> None:
        self._queue.on_readable(pipe)

    def on_writable(self, pipe: Pipe) -> None:
        self._balancer.on_writable(pipe)

    def _send(self, body: bytes, kind: int) -> int:
        return self._balancer.send(body, kind)

    def _receive(self) -> Item | None:
        return self._queue.receive()

    def _has_in(self) -> bool:
        return self._queue.has_in()

    def _has_out(self) -> bool:
        return self._balancer.has_out()

    def _would_receive(self, outlooks: list[Outlook]) -> bool:
        return self._queue.in_message or super()._would_receive(outlooks)

    def _would_send(self, outlooks: list[Outlook], first_frame: bytes | None) -> bool:  # noqa: ARG002
        return self._balancer.in_message or any(outlook.takes for outlook in outlooks)


class PairSocket(SimSocket):
    __slots__ = ("_pipe",)

    def __init__(self, context: SimContext, socket_type: zmq.SocketType, number: int) -> None:
        super().__init__(context, socket_type, number)
        self._pipe: Pipe | None = None

    def _attach(self, pipe: Pipe) -> None:
        if self._pipe is None:
            self._pipe = pipe
        else:
            pipe.terminate(delays=False)

    def _forget(self, pipe: Pipe) -> None:
        if pipe is self._pipe:
            self._pipe = None

    def on_readable(self, pipe: Pipe) -> None:
        """Do nothing: with one pipe there is no order of pipes."""

    def on_writable(self, pipe: Pipe) -> None:
        """Do nothing, as in `on_readable`."""

    def _send(self, body: bytes, kind: int) -> int:
        return TAKEN if self._pipe is not None and self._pipe.write(body, kind) else NO_ROOM

    def _receive(self) -> Item | None:
        return None if self._pipe is None else self._pipe.read()

    def _has_in(self) -> bool:
        return self._pipe is not None and self._pipe.can_read()

    def _has_out(self) -> bool:
        return self._pipe is not None and self._pipe.can_write()

    def _would_receive(self, outlooks: list[Outlook]) -> bool:
        return super()._would_receive(self._own(outlooks))

    def _would_send(self, outlooks: list[Outlook], first_frame: bytes | None) -> bool:  # noqa: ARG002
        return any(outlook.takes for outlook in self._own(outlooks))

    def _own(self, outlooks: list[Outlook]) -> list[Outlook]:
        """The outlook of its one peer: the present peer if it stays, or else the first that comes after it has gone."""
        own = self._pipe
        for function, target, _ in self.mailbox.commands:
            if function is Pipe.on_acknowledged and target is own:
                own = None
            elif function is on_bind and own is None:
                own = target
        return [outlook for outlook in outlooks if outlook.pipe is own]
