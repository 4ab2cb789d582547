"""The roles of the demo's peers: what each peer sends or receives, and what it counts.

Nothing may be lost inside libzmq. So a publisher waits when one of its subscribers is full (XPUB_NODROP). Before it
begins, probes show that every subscription has travelled from the subscribers to the publishers.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum, auto
from itertools import count
from typing import Any, ClassVar, Final

import zmq

from pollbroker.cli.demo.stdin import StdinCommands
from pollbroker.cli.demo.workload import (
    SOCKET_OPTIONS,
    Report,
    Tallies,
    add_to_tallies,
    is_probe,
    make_body,
    make_reply,
    stream_of,
)

UNWANTED_TOPIC: Final = "c"
"""A topic that is published and has no subscriber. Its messages must not pass the broker."""

WINDOW: Final = 32
"""How many requests of a pipelined client may be without a reply at a time."""

_BURST: Final = 200
"""How many messages are sent or received between two looks at stdin."""

_WAIT_MS: Final = 20
"""The longest wait between two looks at stdin."""

_PROBING_MS: Final = 5
"""The time between two probes."""

_QUIET_MS: Final = 100
"""At the end, when nothing has come for this time, nothing more will come."""


class SourceState(Enum):
    """Whether a source sends messages. Sinks have this state too, without an effect."""

    WAITING = auto()
    SENDING = auto()
    STOPPED = auto()


class Peer:
    """What all roles share: a socket, the tallies of messages, and the commands from stdin."""

    socket_type: ClassVar[int]
    is_greedy: ClassVar[bool] = True
    """Whether the role uses all the processor time that it gets."""

    def __init__(
        self, context: zmq.Context[Any], commands: StdinCommands, role: str, number: int, words: Sequence[str]
    ) -> None:
        self.commands = commands
        self.role = role
        self.number = number
        self.words = words
        self.state = SourceState.WAITING
        self.tallies: Tallies = {}
        self.socket = context.socket(self.socket_type)
        self.socket.linger = 0
        self.socket.sndtimeo = self.socket.rcvtimeo = _WAIT_MS
        for name, value in SOCKET_OPTIONS.items():
            setattr(self.socket, name, value)
        self.prepare()

    def prepare(self) -> None:
        """Set the options and attributes of the role. Called before the socket is connected."""

    def is_ready(self) -> bool:
        """Return True if the peer is connected from end to end, as far as it can tell. Called until it is."""
        return True

    def work(self) -> None:
        """Send or receive one burst, or wait for a short time."""
        raise NotImplementedError

    def finish(self) -> None:
        """Send no more messages, but finish what was begun."""
        self.state = SourceState.STOPPED

    def drain(self) -> None:
        """Receive what still comes, until nothing comes."""

    def report(self) -> Report:
        """Return what was counted so far."""
        return Report(self.role, self.number, self.tallies)

    def send_burst(self, bodies: list[bytes]) -> int:
        """Send messages. Return how many the socket took: not all of them if it is full."""
        send = self.socket.send
        for i, body in enumerate(bodies):
            try:
                send(body)
            except zmq.Again:
                add_to_tallies(self.tallies, bodies[:i])
                return i
        add_to_tallies(self.tallies, bodies)
        return len(bodies)


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
            self.commands.wait(_WAIT_MS)

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
            self.commands.wait(_WAIT_MS)

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


class Sink(Peer):
    """Receives messages."""

    def work(self) -> None:
        add_to_tallies(self.tallies, self.receive_burst())

    def drain(self) -> None:
        while self.socket.poll(_QUIET_MS):
            self.work()

    def receive_burst(self) -> list[bytes]:
        """Return the messages that have arrived. Waits for a short time for the first one."""
        bodies: list[bytes] = []
        receive = self.socket.recv
        with suppress(zmq.Again):
            bodies.append(receive())
            while len(bodies) < _BURST:
                bodies.append(receive(zmq.DONTWAIT))
        return bodies


class Worker(Sink):
    """Replies to requests."""

    socket_type = zmq.REP
    is_greedy = False

    def work(self) -> None:
        with suppress(zmq.Again):
            request = self.socket.recv()
            self.socket.send(make_reply(request))
            add_to_tallies(self.tallies, [request])


class Pusher(Peer):
    """Pushes as fast as it can."""

    socket_type = zmq.PUSH

    def prepare(self) -> None:
        self.next_number = 1

    def work(self) -> None:
        if self.state is not SourceState.SENDING:
            self.commands.wait(_WAIT_MS)
            return
        first = self.next_number
        stream = f"s{self.number}"
        self.next_number += self.send_burst([make_body(stream, i) for i in range(first, first + _BURST)])


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
            numbers = [next(self.numbers) for _ in range(_BURST // len(self.topics))]
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


ROLES: Final[Mapping[str, type[Peer]]] = {
    "client": Client,
    "pipeliner": Pipeliner,
    "worker": Worker,
    "publisher": Publisher,
    "subscriber": Subscriber,
    "pusher": Pusher,
    "puller": Puller,
}
