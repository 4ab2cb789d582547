"""What a handler may return: the frames of a reply, one frame, or an iterator of parts."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

from pollbroker.rpc.errors import RpcError
from pollbroker.rpc.frames import to_frames

Body: TypeAlias = bytes | list[bytes] | tuple[bytes, ...]
Handler: TypeAlias = Callable[[list[bytes]], Body | Iterator[Body]]
"""Given the frames of a request, it returns the reply: one frame, or several. An iterator, such as a generator makes,
is a reply in parts, which MDP 0.2 has; what it yields last is the end of it."""
AsyncHandler: TypeAlias = Callable[[list[bytes]], Body | Iterator[Body] | AsyncIterator[Body] | Awaitable[Any]]
"""A handler that may also be a coroutine function or an asynchronous generator."""

Answer: TypeAlias = tuple[list[bytes], bool]
"""The frames of a part, and whether it is the last."""


def answers(where: str, has_parts: bool, result: Any) -> Iterator[Answer]:
    """The parts of what a handler has returned. Raises `RpcError` if it cannot be sent."""
    if not isinstance(result, Iterator):
        yield to_frames(where, result), True
        return
    _check_parts(where, has_parts)
    before: Any = None
    for body in result:
        if before is not None:
            yield before, False
        before = to_frames(where, body)
    yield _last(where, before), True


async def async_answers(where: str, has_parts: bool, result: Any) -> AsyncIterator[Answer]:
    """As `answers`, also for asynchronous iterators."""
    if not isinstance(result, AsyncIterator):
        for answer in answers(where, has_parts, result):
            yield answer
        return
    _check_parts(where, has_parts)
    before: Any = None
    async for body in result:
        if before is not None:
            yield before, False
        before = to_frames(where, body)
    yield _last(where, before), True


def _check_parts(where: str, has_parts: bool) -> None:
    if not has_parts:
        raise RpcError(f"{where}: a reply in parts cannot be sent; expected frames, or MDP 0.2 (version=2)")


def _last(where: str, body: list[bytes] | None) -> list[bytes]:
    if body is None:
        raise RpcError(f"{where}: the handler's iterator was empty; expected one part or more")
    return body
