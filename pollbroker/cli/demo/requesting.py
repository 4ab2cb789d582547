"""The roles that ask and answer: clients, one request after the other or many at a time, and workers."""

from contextlib import suppress
from itertools import count
from typing import Final

import zmq

from pollbroker.cli.demo.role import WAIT_MS, Peer, Sink, SourceState
from pollbroker.cli.demo.workload import (
    Report,
    add_to_tallies,
    make_body,
    make_reply,
)

WINDOW: Final = 32
"""How many requests of a pipelined client may be without a reply at a time."""


class Client(Peer):
    """Sends a request, waits for its reply, and sends the next."""

    socket_type = zmq.REQ
    is_greedy = False

    def prepare(self) -> None:
        self.numbers = count(1)
        self.request = b""
        """The request that has no reply yet, or an empty one."""
        self.replies = self.wrong = 0

    def is_ready(self) -> bool:
        """Return True if a first reply has come."""
        return self._exchange()

    def work(self) -> None:
        if self.state is SourceState.SENDING:
            self._exchange()
        else:
            self.commands.wait(WAIT_MS)

    def finish(self) -> None:
        super().finish()
        while self.request and not self.commands.wait(0):
            self._exchange()

    def _exchange(self) -> bool:
        """Send a request if none is without a reply. Return True if the reply has come."""
        if not self.request:
            request = make_body(f"r{self.number}", next(self.numbers))
            if not self.send_burst([request]):
                return False
            self.request = request
        try:
            reply = self.socket.recv()
        except zmq.Again:
            return False
        self.replies += 1
        self.wrong += reply != make_reply(self.request)
        self.request = b""
        return True

    def report(self) -> Report:
        return Report(self.role, self.number, self.tallies, replies=self.replies, wrong=self.wrong)


class Pipeliner(Peer):
    """Sends requests without waiting for each reply: up to `WINDOW` of them are without a reply at a time."""

    socket_type = zmq.DEALER
    is_greedy = False

    def prepare(self) -> None:
        self.numbers = count(1)
        self.unanswered: dict[bytes, bytes] = {}
        """The requests that have no reply yet, by the reply that they should have."""
        self.replies = self.wrong = 0

    def is_ready(self) -> bool:
        """Return True if a first reply has come."""
        if not self.unanswered:
            self._ask(1)
        self._receive()
        return self.replies > 0

    def work(self) -> None:
        if self.state is SourceState.SENDING:
            self._ask(WINDOW - len(self.unanswered))
            self._receive()
        else:
            self.commands.wait(WAIT_MS)

    def finish(self) -> None:
        super().finish()
        while self.unanswered and not self.commands.wait(0):
            self._receive()

    def _ask(self, number: int) -> None:
        """Send some requests."""
        sent: list[bytes] = []
        with suppress(zmq.Again):
            for _ in range(number):
                request = make_body(f"p{self.number}", next(self.numbers))
                self.socket.send_multipart([b"", request])
                self.unanswered[make_reply(request)] = request
                sent.append(request)
        add_to_tallies(self.tallies, sent)

    def _receive(self) -> None:
        """Receive the replies that have come. Waits for a short time for the first one."""
        flags = 0
        with suppress(zmq.Again):
            while self.unanswered:
                _, reply = self.socket.recv_multipart(flags)
                self.replies += 1
                self.wrong += self.unanswered.pop(reply, None) is None
                flags = zmq.DONTWAIT

    def report(self) -> Report:
        return Report(self.role, self.number, self.tallies, replies=self.replies, wrong=self.wrong)


class Worker(Sink):
    """Replies to requests."""

    socket_type = zmq.REP
    is_greedy = False

    def work(self) -> None:
        with suppress(zmq.Again):
            request = self.socket.recv()
            self.socket.send(make_reply(request))
            add_to_tallies(self.tallies, [request])
