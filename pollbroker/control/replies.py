"""The frames of replies, and how a peer's frames are shown in them."""

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

Frames: TypeAlias = list[bytes]


class Document(Protocol):
    """What a reply is put together in, a part at a time: a `bytearray`, or what can be sent in its place."""

    def extend(self, more: bytes, /) -> object: ...

    def __len__(self) -> int: ...


MakeDocument: TypeAlias = Callable[[], Document]
"""Makes an empty document."""

OK: Final = b"OK"
ERROR: Final = b"ERROR"
TIMEOUT: Final = b"TIMEOUT"
"""What was asked for was not done in the time that it might take. One frame follows, which says what is left."""

DONE: Final[Frames] = [b""]

EVERYONE: Final = b"*"
"""Stands for all brokers in front of a time limit, unless one has this name. An empty frame would not do: to a ROUTER
it is the delimiter behind an envelope."""

_SHOWN_CHARACTERS: Final = 60
"""How many characters of a peer's frame an error message repeats."""


@dataclass(frozen=True)
class Later:
    """The reply to a command that takes time."""

    future: "Future[Any]"
    """It is resolved, in the engine's thread, when the command was carried out, or its time is over."""
    reply: Callable[[], Frames]
    """Makes the reply then."""
    in_order: bool = False
    """Whether a socket with one client is to be answered before it is asked again. Such a command takes time only
    because there are many brokers."""


def refusal(text: str, status: bytes = ERROR) -> Frames:
    """A reply that says in one printable line why a command was not carried out."""
    return [status, " ".join(text.split()).encode(errors="backslashreplace")]


def shown(frame: bytes) -> str:
    """Return a peer's frame as one printable line."""
    text = repr(frame[:_SHOWN_CHARACTERS].decode(errors="backslashreplace"))
    return text if len(frame) <= _SHOWN_CHARACTERS else f"{text}... ({len(frame)} bytes)"
