"""Following a stream of an engine: the client of EVENTS and TAP."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import zmq

from pollbroker.control.client import ask
from pollbroker.errors import ControlError

_ASK_S: Final = 1.0
"""How long the engine waits for something before it answers that there is nothing."""


@dataclass(frozen=True)
class Portion:
    """What has come since the last portion."""

    items: tuple[Mapping[str, Any], ...]
    """Events, or messages, as docs/control.md has them."""
    lost: int
    """How many are missing, since they came faster than they were asked for."""
    ended: str | None
    """Why no more come; None if more may come."""


def read_stream(endpoint: str, *command: str | bytes, timeout_s: float = 5.0) -> Iterator[Portion]:
    """Follow a stream. Yields what has come, as it comes, and at least every second; the last portion has a reason.

    Arguments:
        endpoint: the endpoint of the control socket, a REP or ROUTER.
        command: `EVENTS`, and if need be a broker's name; or `TAP`, a broker's name, and if need be a port's name (or
            an empty text) and `BODIES`.
        timeout_s: the longest time to wait for a reply.

    Raises what `request` raises.
    """
    with zmq.Context[Any]() as context:
        message = [part.encode() if isinstance(part, str) else part for part in command]
        reply = ask(endpoint, message, timeout_s=timeout_s, context=context)
        if len(reply) != 2:
            raise ControlError(f"{endpoint}: {reply!r} came back; expected the id of a stream")
        number = reply[1]
        wait = str(min(_ASK_S, timeout_s / 2)).encode()
        ended = None
        try:
            while ended is None:
                told = json.loads(ask(endpoint, [b"NEXT", number, wait], timeout_s=timeout_s, context=context)[1])
                ended = told["ended"]
                yield Portion(tuple(told["items"]), told["lost"], ended)
        finally:
            if ended is None:
                with suppress(ControlError):  # otherwise it ends by itself
                    ask(endpoint, [b"END", number], timeout_s=min(timeout_s, _ASK_S), context=context)
