"""What a Titanic client does (RFC 9), as generators without I/O: what is asked is yielded, and the reply is sent in."""

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import NamedTuple, TypeAlias, TypeVar

from pollbroker.errors import PollbrokerError
from pollbroker.patterns.titanic import frames as titanic
from pollbroker.rpc.errors import RequestTimeout, ServerFailed, TitanicError, UnknownRequest
from pollbroker.rpc.frames import shown, shown_text, to_frame, to_frames

T = TypeVar("T")


class Ask(NamedTuple):
    """Ask a service of the Titanic server."""

    service: bytes
    frames: list[bytes]


class Pause(NamedTuple):
    """Wait."""

    seconds: float


Call: TypeAlias = Generator[Ask | Pause, list[bytes], T]


def submit(where: str, service: str | bytes, frames: tuple[bytes, ...]) -> Call[str]:
    """Store a request; the UUID."""
    name = to_frame(where, service)
    body = yield from _ask(where, titanic.REQUEST, titanic.request_body(name, to_frames(where, frames)))
    assert body is not None
    if not body or not titanic.is_uuid(body[0]):
        raise TitanicError(f"{where}: titanic.request: the server sent {shown(body)}; expected a UUID")
    return body[0].decode()


def fetch(where: str, uuid: str) -> Call[list[bytes] | None]:
    """The reply; None if there is none yet."""
    return (yield from _ask(where, titanic.REPLY, [to_frame(where, uuid)]))


def close(where: str, uuid: str) -> Call[None]:
    """Have a request and its reply forgotten."""
    yield from _ask(where, titanic.CLOSE, [to_frame(where, uuid)])


def call(
    where: str,
    service: str | bytes,
    frames: tuple[bytes, ...],
    *,
    timeout_s: float,
    every_s: float,
    clock: Callable[[], float],
) -> Call[list[bytes]]:
    """Store a request, ask for the reply until there is one, and have both forgotten. Once the request is stored, every
    error names it."""
    uuid = yield from submit(where, service, frames)
    until_s = clock() + timeout_s
    while True:
        reply, why = None, None
        try:
            reply = yield from fetch(where, uuid)
        except (RequestTimeout, ServerFailed) as error:
            why = error  # the server may come back, or work again, with all that it has stored
        except UnknownRequest:
            raise
        except PollbrokerError as error:
            raise type(error)(f"{error}; the request {uuid} can still be fetched") from error
        if reply is not None:
            with suppress(PollbrokerError):  # whatever becomes of the request, the reply is there
                yield from close(where, uuid)
            return reply
        if clock() >= until_s:
            raise RequestTimeout(
                f"{where}: no reply to the request {uuid} in {timeout_s:g} s; it can still be fetched"
            ) from why
        yield Pause(every_s)


def _ask(where: str, service: bytes, frames: list[bytes]) -> Call[list[bytes] | None]:
    """The body of a reply; None if there is none yet."""
    answer = yield Ask(service, frames)
    reply = titanic.parse_titanic_reply(answer)
    asked = f"{where}: {service.decode()}"
    if reply is None:
        raise TitanicError(f"{asked}: the server sent {shown(answer)}; expected a status of RFC 9")
    if reply.status == titanic.OK:
        return reply.body
    if reply.status == titanic.PENDING and service == titanic.REPLY:
        return None
    status = shown_text(answer[0])
    if reply.status == titanic.UNKNOWN and service != titanic.REQUEST:
        raise UnknownRequest(f"{asked}: {frames[0].decode(errors='backslashreplace')}: {status}: expected a known UUID")
    error = ServerFailed if reply.status == titanic.ERROR else TitanicError
    raise error(f"{asked}: the server answered {status}")
