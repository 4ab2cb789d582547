"""The roles in which messages go one way: pushers and pullers, publishers and subscribers.

Nothing may be lost inside libzmq. So a publisher waits when one of its subscribers is full (XPUB_NODROP). Before it
begins, probes show that every subscription has travelled from the subscribers to the publishers.
"""

from contextlib import suppress
from itertools import count
from typing import Final

import zmq

from pollbroker.cli.demo.role import BURST, WAIT_MS, Peer, Sink, SourceState
from pollbroker.cli.demo.workload import (
    Report,
    add_to_tallies,
    is_probe,
    make_body,
    stream_of,
)

UNWANTED_TOPIC: Final = "c"
"""A topic that is published and has no subscriber. Its messages must not pass the broker."""

_PROBING_MS: Final = 5
"""The time between two probes."""


class Pusher(Peer):
    """Pushes as fast as it can."""

    socket_type = zmq.PUSH

    def prepare(self) -> None:
        self.next_number = 1

    def work(self) -> None:
        if self.state is not SourceState.SENDING:
            self.commands.wait(WAIT_MS)
            return
        first = self.next_number
        stream = f"s{self.number}"
        self.next_number += self.send_burst([make_body(stream, i) for i in range(first, first + BURST)])


class Puller(Sink):
    """Pulls."""

    socket_type = zmq.PULL


class Publisher(Peer):
    """Publishes on several topics as fast as the slowest subscriber reads. `words` are the topics with subscribers."""

    socket_type = zmq.XPUB  # a PUB is not told of subscriptions

    def prepare(self) -> None:
        self.socket.xpub_nodrop = 1
        self.topics = [*self.words, UNWANTED_TOPIC]
        self.missing = {b"\1" + topic.encode() for topic in self.words}
        self.pending: list[bytes] = []
        self.numbers = count(1)
        self.probes = 0

    def is_ready(self) -> bool:
        """Return True if all subscriptions have come. From then on every probe and every message passes the broker."""
        with suppress(zmq.Again):
            self.missing.discard(self.socket.recv())
        return not self.missing

    def work(self) -> None:
        if self.state is not SourceState.SENDING:
            self.commands.wait(_PROBING_MS)
            if self.state is SourceState.WAITING:
                self._probe()
            return
        if not self.pending:
            numbers = [next(self.numbers) for _ in range(BURST // len(self.topics))]
            self.pending = [make_body(f"{t}{self.number}", i) for i in numbers for t in self.topics]
        self.pending = self.pending[self.send_burst(self.pending) :]

    def _probe(self) -> None:
        for topic in self.words:
            try:
                self.socket.send(make_body(f"{topic}{self.number}", 0))
            except zmq.Again:
                return
            self.probes += 1

    def report(self) -> Report:
        return Report(self.role, self.number, self.tallies, probes=self.probes)


class Subscriber(Sink):
    """Receives what is published. `words` are the streams that it should receive, each a topic and a publisher."""

    socket_type = zmq.SUB

    def prepare(self) -> None:
        for topic in {stream[0] for stream in self.words}:
            self.socket.subscribe(topic)
        self.unheard = set(self.words)

    def is_ready(self) -> bool:
        """Return True if a probe of each stream has come. What is published from then on arrives."""
        self.work()
        return not self.unheard

    def work(self) -> None:
        bodies = self.receive_burst()
        probes = [body for body in bodies if is_probe(body)]
        self.unheard -= {stream_of(probe) for probe in probes}
        add_to_tallies(self.tallies, (body for body in bodies if not is_probe(body)) if probes else bodies)
