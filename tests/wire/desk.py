"""A broker with a client and a worker that nothing may happen to, while others do what they want."""

from typing import Any

import zmq

from pollbroker import QUEUE, Engine
from tests.support.accounts import balanced
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import wait_until
from tests.support.types import Connect, Socket
from tests.support.wire_ports import ended_by
from tests.wire.zmtp import RawPeer


class Desk:
    """A QUEUE, with a client and a worker to whom nothing may happen."""

    def __init__(self, engine: Engine, connect: Connect, **options: Any) -> None:
        self.engine = engine
        self.broker = engine.add("desk", QUEUE, frontend=ANY_PORT, backend=ANY_PORT, frontend_options=options)
        self.address = endpoint(self.broker.frontend)
        self.client: Socket = connect(zmq.DEALER, self.address)
        self.worker: Socket = connect(zmq.DEALER, endpoint(self.broker.backend))
        self.check()

    def check(self) -> None:
        """Requests and replies pass."""
        for number in range(3):
            self.client.send_multipart([b"", b"%d" % number])
            self.worker.send_multipart(self.worker.recv_multipart())
            assert self.client.recv_multipart() == [b"", b"%d" % number]

    def echo(self) -> list[bytes]:
        """Let the worker answer the next request, with what was asked: the request."""
        request = self.worker.recv_multipart()
        self.worker.send_multipart(request)
        return request

    def expect_end(self, peer: RawPeer, reason: str, times: int = 1) -> None:
        """The connection of this peer is ended, for this reason; and the others go on."""
        peer.read_to_the_end()
        self.expect(reason, times)

    def expect_any_end(self, times: int) -> None:
        """Peers have gone. If they had not read everything, the kernel has told of an error."""
        wait_until(lambda: sum(ended_by(self.engine, self.broker).values()) == times)
        assert set(ended_by(self.engine, self.broker)) <= {"left", "broken"}
        self.check()

    def expect(self, reason: str, times: int = 1) -> None:
        wait_until(lambda: ended_by(self.engine, self.broker) == {reason: times})
        self.check()
        assert all(balanced(flow) for flow in self.broker.statistics().flows.values())
