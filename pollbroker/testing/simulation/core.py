"""The side of a simulated socket that its pipes see, for all socket types; the user's side is in `socket.py`.

A socket type defines what it does with its pipes (`_attach`, `_forget`, `on_readable`, `on_writable`), what it does for
its user (`_send`, `_receive`, `_has_in`, `_has_out`), and what it could do now (`_would_receive`, `_would_send`).

Unlike a call of libzmq's, `can_receive`, `can_send` and `unread` change nothing. They say what this socket would do if
it processed its own commands now. What its peers have yet to process does not count.
"""

from typing import TYPE_CHECKING

import zmq

from pollbroker.testing.simulation.frame import Item
from pollbroker.testing.simulation.mailbox import Mailbox
from pollbroker.testing.simulation.options import DEFAULTS
from pollbroker.testing.simulation.pipe import Pipe
from pollbroker.testing.simulation.truth import Outlook, outlooks, unread_by_leavers

if TYPE_CHECKING:
    from pollbroker.testing.simulation.context import SimContext


class SocketCore:
    """A socket without the methods that look like those of `zmq.Socket`."""

    __slots__ = (
        "__weakref__",
        "_commands",
        "_connected",
        "_context",
        "_dead",
        "_last_endpoint",
        "_network",
        "_options",
        "_pipes",
        "_rcvmore",
        "_receives",
        "_terminated",
        "closed",
        "dropped_in_silence",
        "lost_with_peers",
        "mailbox",
        "name",
        "type",
        "underlying",
        "watched",
    )

    takes_routing_ids = False
    """Whether the first item from each peer is the peer's routing id."""

    def __init__(self, context: "SimContext", socket_type: zmq.SocketType, number: int) -> None:
        self.type = socket_type
        self.closed = False
        self.underlying = number
        self.name = f"{socket_type.name}-{number}"
        self.watched = False
        """Whether its operations are counted, and `SimNetwork.meddle` is called before them."""
        self.lost_with_peers = 0
        """How many messages were lost because a peer left that had not read them, or had not yet got all their
        frames."""
        self.dropped_in_silence = 0
        """How many messages it dropped without an error. A publisher counts one for each peer that missed a message."""
        self.mailbox = Mailbox()
        self._commands = self.mailbox.commands
        self._context = context
        self._network = context.network
        self._options: dict[int, int | bytes] = {}
        self._pipes: list[Pipe] = []
        self._connected: dict[str, list[Pipe]] = {}
        self._last_endpoint = b""
        self._receives = 0
        self._rcvmore = False
        self._terminated = False
        self._dead = False

    def option(self, option: int) -> int | bytes:
        """An option's value, whatever the state of the socket."""
        return self._options.get(option, DEFAULTS.get(option, 0))

    @property
    def pipes(self) -> list[Pipe]:
        """The pipes that it has now."""
        return self._pipes

    @property
    def tears_messages(self) -> bool:
        """See `SimNetwork.tears_messages`."""
        return self._network.tears_messages

    # What the socket could do, found out without changing it

    def can_receive(self) -> bool:
        """Return True if a whole message could be received now."""
        return not self.closed and self._would_receive(outlooks(self))

    def can_send(self, first_frame: bytes | None = None) -> bool:
        """Return True if the first frame of a message would be accepted now. For a ROUTER that is the routing id."""
        return not self.closed and self._would_send(outlooks(self), first_frame)

    def lost_so_far(self) -> int:
        """`lost_with_peers`, and the unread messages of peers that are disconnecting and will not read them."""
        return self.lost_with_peers + unread_by_leavers(self._pipes)

    def unread(self) -> list[list[bytes]]:
        """The whole messages that wait in its pipes, one pipe after the other."""
        return [message for outlook in outlooks(self) for message in outlook.messages]

    def _refuse(self) -> None:
        if self.closed:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        raise zmq.ContextTerminated

    # Commands, and calls from pipes

    def _process_commands(self) -> None:
        if self._commands:
            self.mailbox.process()
            if self._dead:
                self._refuse()

    def on_stop(self, _: int) -> None:
        self._terminated = self._dead = True

    def attach(self, pipe: Pipe) -> None:
        self._pipes.append(pipe)
        self._attach(pipe)
        if self.closed:
            pipe.terminate(delays=False)

    def on_terminated(self, pipe: Pipe) -> None:
        self._forget(pipe)
        self._pipes.remove(pipe)
        for addr, pipes in self._connected.items():
            if pipe in pipes:
                pipes.remove(pipe)
                if not pipes:
                    del self._connected[addr]
                break

    def on_readable(self, pipe: Pipe) -> None:
        raise NotImplementedError

    def on_writable(self, pipe: Pipe) -> None:
        raise NotImplementedError

    # What each socket type defines

    def _set(self, option: int, value: int | bytes) -> None:
        """Called when an option was set, for types that act on it."""

    def _attach(self, pipe: Pipe) -> None:
        raise NotImplementedError

    def _forget(self, pipe: Pipe) -> None:
        raise NotImplementedError

    def _send(self, body: bytes, kind: int) -> int:  # noqa: ARG002
        raise zmq.ZMQError(zmq.ENOTSUP)

    def _receive(self) -> Item | None:
        raise zmq.ZMQError(zmq.ENOTSUP)

    def _has_in(self) -> bool:
        return False

    def _has_out(self) -> bool:
        return False

    def _would_receive(self, outlooks: list[Outlook]) -> bool:
        return any(outlook.messages for outlook in outlooks)

    def _would_send(self, outlooks: list[Outlook], first_frame: bytes | None) -> bool:  # noqa: ARG002
        return False
