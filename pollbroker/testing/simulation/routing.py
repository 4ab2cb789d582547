"""How a socket with several pipes chooses among them: in turn to send, in turn to receive, or all that match.

Rules, which are libzmq's (lb.cpp, fq.cpp, dist.cpp):

- Each class keeps its pipes in one list, of which the front part is active. A pipe that refuses is swapped behind that
  part, and swapped back when it becomes readable or writable again. The order that results decides which pipe is next,
  so it has to be exactly libzmq's.
- The frames of one message go to, and come from, one pipe. When that pipe ends in the middle of a message, the rest of
  the message is dropped.
"""

from typing import TYPE_CHECKING, Final

from pollbroker.testing.simulation.frame import MORE, Item, WouldAbort
from pollbroker.testing.simulation.pipe import ACTIVE, Pipe

if TYPE_CHECKING:
    from pollbroker.testing.simulation.core import SocketCore

TAKEN: Final = 0
NO_ROOM: Final = 1
BROKEN: Final = 2
"""Not taken: the peer has left in the middle of this message. The rest of the message will be dropped."""


def swap(pipes: list[Pipe], one: int, other: int) -> None:
    pipes[one], pipes[other] = pipes[other], pipes[one]


def forget(pipes: list[Pipe], pipe: Pipe) -> None:
    """Remove a pipe from a list. The last pipe takes its place."""
    last = pipes.pop()
    if last is not pipe:
        pipes[pipes.index(pipe)] = last


class Balancer:
    """Sends each message to the next pipe that has room."""

    __slots__ = ("_active", "_current", "_pipes", "_socket", "_swallows", "in_message", "used")

    def __init__(self, socket: "SocketCore") -> None:
        self._socket = socket
        self._pipes: list[Pipe] = []
        self._active = 0
        self._current = 0
        self._swallows = False
        self.in_message = False
        self.used: Pipe | None = None
        """The pipe that the last frame went to."""

    def attach(self, pipe: Pipe) -> None:
        self._pipes.append(pipe)
        self.on_writable(pipe)

    def on_writable(self, pipe: Pipe) -> None:
        swap(self._pipes, self._pipes.index(pipe), self._active)
        self._active += 1

    def on_terminated(self, pipe: Pipe) -> None:
        place = self._pipes.index(pipe)
        if place == self._current and self.in_message:
            # A pipe that ends while the rest of a message is dropped has lost nothing more.
            self._socket.lost_with_peers += not self._swallows
            self._swallows = True
        current = self._pipes[self._current] if self._current < len(self._pipes) else pipe
        if place < self._active:
            self._retire(place)
        forget(self._pipes, pipe)
        if self.in_message and current is not pipe and not self._socket.tears_messages:
            self._current = self._pipes.index(current)

    def send(self, body: bytes, kind: int) -> int:
        """Send a frame. Return TAKEN, NO_ROOM or BROKEN."""
        if self._swallows:
            self.in_message = self._swallows = kind == MORE
            return TAKEN
        pipes = self._pipes
        while self._active:
            pipe = pipes[self._current]
            if pipe.write(body, kind):
                self.used = pipe
                if kind == MORE:
                    self.in_message = True
                    return TAKEN
                self.in_message = False
                self._current += 1
                if self._current >= self._active:
                    self._current = 0
                return TAKEN
            if self.in_message:
                pipe.rollback()
                self._swallows = kind == MORE
                self.in_message = False
                return BROKEN
            self._retire(self._current)
        return NO_ROOM

    def has_out(self) -> bool:
        if self.in_message:
            return True
        while self._active:
            if self._pipes[self._current].can_write():
                return True
            self._retire(self._current)
        return False

    def _retire(self, place: int) -> None:
        self._active -= 1
        swap(self._pipes, place, self._active)
        if self._current == self._active:
            self._current = 0


class FairQueue:
    """Receives one message from each pipe in turn."""

    __slots__ = ("_active", "_current", "_pipes", "in_message", "used")

    def __init__(self) -> None:
        self._pipes: list[Pipe] = []
        self._active = 0
        self._current = 0
        self.in_message = False
        self.used: Pipe | None = None
        """The pipe that the last frame came from."""

    def attach(self, pipe: Pipe) -> None:
        self._pipes.append(pipe)
        self.on_readable(pipe)

    def on_readable(self, pipe: Pipe) -> None:
        swap(self._pipes, self._pipes.index(pipe), self._active)
        self._active += 1

    def on_terminated(self, pipe: Pipe) -> None:
        place = self._pipes.index(pipe)
        if place < self._active:
            self._retire(place)
        forget(self._pipes, pipe)

    def receive(self) -> Item | None:
        while self._active:
            pipe = self._pipes[self._current]
            item = pipe.read()
            if item is not None:
                self.used = pipe
                if item[1] == MORE:
                    self.in_message = True
                else:
                    self.in_message = False
                    self._current = (self._current + 1) % self._active
                return item
            if self.in_message:
                raise WouldAbort("fq.cpp: the socket ended a pipe while it was receiving a message from it")
            self._retire(self._current)
        return None

    def has_in(self) -> bool:
        if self.in_message:
            return True
        while self._active:
            if self._pipes[self._current].can_read():
                return True
            self._retire(self._current)
        return False

    def _retire(self, place: int) -> None:
        self._active -= 1
        swap(self._pipes, place, self._active)
        if self._current == self._active:
            self._current = 0


class Distributor:
    """Sends each message to every pipe that matches.

    The list begins with the pipes that match this message. After them come the other pipes to which this message may go
    (active), then those to which the next message may go (eligible), then those that refused.
    """

    __slots__ = ("_active", "_eligible", "_in_message", "_matching", "_pipes", "_socket")

    def __init__(self, socket: "SocketCore") -> None:
        self._socket = socket
        self._pipes: list[Pipe] = []
        self._matching = self._active = self._eligible = 0
        self._in_message = False

    def attach(self, pipe: Pipe) -> None:
        pipes = self._pipes
        pipes.append(pipe)
        if self._in_message:
            swap(pipes, self._eligible, len(pipes) - 1)
        else:
            swap(pipes, self._active, len(pipes) - 1)
            self._active += 1
        self._eligible += 1

    def on_writable(self, pipe: Pipe) -> None:
        pipes = self._pipes
        if self._eligible < len(pipes):
            swap(pipes, pipes.index(pipe), self._eligible)
            self._eligible += 1
        if not self._in_message and self._active < len(pipes):
            swap(pipes, self._eligible - 1, self._active)
            self._active += 1

    def on_terminated(self, pipe: Pipe) -> None:
        pipes = self._pipes
        if pipes.index(pipe) < self._matching:
            self._matching -= 1
            swap(pipes, pipes.index(pipe), self._matching)
        if pipes.index(pipe) < self._active:
            self._active -= 1
            swap(pipes, pipes.index(pipe), self._active)
        if pipes.index(pipe) < self._eligible:
            self._eligible -= 1
            swap(pipes, pipes.index(pipe), self._eligible)
        forget(pipes, pipe)

    def match(self, pipe: Pipe) -> None:
        place = self._pipes.index(pipe)
        if place >= self._eligible:
            self._socket.dropped_in_silence += pipe.state == ACTIVE
        elif place >= self._matching:
            swap(self._pipes, place, self._matching)
            self._matching += 1

    def unmatch(self) -> None:
        self._matching = 0

    def matches_have_room(self) -> bool:
        return all(pipe.has_room() for pipe in self._pipes[: self._matching])

    def send_to_all(self, body: bytes, kind: int) -> None:
        self._matching = self._active
        self.send_to_matching(body, kind)

    def send_to_matching(self, body: bytes, kind: int) -> None:
        place = 0
        while place < self._matching:
            if self._pipes[place].write(body, kind):
                place += 1
            else:
                self._give_up(self._pipes[place])  # this puts another pipe in its place
        self._in_message = kind == MORE
        if not self._in_message:
            self._active = self._eligible

    def _give_up(self, pipe: Pipe) -> None:
        if self._in_message:
            self._socket.lost_with_peers += 1
        else:
            self._socket.dropped_in_silence += pipe.state == ACTIVE
        self._matching -= 1
        swap(self._pipes, self._pipes.index(pipe), self._matching)
        self._active -= 1
        swap(self._pipes, self._pipes.index(pipe), self._active)
        self._eligible -= 1
        swap(self._pipes, self._active, self._eligible)
