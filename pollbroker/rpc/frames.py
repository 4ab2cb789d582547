"""The frames that clients and workers are given."""

from collections.abc import Iterable, Sequence

from pollbroker.rpc.errors import RpcError


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
