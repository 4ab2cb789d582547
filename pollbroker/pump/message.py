"""What a handler is given, and what it may return."""

import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

from pollbroker.errors import DeviceError

Message: TypeAlias = Sequence[bytes]
"""One or more frames. A handler is given a `list[bytes]`, and may return or yield any sequence of bytes."""


@dataclass(slots=True)
class To:
    """A message for one sink of a route that has several; a plain message goes to all of them.

        Route("frontend", ("a", "b"), via=lambda message: To("a" if message[-1] < b"m" else "b", message))

    Arguments:
        port: the name of a sink of the route.
        frames: the message.

    Raises `DeviceError` if `frames` is not a message. If the route has no such sink, the message is dropped when it is
    moved, and counted as `failed`.
    """

    port: str
    frames: Message

    def __post_init__(self) -> None:
        if not is_message(self.frames):
            raise DeviceError(f"To({self.port!r}): frames is {self.frames!r}: expected one or more frames of bytes")


HandlerResult: TypeAlias = Message | To | Iterator[Message | To] | None
"""What a handler gives: a message for every sink, or for one, or any number of them, or None to drop the message."""

Handler: TypeAlias = (
    Callable[[list[bytes]], HandlerResult] | Callable[[list[bytes]], Coroutine[Any, Any, HandlerResult]]
)
"""A function of a message, or a coroutine function, which needs an engine on a loop (`pollbroker.asyncio`)."""


def is_coroutine_handler(via: Any) -> bool:
    """Return True for a coroutine function, or an object that is called through one."""
    call = getattr(via, "__call__", None)  # noqa: B004 - an object may be called through an async method
    return inspect.iscoroutinefunction(via) or inspect.iscoroutinefunction(call)


def is_message(value: Any) -> TypeGuard[Message]:
    """Return True if `value` can be sent as a message: a sequence of one or more frames of bytes."""
    if type(value) is not list and (
        not isinstance(value, Sequence) or isinstance(value, (bytes, bytearray, memoryview, str))
    ):
        return False
    for frame in value:
        if not isinstance(frame, bytes):
            return False
    return len(value) > 0
