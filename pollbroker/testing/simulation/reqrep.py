"""REQ and REP: requests and replies in strict turn.

Rules, which are libzmq's (req.cpp, rep.cpp):

- A REQ puts an empty frame before its request and waits for the reply from the peer to which the request went. It
  throws away a message that does not begin with an empty frame or comes from another peer. Before each request it
  throws away everything that has come meanwhile.
- A REP keeps the frames up to the first empty one and puts them before its reply. It throws away a message without an
  empty frame. Its reply is dropped if the requester has left or has no room.
- A send or a receive out of turn raises EFSM.
"""

import zmq

from pollbroker.testing.simulation.context import SimContext
from pollbroker.testing.simulation.frame import LAST, MORE, Item
from pollbroker.testing.simulation.patterns import DealerSocket
from pollbroker.testing.simulation.pipe import Pipe
from pollbroker.testing.simulation.router import RouterSocket
from pollbroker.testing.simulation.routing import TAKEN
from pollbroker.testing.simulation.truth import Outlook


class ReqSocket(DealerSocket):
    __slots__ = ("_at_start", "_awaits_reply", "_replier")

    def __init__(self, context: SimContext, socket_type: zmq.SocketType, number: int) -> None:
        super().__init__(context, socket_type, number)
        self._awaits_reply = False
        self._at_start = True
        """Whether the next frame is the first of a message, in either direction."""
        self._replier: Pipe | None = None

    def _forget(self, pipe: Pipe) -> None:
        if pipe is self._replier:
            self._replier = None
        super()._forget(pipe)

    def _send(self, body: bytes, kind: int) -> int:
        if self._awaits_reply:
            raise zmq.ZMQError(zmq.EFSM)
        if self._at_start:
            self._replier = None
            outcome = super()._send(b"", MORE)
            if outcome != TAKEN:
                return outcome
            self._replier = self._balancer.used
            self._at_start = False
            while super()._receive() is not None:
                pass
        outcome = super()._send(body, kind)
        if outcome == TAKEN and kind == LAST:
            self._awaits_reply = self._at_start = True
        return outcome

    def _receive(self) -> Item | None:
        if not self._awaits_reply:
            raise zmq.ZMQError(zmq.EFSM)
        while self._at_start:
            item = self._receive_from_replier()
            if item is None:
                return None
            if item == (b"", MORE):
                self._at_start = False
            while self._at_start and item[1] == MORE:
                rest = self._receive_from_replier()
                assert rest is not None
                item = rest
        item = self._receive_from_replier()
        if item is not None and item[1] == LAST:
            self._awaits_reply = False
            self._at_start = True
        return item

    def _receive_from_replier(self) -> Item | None:
        while True:
            item = super()._receive()
            if item is None or self._replier is None or self._queue.used is self._replier:
                return item

    def _has_in(self) -> bool:
        return self._awaits_reply and super()._has_in()

    def _has_out(self) -> bool:
        return not self._awaits_reply and super()._has_out()

    def _would_receive(self, outlooks: list[Outlook]) -> bool:
        if not self._awaits_reply or not self._at_start:
            return self._awaits_reply
        replies = any(outlook.pipe is self._replier for outlook in outlooks)
        return any(
            len(message) > 1 and not message[0]
            for outlook in outlooks
            if not replies or outlook.pipe is self._replier
            for message in outlook.messages
        )

    def _would_send(self, outlooks: list[Outlook], first_frame: bytes | None) -> bool:
        return not self._awaits_reply and super()._would_send(outlooks, first_frame)


class RepSocket(RouterSocket):
    __slots__ = ("_at_start", "_owes_reply")

    def __init__(self, context: SimContext, socket_type: zmq.SocketType, number: int) -> None:
        super().__init__(context, socket_type, number)
        self._owes_reply = False
        self._at_start = True

    def _send(self, body: bytes, kind: int) -> int:
        if not self._owes_reply:
            raise zmq.ZMQError(zmq.EFSM)
        outcome = super()._send(body, kind)
        if outcome == TAKEN and kind == LAST:
            self._owes_reply = False
        return outcome

    def _receive(self) -> Item | None:
        if self._owes_reply:
            raise zmq.ZMQError(zmq.EFSM)
        while self._at_start:
            item = super()._receive()
            if item is None:
                return None
            if item[1] == MORE:
                super()._send(item[0], MORE)
                self._at_start = bool(item[0])
            elif self._sink is not None:
                self._sink.rollback()
                self._sink = None
                self._out_message = False
        item = super()._receive()
        if item is not None and item[1] == LAST:
            self._owes_reply = self._at_start = True
        return item

    def _has_in(self) -> bool:
        return not self._owes_reply and super()._has_in()

    def _has_out(self) -> bool:
        return self._owes_reply and super()._has_out()

    def _would_receive(self, outlooks: list[Outlook]) -> bool:
        if self._owes_reply or not self._at_start:
            return not self._owes_reply
        begun = [item[0] for item in reversed(self._ahead)]
        if self._ahead and self._ahead[0][1] == MORE:
            for outlook in outlooks:
                if outlook.pipe is self._source:
                    begun += [frame for message in outlook.messages[:1] for frame in message]
        if b"" in begun[:-1]:
            return True
        outlooks = list(self._outlooks_by_name(outlooks).values())
        return any(b"" in message[:-1] for outlook in outlooks for message in outlook.messages)

    def _would_send(self, outlooks: list[Outlook], first_frame: bytes | None) -> bool:  # noqa: ARG002
        return self._owes_reply
