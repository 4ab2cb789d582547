"""The frames of the Titanic Service Protocol (RFC 9): what the bodies of requests and replies are, over MDP.

| service | the request's body | the reply's body |
| --- | --- | --- |
| `titanic.request` | the name of a service, and the request for it | `200` and a UUID, or another status |
| `titanic.reply` | a UUID | `200` and the reply, or another status |
| `titanic.close` | a UUID | `200`, or another status |

A status frame begins with three digits, which a space and any text may follow.
"""

import string
from collections.abc import Sequence
from typing import Final, NamedTuple

REQUEST: Final = b"titanic.request"
REPLY: Final = b"titanic.reply"
CLOSE: Final = b"titanic.close"
SERVICES: Final = (REQUEST, REPLY, CLOSE)

OK: Final = b"200"
"""It was done; of `titanic.reply`: here is the reply."""
PENDING: Final = b"300"
"""There is no reply yet: ask again later."""
UNKNOWN: Final = b"400"
"""The UUID is unknown, or is not one: do not ask again."""
ERROR: Final = b"500"
"""The server could not do it: ask again later."""

STATUSES: Final = (OK, PENDING, UNKNOWN, ERROR)

_UUID_LENGTH: Final = 32
_HEXADECIMAL: Final = frozenset(string.hexdigits.encode())


class TitanicReply(NamedTuple):
    """What a Titanic server has answered."""

    status: bytes
    """One of `STATUSES`: the three digits."""
    body: list[bytes]
    """After `OK`: of `titanic.request` the UUID, of `titanic.reply` the reply, of `titanic.close` nothing."""


def is_uuid(frame: bytes) -> bool:
    """Return True for 32 hexadecimal digits."""
    return len(frame) == _UUID_LENGTH and _HEXADECIMAL.issuperset(frame)


def request_body(service: bytes, body: Sequence[bytes]) -> list[bytes]:
    """The body of a request to `titanic.request`: what is to be stored, and for which service."""
    return [service, *body]


def parse_titanic_reply(body: Sequence[bytes]) -> TitanicReply | None:
    """What the body of a reply of any of the three services says, or None if it has no status of RFC 9."""
    if not body:
        return None
    status, rest = body[0][:3], body[0][3:]
    if status not in STATUSES or (rest and not rest.startswith(b" ")):
        return None
    return TitanicReply(status, list(body[1:]))
