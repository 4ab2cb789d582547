"""What the roles of the demo's peers share: a socket, what it counts, and when it sends, receives and ends."""

from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Any, ClassVar, Final

import zmq

from pollbroker.cli.demo.stdin import StdinCommands
from pollbroker.cli.demo.workload import (
    SOCKET_OPTIONS,
    Report,
    Tallies,
    add_to_tallies,
)

BURST: Final = 200
"""How many messages are sent or received between two looks at stdin."""

WAIT_MS: Final = 20
"""The longest wait between two looks at stdin."""

QUIET_MS: Final = 100
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
        self.socket.sndtimeo = self.socket.rcvtimeo = WAIT_MS
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


class Sink(Peer):
    """Receives messages."""

    def work(self) -> None:
        add_to_tallies(self.tallies, self.receive_burst())

    def drain(self) -> None:
        while self.socket.poll(QUIET_MS):
            self.work()

    def receive_burst(self) -> list[bytes]:
        """Return the messages that have arrived. Waits for a short time for the first one."""
        bodies: list[bytes] = []
        receive = self.socket.recv
        with suppress(zmq.Again):
            bodies.append(receive())
            while len(bodies) < BURST:
                bodies.append(receive(zmq.DONTWAIT))
        return bodies
