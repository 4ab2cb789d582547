"""The frames that clients and workers are given, and how those of a peer are shown in errors."""

from collections.abc import Iterable, Sequence
from typing import Final

from pollbroker.rpc.errors import RpcError

_SHOWN_FRAMES: Final = 3
_SHOWN_BYTES: Final = 60
"""How much of what a peer has sent an error repeats."""


def shown(frames: Sequence[bytes]) -> str:
    """The beginning of a message, for an error."""
    beginning = [frame[:_SHOWN_BYTES] for frame in frames[:_SHOWN_FRAMES]]
    if beginning == list(frames):
        return repr(beginning)
    return f"{beginning!r}... ({len(frames)} in all, with {sum(map(len, frames))} bytes)"


def shown_text(frame: bytes) -> str:
    """The beginning of a frame that should be text, for an error."""
    text = frame[:_SHOWN_BYTES].decode(errors="backslashreplace")
    return text if len(frame) <= _SHOWN_BYTES else f"{text}... ({len(frame)} bytes)"


def to_frame(where: str, text: str | bytes) -> bytes:
    """A name as it is sent: text in UTF-8. Raises `RpcError` if it is something else."""
    if isinstance(text, str):
        return text.encode()
    if isinstance(text, bytes):
        return text
    raise RpcError(f"{where}: {text!r}: expected a string or bytes")


def to_frames(where: str, frames: Iterable[bytes] | bytes) -> list[bytes]:
    """A body as it is sent: one or more frames. A single frame may be given as it is.

    Raises `RpcError` if it is something else.
    """
    if isinstance(frames, bytes):
        return [frames]
    listed = list(frames) if isinstance(frames, Sequence) and not isinstance(frames, str) else []
    if not listed or not all(isinstance(frame, bytes) for frame in listed):
        raise RpcError(f"{where}: {frames!r}: expected one or more frames of bytes")
    return listed
