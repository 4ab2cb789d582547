"""The frames of the Majordomo Protocol, MDP 0.1 (RFC 7) and 0.2 (RFC 18), for clients, workers and brokers.

Nothing here has a socket. What is made is what a DEALER sends, and what is parsed is what a DEALER receives; a broker's
ROUTER has the routing id of the peer in front of that. For each direction there is a function that makes each message,
and one that parses whatever comes:

| from, to | make | parse |
| --- | --- | --- |
| client, broker | `client_request` | `parse_client_request` |
| broker, client | `client_reply` | `parse_client_reply` |
| worker, broker | `worker_ready`, `worker_reply`, `worker_heartbeat`, `worker_disconnect` | `parse_from_worker` |
| broker, worker | `worker_request`, `worker_heartbeat`, `worker_disconnect` | `parse_to_worker` |

The two versions differ in two ways. In 0.1 each message begins with an empty frame. In 0.2 a request is answered by any
number of PARTIAL messages and one FINAL, in 0.1 by one REPLY; here a REPLY is a `FINAL`.

A parser returns None for whatever is not a message of the protocol, and never raises.
"""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Final, Literal, NamedTuple, TypeAlias

Version: TypeAlias = Literal[1, 2]
"""1 is MDP 0.1, and 2 is MDP 0.2."""

CLIENT_1: Final = b"MDPC01"
CLIENT_2: Final = b"MDPC02"
WORKER_1: Final = b"MDPW01"
WORKER_2: Final = b"MDPW02"

MANAGEMENT: Final = b"mmi."
"""With this the names begin of the services that every broker has itself (RFC 8)."""

MAX_NAME_BYTES: Final = 255
"""The longest name of a service. The RFCs set no limit; a broker keeps names, so it needs one."""


class Command(Enum):
    """What a message is, in either version."""

    READY = "ready"
    REQUEST = "request"
    PARTIAL = "partial"
    """A part of an answer, with more to come. Only in 0.2."""
    FINAL = "final"
    """The answer, or the last part of it. In 0.1 it is called REPLY."""
    HEARTBEAT = "heartbeat"
    DISCONNECT = "disconnect"

    __hash__ = object.__hash__  # that of Enum is slow, and this is looked up for each message


READY: Final = Command.READY
REQUEST: Final = Command.REQUEST
PARTIAL: Final = Command.PARTIAL
FINAL: Final = Command.FINAL
HEARTBEAT: Final = Command.HEARTBEAT
DISCONNECT: Final = Command.DISCONNECT

_WORKER_CODES: Final[Mapping[Version, Mapping[Command, bytes]]] = {
    1: {READY: b"\x01", REQUEST: b"\x02", FINAL: b"\x03", HEARTBEAT: b"\x04", DISCONNECT: b"\x05"},
    2: {READY: b"\x01", REQUEST: b"\x02", PARTIAL: b"\x03", FINAL: b"\x04", HEARTBEAT: b"\x05", DISCONNECT: b"\x06"},
}
_WORKER_COMMANDS: Final[Mapping[Version, Mapping[bytes, Command]]] = {
    version: {code: command for command, code in codes.items()} for version, codes in _WORKER_CODES.items()
}
_CLIENT_REQUEST: Final = b"\x01"
_CLIENT_CODES: Final[Mapping[Command, bytes]] = {PARTIAL: b"\x02", FINAL: b"\x03"}
_CLIENT_COMMANDS: Final[Mapping[bytes, Command]] = {code: command for command, code in _CLIENT_CODES.items()}

_WORKER_PREFIX: Final[Mapping[Version, Mapping[Command, tuple[bytes, ...]]]] = {
    1: {command: (b"", WORKER_1, code) for command, code in _WORKER_CODES[1].items()},
    2: {command: (WORKER_2, code) for command, code in _WORKER_CODES[2].items()},
}
"""The frames that each message on the worker's side begins with."""

_CLIENT_PREFIX: Final[Mapping[Version, Mapping[Command, tuple[bytes, ...]]]] = {
    1: {FINAL: (b"", CLIENT_1)},
    2: {command: (CLIENT_2, code) for command, code in _CLIENT_CODES.items()},
}
"""The frames that each reply to a client begins with."""


class ClientRequest(NamedTuple):
    """A client's request."""

    version: Version
    service: bytes
    body: list[bytes]
    """One or more frames."""


class ClientReply(NamedTuple):
    """What a broker answers a client."""

    version: Version
    command: Command
    """`PARTIAL` or `FINAL`; in 0.1 always `FINAL`."""
    service: bytes
    body: list[bytes]
    """One or more frames."""


class WorkerMessage(NamedTuple):
    """A message from a worker, or to one."""

    version: Version
    command: Command
    service: bytes = b""
    """The name of the service. Of a READY."""
    client: bytes = b""
    """The client's address, which the worker gives back as it is. Of a REQUEST, a PARTIAL and a FINAL."""
    body: Sequence[bytes] = ()
    """One or more frames. Of a REQUEST, a PARTIAL and a FINAL."""


def is_service_name(name: bytes) -> bool:
    """Return True if a service may have this name: printable text of 1 to `MAX_NAME_BYTES` bytes (in UTF-8)."""
    if not 0 < len(name) <= MAX_NAME_BYTES:
        return False
    try:
        return name.decode().isprintable()
    except UnicodeDecodeError:
        return False


# -- between a client and a broker -------------------------------------------------------------------------------------


def client_request(service: bytes, body: Sequence[bytes], version: Version = 1) -> list[bytes]:
    """A client's request to a service, as a DEALER sends it. A REQ socket adds the first frame of 0.1 by itself, and so
    is given the frames after it. `body` has one or more frames."""
    if version == 1:
        return [b"", CLIENT_1, service, *body]
    return [CLIENT_2, _CLIENT_REQUEST, service, *body]


def parse_client_request(frames: Sequence[bytes], begin: int = 0) -> ClientRequest | None:
    """What a client asks, or None if this is not a client's request.

    Arguments:
        begin: how many frames to pass over; 1 for what a ROUTER has received.
    """
    length = len(frames) - begin
    if length < 4:
        return None
    first, second = frames[begin], frames[begin + 1]
    if not first and second == CLIENT_1:
        return ClientRequest(1, frames[begin + 2], list(frames[begin + 3 :]))
    if first == CLIENT_2 and second == _CLIENT_REQUEST:
        return ClientRequest(2, frames[begin + 2], list(frames[begin + 3 :]))
    return None


def client_reply(service: bytes, body: Sequence[bytes], version: Version = 1, command: Command = FINAL) -> list[bytes]:
    """What a broker answers a client. In 0.1 the command must be `FINAL`. `body` has one or more frames."""
    return [*_CLIENT_PREFIX[version][command], service, *body]


def parse_client_reply(frames: Sequence[bytes]) -> ClientReply | None:
    """What a broker has answered, as a DEALER receives it, or None if this is not an answer."""
    if len(frames) < 4:
        return None
    first, second = frames[0], frames[1]
    if not first and second == CLIENT_1:
        return ClientReply(1, FINAL, frames[2], list(frames[3:]))
    command = _CLIENT_COMMANDS.get(second)
    if first == CLIENT_2 and command is not None:
        return ClientReply(2, command, frames[2], list(frames[3:]))
    return None


# -- between a worker and a broker -------------------------------------------------------------------------------------


def worker_ready(service: bytes, version: Version = 1) -> list[bytes]:
    """A worker registers for a service."""
    return [*_WORKER_PREFIX[version][READY], service]


def worker_request(client: bytes, body: Sequence[bytes], version: Version = 1) -> list[bytes]:
    """A broker gives a worker a request. `body` has one or more frames.

    Arguments:
        client: what the worker has to put into its reply.
    """
    return [*_WORKER_PREFIX[version][REQUEST], client, b"", *body]


def worker_reply(client: bytes, body: Sequence[bytes], version: Version = 1, command: Command = FINAL) -> list[bytes]:
    """A worker's answer, or with `PARTIAL`, in 0.2, a part of it. `body` has one or more frames.

    Arguments:
        client: the address that came with the request.
    """
    return [*_WORKER_PREFIX[version][command], client, b"", *body]


def worker_heartbeat(version: Version = 1) -> list[bytes]:
    """A sign of life, from a worker or a broker."""
    return list(_WORKER_PREFIX[version][HEARTBEAT])


def worker_disconnect(version: Version = 1) -> list[bytes]:
    """The end of a connection, from a worker or a broker."""
    return list(_WORKER_PREFIX[version][DISCONNECT])


def parse_from_worker(frames: Sequence[bytes], begin: int = 0) -> WorkerMessage | None:
    """What a worker says (READY, PARTIAL, FINAL, HEARTBEAT, DISCONNECT), or None if no worker may say this.

    Arguments:
        begin: how many frames to pass over; 1 for what a ROUTER has received.
    """
    message = _parse_worker_message(frames, begin)
    return None if message is None or message.command is REQUEST else message


def parse_to_worker(frames: Sequence[bytes]) -> WorkerMessage | None:
    """What a broker says to a worker (REQUEST, HEARTBEAT, DISCONNECT), or None if no broker may say this."""
    message = _parse_worker_message(frames, 0)
    return message if message is not None and message.command in (REQUEST, HEARTBEAT, DISCONNECT) else None


def worker_version(frames: Sequence[bytes], begin: int = 0) -> Version | None:
    """The version that a message on the worker's side says it is of, even if the rest of it is wrong. None if it does
    not begin like one."""
    if len(frames) <= begin:
        return None
    if frames[begin] == WORKER_2:
        return 2
    return 1 if not frames[begin] and len(frames) > begin + 1 and frames[begin + 1] == WORKER_1 else None


def _parse_worker_message(frames: Sequence[bytes], begin: int) -> WorkerMessage | None:
    version = worker_version(frames, begin)
    if version is None:
        return None
    after = begin + 3 - version  # of the header
    length = len(frames) - after
    command = _WORKER_COMMANDS[version].get(frames[after]) if length else None
    if command is FINAL or command is PARTIAL or command is REQUEST:
        if length > 3 and not frames[after + 2]:
            return WorkerMessage(version, command, b"", frames[after + 1], list(frames[after + 3 :]))
    elif command is READY:
        if length == 2:
            return WorkerMessage(version, command, frames[after + 1])
    elif command is not None and length == 1:
        return WorkerMessage(version, command)
    return None
