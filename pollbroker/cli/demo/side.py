"""One side of the comparison, as the demo sees it: a process with brokers, and sockets that are their peers."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import zmq

from pollbroker.cli.demo.processes import READY_S, REPLY_S, DemoError, DemoProcess, PeerProcesses
from pollbroker.cli.demo.workload import make_body

_DEADLINE_MS: Final = 10_000
"""How long a message may take that has to come."""

Socket: TypeAlias = zmq.Socket[Any]


@dataclass(frozen=True)
class Facts:
    """What a contender says of itself."""

    cpu_s: float
    """Seconds of processor time that its process has taken since its start, in all of its threads."""
    threads: int
    """How many threads run its brokers."""
    unroutable: int | None
    """How many replies it has counted as not deliverable. None if it does not count them."""


class Side:
    """One contender and its peers. Leaving the context ends their processes.

    Arguments:
        name: a key of `CONTENDERS`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.about = ""
        """What the contender says that it is."""
        self.control = ""
        """Where it takes commands."""
        self.peers = PeerProcesses()
        self._process = DemoProcess(name, "contender", name)
        self._addresses: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self.peers:
            self._process.begin_end()
        self._process.end(time.monotonic() + 3.0)

    def wait_until_ready(self) -> None:
        """Wait until the contender serves."""
        fields = self._process.read_reply(time.monotonic() + READY_S)
        self.about, self.control, self._addresses = fields["about"], fields["control"], fields["addresses"]

    def address(self, broker: str, port: str) -> str:
        """The address of a port."""
        return self._addresses[broker][port]

    def facts(self) -> Facts:
        """Ask the contender for its facts."""
        self._process.tell("facts")
        return Facts(**self._process.read_reply(time.monotonic() + REPLY_S))

    @contextmanager
    def sockets(self, *wanted: tuple[int, str]) -> Iterator[list[Socket]]:
        """As a context: sockets in a context of their own, each connected to an address. At the end all of that is
        closed: then the contender's process can see that they are gone."""
        with ExitStack() as stack:
            context: zmq.Context[Any] = stack.enter_context(zmq.Context())
            sockets = []
            for kind, address in wanted:
                socket = stack.enter_context(context.socket(kind))
                socket.linger = 0
                socket.sndtimeo = socket.rcvtimeo = _DEADLINE_MS
                socket.connect(address)
                sockets.append(socket)
            try:
                yield sockets
            except zmq.Again:
                raise DemoError(f"demo: {self.name}: no message could be moved in {_DEADLINE_MS // 1000} s") from None


def bodies_of(stream: str, first: int, number: int) -> list[bytes]:
    """Messages of one stream, from the one with the number `first` on."""
    return [make_body(stream, one) for one in range(first, first + number)]


def receive(puller: Socket, expected: Sequence[bytes], quiet_ms: int) -> list[bytes]:
    """Return the messages that come until all that are expected are there, or until nothing comes for `quiet_ms`."""
    got: list[bytes] = []
    while len(got) < len(expected) and puller.poll(quiet_ms):
        got.append(puller.recv())
    return got
