"""Checking what clients and workers are given."""

import math
from collections.abc import Iterable, Sequence

from pollbroker.errors import ConfigError
from pollbroker.rpc.errors import RpcError


def check_seconds(where: str, **settings: float) -> None:
    """Raise `ConfigError` unless each of them is a number of seconds above 0."""
    for name, value in settings.items():
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not 0 < value < math.inf:
            raise ConfigError(f"{where}: {name} is {value!r}: expected a number of seconds above 0")


def check_whole(where: str, least: int, **settings: int) -> None:
    """Raise `ConfigError` unless each of them is a whole number, and at least this."""
    for name, value in settings.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(f"{where}: {name} is {value!r}: expected a whole number from {least} on")


def check_version(where: str, version: object) -> None:
    """Raise `ConfigError` unless this is a version of MDP."""
    if isinstance(version, bool) or version not in (1, 2):
        raise ConfigError(f"{where}: version is {version!r}: expected 1 (MDP 0.1) or 2 (MDP 0.2)")


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
