"""The frames of the Paranoid Pirate Protocol (RFC 6/PPP), for brokers and for workers.

A message of one frame is a command, and a message of several is a request or a reply: the addresses of those that it
has to go back through, an empty frame, and one or more frames of content. The same rules hold in both directions.
"""

from collections.abc import Sequence
from typing import Final

READY: Final = b"\x01"
"""From a worker: a conversation begins, and the worker takes requests."""

HEARTBEAT: Final = b"\x02"
"""From either side: it is still there."""


def split_envelope(frames: Sequence[bytes]) -> tuple[list[bytes], list[bytes]] | None:
    """The addresses and the content of a request or a reply, without the empty frame between them.

    None if there is no address, no empty frame after the addresses, or no content.
    """
    try:
        end = frames.index(b"", 1)
    except ValueError:
        return None
    if end + 1 == len(frames):
        return None
    return list(frames[:end]), list(frames[end + 1 :])
