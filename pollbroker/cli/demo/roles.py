"""The roles of the demo's peers: what each sends or takes, and what it counts.

Nothing is lost inside libzmq: a publisher waits when one of its subscribers is full (XPUB_NODROP), and publishes only
what has been probed, since a subscription takes its time to travel from the subscriber to the publisher.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum, auto
from itertools import count
from typing import Any, ClassVar, Final

import zmq

from pollbroker.cli.demo.orders import Orders
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
"""Published, and subscribed to by nobody: it must not cross the broker."""

_BURST: Final = 200
"""Messages between two looks at stdin."""

_PATIENCE_MS: Final = 20
"""How long anything waits before stdin is looked at again."""

_PROBING_MS: Final = 5
"""Between two probes."""

_QUIET_MS: Final = 100
"""At the end: nothing came for so long, so nothing more is coming."""


class Stage(Enum):
    """Whether a source makes messages."""

    WAITING = auto()
    GOING = auto()
    OVER = auto()


class Peer:
    """What all roles share: a socket, an account, and being steered."""

    socket_type: ClassVar[int]
    is_greedy: ClassVar[bool] = True
    """Whether it uses all the time that it is given."""

    def __init__(self, context: zmq.Context[Any], orders: Orders, role: str, number: int, words: Sequence[str]) -> None:
        self.orders = orders
        self.role = role
        self.number = number
        self.words = words
        self.stage = Stage.WAITING
        self.tallies: Tallies = {}
        self.socket = context.socket(self.socket_type)
        self.socket.linger = 0
        self.socket.sndtimeo = self.socket.rcvtimeo = _PATIENCE_MS
        for name, value in SOCKET_OPTIONS.items():
            setattr(self.socket, name, value)
        self.prepare()

    def prepare(self) -> None:
        """Set what the role needs before the socket is connected."""

    def is_ready(self) -> bool:
        """Whether it is connected as far as it can tell; called again and again until it is."""
        return True

    def work(self) -> None:
        """One burst, or a short wait."""
        raise NotImplementedError

    def finish(self) -> None:
        """Make no more messages, and end what was begun."""
        self.stage = Stage.OVER

    def drain(self) -> None:
        """Take what is still coming, until nothing comes."""

    def report(self) -> Report:
        """What was counted so far."""
        return Report(self.role, self.number, self.tallies)

    def send_burst(self, bodies: list[bytes]) -> int:
        """How many of them were taken: fewer than all if the socket is full."""
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
        """The one that has no reply yet."""
        self.replies = self.wrong = 0

    def is_ready(self) -> bool:
        """Whether a first reply has come."""
        return self._exchange()

    def work(self) -> None:
        if self.stage is Stage.GOING:
            self._exchange()
        else:
            self.orders.wait(_PATIENCE_MS)

    def finish(self) -> None:
        super().finish()
        while self.request and not self.orders.wait(0):
            self._exchange()

    def _exchange(self) -> bool:
        """Whether a reply has come."""
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


class Sink(Peer):
    """What takes messages."""

    def work(self) -> None:
        add_to_tallies(self.tallies, self.receive_burst())

    def drain(self) -> None:
        while self.socket.poll(_QUIET_MS):
            self.work()

    def receive_burst(self) -> list[bytes]:
        """What has arrived; waits a little for the first message."""
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
        if self.stage is not Stage.GOING:
            self.orders.wait(_PATIENCE_MS)
            return
        first = self.next_number
        stream = f"s{self.number}"
        self.next_number += self.send_burst([make_body(stream, i) for i in range(first, first + _BURST)])


class Puller(Sink):
    """Pulls."""

    socket_type = zmq.PULL


class Publisher(Peer):
    """Publishes on several topics as fast as the slowest subscriber reads. `words`: the topics that somebody wants."""

    socket_type = zmq.XPUB  # a PUB could not see the subscriptions come

    def prepare(self) -> None:
        self.socket.xpub_nodrop = 1
        self.topics = [*self.words, UNWANTED_TOPIC]
        self.missing = {b"\1" + topic.encode() for topic in self.words}
        self.pending: list[bytes] = []
        self.numbers = count(1)
        self.probes = 0

    def is_ready(self) -> bool:
        """Whether all subscriptions have come; from now on every probe and every message crosses the broker."""
        with suppress(zmq.Again):
            self.missing.discard(self.socket.recv())
        return not self.missing

    def work(self) -> None:
        if self.stage is not Stage.GOING:
            self.orders.wait(_PROBING_MS)
            if self.stage is Stage.WAITING:
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
    """Takes what is published. `words`: the streams that it is to hear, each a topic and a publisher."""

    socket_type = zmq.SUB

    def prepare(self) -> None:
        for topic in {stream[0] for stream in self.words}:
            self.socket.subscribe(topic)
        self.unheard = set(self.words)

    def is_ready(self) -> bool:
        """Whether each stream was heard: what is published from now on arrives."""
        self.work()
        return not self.unheard

    def work(self) -> None:
        bodies = self.receive_burst()
        probes = [body for body in bodies if is_probe(body)]
        self.unheard -= {stream_of(probe) for probe in probes}
        add_to_tallies(self.tallies, (body for body in bodies if not is_probe(body)) if probes else bodies)


ROLES: Final[Mapping[str, type[Peer]]] = {
    "client": Client,
    "worker": Worker,
    "publisher": Publisher,
    "subscriber": Subscriber,
    "pusher": Pusher,
    "puller": Puller,
}
