"""What a socket could do if it processed its commands now, found out without processing any.

This is what invariants are checked against, so it must not disturb: libzmq's own answers change what they tell of (they
process commands, put pipes to sleep, fetch messages ahead). It looks at the socket's own mailbox only; what its peers
have yet to process has not happened.
"""

from typing import TYPE_CHECKING, NamedTuple

from pollbroker.testing.simulation.frame import DELIMITER, LAST, ROUTING_ID, Item
from pollbroker.testing.simulation.pipe import ACTIVE, LET_GO, LET_GO_BOTH, UP_TO_DELIMITER, Pipe

if TYPE_CHECKING:
    from pollbroker.testing.simulation.core import SocketCore


class Outlook(NamedTuple):
    """One pipe, once the socket has processed its commands."""

    pipe: Pipe
    takes: bool
    """Whether it would take a message's first frame."""
    told_at: int | None
    """Which of the commands, counted from 0, first gives it to the socket, or tells that there is something to read."""
    room: bool
    """Whether the high-water mark allows one, be it that the pipe is being ended."""
    items: list[Item]
    """What could be read from it."""

    @property
    def is_told_of(self) -> bool:
        """Whether the socket would be given it, or be told that there is something to read."""
        return self.told_at is not None

    @property
    def messages(self) -> list[list[bytes]]:
        """The whole messages in it."""
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
    """How many messages written to these pipes their other ends will never read: they have let go."""
    return sum(
        kind == LAST for pipe in pipes if pipe.peer.state in (LET_GO, LET_GO_BOTH) for _, kind in pipe.outbound.items
    )


def outlooks(socket: "SocketCore") -> list[Outlook]:
    """Those of all pipes that the socket would have, in the order in which it got them."""
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
    """The command that gives a socket the pipe that somebody connected to it."""
    pipe.owner.attach(pipe)


def on_connected(socket: "SocketCore", _: int) -> None:
    """The command that tells a socket that a peer was bound; it does nothing but wake."""
