"""What a socket could do if it processed its commands now, found out without processing any.

The invariants are checked against this, so it must not change the simulation. libzmq's own answers would: they process
commands, put pipes to sleep, and fetch messages ahead. Only the mailbox of the socket itself is read. What its peers
have yet to process counts as not having happened.
"""

from typing import TYPE_CHECKING, NamedTuple

from pollbroker.testing.simulation.frame import DELIMITER, LAST, ROUTING_ID, Item
from pollbroker.testing.simulation.pipe import ACTIVE, LET_GO, LET_GO_BOTH, UP_TO_DELIMITER, Pipe

if TYPE_CHECKING:
    from pollbroker.testing.simulation.core import SocketCore


class Outlook(NamedTuple):
    """One pipe as it will be when the socket has processed its commands."""

    pipe: Pipe
    takes: bool
    """Whether the pipe would accept the first frame of a message."""
    told_at: int | None
    """The number, counted from 0, of the first command that attaches the pipe or says that it can be read; None if
    there is no such command."""
    room: bool
    """Whether the high-water mark allows another message, even if the pipe is being ended."""
    items: list[Item]
    """The items that could be read from the pipe."""

    @property
    def is_told_of(self) -> bool:
        """Return True if a command attaches the pipe or says that it can be read."""
        return self.told_at is not None

    @property
    def messages(self) -> list[list[bytes]]:
        """The whole messages that could be read from the pipe."""
        messages: list[list[bytes]] = []
        frames: list[bytes] = []
        for body, kind in self.items:
            if kind != ROUTING_ID:
                frames.append(body)
                if kind == LAST:
                    messages.append(frames)
                    frames = []
        return messages


def unread_by_leavers(pipes: "list[Pipe]") -> int:
    """How many messages in these pipes will never be read, because the other end has ended the pipe."""
    return sum(
        kind == LAST for pipe in pipes if pipe.peer.state in (LET_GO, LET_GO_BOTH) for _, kind in pipe.outbound.items
    )


def outlooks(socket: "SocketCore") -> list[Outlook]:
    """The outlooks of all pipes that the socket would have, in the order in which it got them."""
    gone: set[Pipe] = set()
    leaving: set[Pipe] = set()
    has_read: dict[Pipe, int] = {}
    water_marks: dict[Pipe, int] = {}
    told_at: dict[Pipe, int] = {}
    pipes = list(socket.pipes)
    for place, (function, target, number) in enumerate(socket.mailbox.commands):
        if function is Pipe.on_acknowledged:
            gone.add(target)
        elif function is Pipe.on_terminate:
            leaving.add(target)
        elif function is Pipe.on_room:
            has_read[target] = number
        elif function is Pipe.on_water_marks:
            water_marks[target] = number
        elif function is on_bind:
            pipes.append(target)
            told_at.setdefault(target, place)
        elif function is Pipe.on_readable:
            told_at.setdefault(target, place)
    return [
        Outlook(
            pipe,
            takes=pipe.state == ACTIVE and pipe not in leaving and (pipe.writable or pipe in has_read) and room,
            told_at=told_at.get(pipe),
            room=room,
            items=_readable_items(pipe),
        )
        for pipe in pipes
        if pipe not in gone
        for room in [pipe.would_have_room(has_read.get(pipe), water_marks.get(pipe))]
    ]


def _readable_items(pipe: Pipe) -> list[Item]:
    if pipe.state not in (ACTIVE, UP_TO_DELIMITER):
        return []
    items = list(pipe.inbound.items)
    return items[: items.index(DELIMITER)] if DELIMITER in items else items


def on_bind(pipe: Pipe, _: int) -> None:
    """The command that attaches the pipe of a new connection to a socket that has bound."""
    pipe.owner.attach(pipe)


def on_connected(socket: "SocketCore", _: int) -> None:
    """The command by which a socket that has connected learns of the bind. It has no effect but the wake-up."""
