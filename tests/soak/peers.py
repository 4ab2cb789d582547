"""The peers of a soak, each in a process of its own: `python -m tests.soak.peers ROLE SEED RATE ENDPOINT...`.

A peer goes on until it is killed. If it sees what must not happen, it says so and exits with 1.
"""

import random
import socket as net
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

import zmq

from tests.support.types import Socket

TURN_S: Final = 0.02

REMEMBERED: Final = 20_000
"""So many numbers of the messages of one source are remembered, to find those that come twice."""

TOPICS: Final = (b"", b"a", b"ab", b"abc", b"b", b"ba")

GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL".ljust(23, b"\0") + bytes(32)


Context = zmq.Context[Socket]


class SoakError(Exception):
    """What must not happen has happened."""


class Chance(random.Random):
    """What a peer draws."""

    def body(self) -> bytes:
        """Mostly short, now and then long."""
        return bytes(self.choice((0, 10, 60, 60, 300, 3000, 3000, 40_000, 300_000) if self.random() < 0.2 else (60,)))


def opened(context: Context, kind: int, endpoints: Sequence[str], chance: Chance) -> list[Socket]:
    """A socket for each endpoint."""
    sockets: list[Socket] = []
    for endpoint in endpoints:
        socket: Socket = context.socket(kind)
        socket.linger = 0
        if kind != zmq.SUB:  # which would lose subscriptions, without a word
            socket.sndhwm = chance.choice((1, 10, 1000))
        socket.connect(endpoint)
        sockets.append(socket)
    return sockets


class Client:
    """Asks, and checks that it is given the answers to its own questions, each once."""

    def __init__(self, context: Context, endpoints: Sequence[str], chance: Chance, rate: int) -> None:
        self._sockets = [
            *opened(context, zmq.DEALER, endpoints, chance),
            *opened(context, zmq.DEALER, endpoints, chance),
        ]
        self._asked: dict[bytes, float] = {}
        self._window = rate
        self._chance = chance
        self._number = 0
        self._name = b"%x" % chance.getrandbits(64)

    def turn(self, count: int) -> None:
        for socket in self._sockets:
            self._take(socket)
        for _ in range(count):
            socket = self._chance.choice(self._sockets)
            if len(self._asked) < self._window and socket.poll(0, zmq.POLLOUT):
                self._number += 1
                token = b"%s %d" % (self._name, self._number)
                socket.send_multipart([b"", token, self._chance.body()])
                self._asked[token] = time.monotonic()
        old_s = time.monotonic() - 60  # its worker was killed; what was given to another has come since
        for token in [token for token, at_s in self._asked.items() if at_s < old_s]:
            del self._asked[token]

    def _take(self, socket: Socket) -> None:
        while socket.poll(0):
            empty, token, *_ = socket.recv_multipart()
            if empty or self._asked.pop(token, None) is None:
                raise SoakError(f"a reply to a question that was not asked, or the second one: {token!r}")


class Worker:
    """Sends back what it is asked."""

    def __init__(self, context: Context, endpoints: Sequence[str], chance: Chance, rate: int) -> None:
        kinds = (zmq.REP, zmq.DEALER, zmq.ROUTER)
        self._sockets = [socket for kind in kinds for socket in opened(context, kind, endpoints, chance)]

    def turn(self, count: int) -> None:
        for socket in self._sockets:
            while socket.poll(0) and socket.poll(0, zmq.POLLOUT):
                socket.send_multipart(socket.recv_multipart())


class Source:
    """Sends numbered messages. With topics it publishes."""

    def __init__(
        self, context: Context, endpoints: Sequence[str], chance: Chance, rate: int, kind: int = zmq.PUSH
    ) -> None:
        self._sockets = opened(context, kind, endpoints, chance)
        self._chance = chance
        self._number = 0
        self._name = b"%x" % chance.getrandbits(64)

    def turn(self, count: int) -> None:
        for socket in self._sockets:
            for _ in range(count):
                if socket.poll(0, zmq.POLLOUT):
                    self._number += 1
                    topic = self._chance.choice(TOPICS)
                    socket.send_multipart([topic, self._name, b"%d" % self._number, self._chance.body()])


def publisher(context: Context, endpoints: Sequence[str], chance: Chance, rate: int) -> Source:
    return Source(context, endpoints, chance, rate, zmq.PUB)


class Sink:
    """Checks that no message comes twice."""

    def __init__(self, context: Context, endpoints: Sequence[str], chance: Chance, rate: int) -> None:
        self._sockets = opened(context, zmq.PULL, endpoints, chance)
        self._had: defaultdict[bytes, dict[int, None]] = defaultdict(dict)

    def turn(self, count: int) -> None:
        for socket in self._sockets:
            while socket.poll(0):
                _, name, number, _ = socket.recv_multipart()
                had = self._had[name]
                if int(number) in had:
                    raise SoakError(f"message {int(number)} of a source has come twice")
                had[int(number)] = None
                if len(had) > REMEMBERED:
                    del had[next(iter(had))]


class Subscriber:
    """Subscribes, and checks that what comes is what it wants, in order."""

    def __init__(self, context: Context, endpoints: Sequence[str], chance: Chance, rate: int) -> None:
        self._sockets = opened(context, zmq.SUB, endpoints, chance)
        self.wanted: dict[Socket, set[bytes]] = {socket: set() for socket in self._sockets}
        """The topics that each socket has subscribed to."""
        self._latest: dict[tuple[Socket, bytes], int] = {}
        self._chance = chance

    def turn(self, count: int) -> None:
        for socket, wanted in self.wanted.items():
            if self._chance.random() < 0.05:
                topic = self._chance.choice(TOPICS[1:])
                socket.subscribe(topic)
                wanted.add(topic)
            while socket.poll(0):
                topic, name, number, _ = socket.recv_multipart()
                if not topic.startswith(tuple(wanted)):
                    raise SoakError(f"a message of {topic!r}, of which nothing was wanted: {wanted!r}")
                if int(number) <= self._latest.get((socket, name), 0):
                    raise SoakError(f"message {int(number)} of a publisher came late, or twice")
                self._latest[socket, name] = int(number)


class Stranger:
    """Connects, and sends what no peer should: garbage, a greeting before it, a frame without end, or nothing."""

    def __init__(self, context: Context, endpoints: Sequence[str], chance: Chance, rate: int) -> None:
        self._endpoints = endpoints
        self._chance = chance
        self._open: list[net.socket] = []

    def turn(self, count: int) -> None:
        chance = self._chance
        if chance.random() < 0.2:
            self._open.append(self._connected())
        for stream in self._open:
            try:
                if chance.random() < 0.1:
                    stream.send(
                        chance.choice((GREETING, chance.randbytes(chance.choice((1, 10, 3000))), b"\x02" + b"\x40" * 8))
                    )
            except OSError:
                continue  # it was shown the door, or its buffer is full
        if len(self._open) > 10:
            with self._open.pop(0) as stream:
                if chance.random() < 0.5 and stream.family == net.AF_INET:
                    stream.setsockopt(net.SOL_SOCKET, net.SO_LINGER, struct.pack("ii", 1, 0))  # it ends with a reset

    def _connected(self) -> net.socket:
        kind, _, address = self._chance.choice(self._endpoints).partition("://")
        stream = net.socket(net.AF_INET if kind == "tcp" else net.AF_UNIX)
        if kind == "tcp":
            host, _, port = address.rpartition(":")
            stream.connect((host, int(port)))
        else:
            stream.connect(address)
        stream.setblocking(False)
        return stream


Role = Callable[[Context, Sequence[str], Chance, int], Client | Worker | Source | Sink | Subscriber | Stranger]

ROLES: Final[dict[str, tuple[str, str, Role]]] = {
    "client": ("queue", "frontend", Client),
    "worker": ("queue", "backend", Worker),
    "source": ("streamer", "frontend", Source),
    "sink": ("streamer", "backend", Sink),
    "publisher": ("forwarder", "frontend", publisher),
    "subscriber": ("forwarder", "backend", Subscriber),
    "stranger": ("", "", Stranger),
}
"""For each role the device whose brokers it talks to, and at which port; a stranger comes to all of them."""


def main() -> None:
    role, seed, rate, *endpoints = sys.argv[1:]
    peer = ROLES[role][2](zmq.Context(), endpoints, Chance(int(seed)), int(rate))
    owed = 0.0
    while True:
        owed += int(rate) * TURN_S
        peer.turn(int(owed))
        owed -= int(owed)
        time.sleep(TURN_S)


if __name__ == "__main__":
    try:
        main()
    except SoakError as error:
        sys.exit(f"{sys.argv[1]}: {error}")
