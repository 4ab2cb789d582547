"""What a simulated socket is to its pipes, whatever its type; what it is to its user is in `socket.py`.

A type says what it does with its pipes (`_attach`, `_forget`, `on_readable`, `on_writable`), what it does for its user
(`_send`, `_receive`, `_has_in`, `_has_out`), and what is true of it (`_would_receive`, `_would_send`).

Whoever asks for the truth (`can_receive`, `can_send`, `unread`) changes nothing by that. What counts is what this
socket would do if it processed its own commands now, whatever its peers have yet to process.
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
    """A socket without its public face."""

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
    """Whether a peer's first item is the name that it goes by."""

    def __init__(self, context: "SimContext", socket_type: zmq.SocketType, number: int) -> None:
        self.type = socket_type
        self.closed = False
        self.underlying = number
        self.name = f"{socket_type.name}-{number}"
        self.watched = False
        """Whether its operations are counted, and may be meddled with."""
        self.lost_with_peers = 0
        """Messages that it sent, and that a peer which left had not read, or not wholly been sent."""
        self.dropped_in_silence = 0
        """Messages that it swallowed without a word; for a publisher, one for each peer that missed one."""
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
        """Those that it has now."""
        return self._pipes

    @property
    def tears_messages(self) -> bool:
        """See `SimNetwork`."""
        return self._network.tears_messages

    # The truth

    def can_receive(self) -> bool:
        """Whether a whole message could be received now."""
        return not self.closed and self._would_receive(outlooks(self))

    def can_send(self, first_frame: bytes | None = None) -> bool:
        """Whether a message's first frame would be taken now; for a ROUTER that frame is the routing id."""
        return not self.closed and self._would_send(outlooks(self), first_frame)

    def lost_so_far(self) -> int:
        """`lost_with_peers`, and what lies unread with peers that have let go, though not all has been said of that."""
        return self.lost_with_peers + unread_by_leavers(self._pipes)

    def unread(self) -> list[list[bytes]]:
        """The whole messages that wait in its pipes, one pipe after the other."""
        return [message for outlook in outlooks(self) for message in outlook.messages]

    def _refuse(self) -> None:
        if self.closed:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        raise zmq.ContextTerminated

    # Commands, and what pipes tell

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

    # What a type does

    def _set(self, option: int, value: int | bytes) -> None:
        """An option of this type was set."""

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
