"""A broker that nothing may happen to, whatever happens to its neighbours."""

import zmq

from pollbroker import STREAMER, Engine
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.types import Connect


class Bystander:
    """A broker in the same engine that nothing may happen to."""

    def __init__(self, engine: Engine, connect: Connect) -> None:
        self._engine = engine
        self._broker = engine.add("bystander", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
        self._push = connect(zmq.PUSH, endpoint(self._broker.frontend), sndhwm=0)
        self._pull = connect(zmq.PULL, endpoint(self._broker.backend), rcvhwm=0)
        self._sent = 0
        self.check()

    def send(self, count: int) -> None:
        for number in range(self._sent, self._sent + count):
            self._push.send_multipart([b"%d" % number, b"", b"x"])
        self._sent += count

    def check(self) -> None:
        """Its traffic passes, whole and in order, and its account balances."""
        expected = self._engine.statistics().brokers["bystander"].flows["frontend"].sent
        self.send(50)
        taken = [self._pull.recv_multipart() for _ in range(self._sent - self.received)]
        assert taken == [[b"%d" % number, b"", b"x"] for number in range(self.received, self._sent)]
        self.received = self._sent
        assert expected <= self._sent
        assert self._broker.state == "running"
        assert self._broker.error is None
        flow = self._engine.statistics().brokers["bystander"].flows["frontend"]
        assert (flow.received, flow.sent, flow.held, flow.dropped) == (self._sent, self._sent, 0, 0)

    received = 0
