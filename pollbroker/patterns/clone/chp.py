"""The frames of the Clustered Hashmap Protocol (RFC 12/CHP), for servers and for clients.

Nothing here has a socket. Each message has five frames, but for a request, which has two; at a ROUTER the routing id of
the client comes first.

| message | from, to | key | number | UUID | properties | value |
| --- | --- | --- | --- | --- | --- | --- |
| ICANHAZ | client, snapshot | `ICANHAZ?` and the subtree are all that it has | | | | |
| KVSYNC | snapshot, client | the key | of the snapshot | | | the value |
| KTHXBAI | snapshot, client | `KTHXBAI` | of the snapshot | | | the subtree |
| KVPUB | publisher, client | the key | of the update | as set | as set | the value; to delete the key, empty |
| KVSET | client, collector | the key | any | optional | optional | as for KVPUB |
| HUGZ | publisher, client | `HUGZ` | 0 | | | |
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

ICANHAZ: Final = b"ICANHAZ?"
KTHXBAI: Final = b"KTHXBAI"
HUGZ: Final = b"HUGZ"

NUMBER_BYTES: Final = 8
MAX_NUMBER: Final = 2**63 - 1
"""The greatest number. The RFC does not say whether numbers have a sign; the guide's clients read them with one."""

_UUID_SIZES: Final = (0, 16)
_SECONDS: Final = re.compile(rb"\d{1,9}(\.\d{1,9})?")
"""A time to live: digits, with a fraction or without one; so the longest is about 31 years."""


class KeyValue(NamedTuple):
    """A message of five frames, KVSYNC, KTHXBAI, KVPUB, KVSET or HUGZ."""

    key: bytes
    number: int
    uuid: bytes
    properties: bytes
    value: bytes


def as_frame(number: int) -> bytes:
    """A sequence number as a frame: eight bytes in network order."""
    return number.to_bytes(NUMBER_BYTES, "big")


def parse(frames: Sequence[bytes]) -> KeyValue | None:
    """A message of five frames, or None if it has not the form of one."""
    if len(frames) != 5:
        return None
    key, number, uuid, properties, value = frames
    if not key or len(number) != NUMBER_BYTES or len(uuid) not in _UUID_SIZES:
        return None
    return KeyValue(key, int.from_bytes(number, "big"), uuid, properties, value)


def parse_time_to_live(frames: Sequence[bytes]) -> float:
    """The time to live of a KVSET in seconds, or 0 if it has none.

    Raises `ValueError` if these are not the frames of a KVSET. A key that a client would take for KTHXBAI or HUGZ is
    wrong, and so is a time to live that is not a number.
    """
    if len(frames) != 5:
        raise ValueError("a KVSET has five frames")
    key, number, uuid, properties, _ = frames
    if not key or key in (KTHXBAI, HUGZ) or len(number) != NUMBER_BYTES or len(uuid) not in _UUID_SIZES:
        raise ValueError("a KVSET has a key, a number of 8 bytes, and a UUID of 16 bytes or none")
    if not properties:
        return 0.0
    by_name = parse_properties(properties)
    ttl = None if by_name is None else by_name.get(b"ttl", b"0")
    if ttl is None or not _SECONDS.fullmatch(ttl):
        raise ValueError("the properties of a KVSET are lines name=value, and ttl is a number of seconds")
    return float(ttl)


def parse_properties(frame: bytes) -> dict[bytes, bytes] | None:
    """The properties by name, or None if the frame has not the form of lines `name=value`, each with its end."""
    if not frame:
        return {}
    *lines, rest = frame.split(b"\n")
    pairs = [line.partition(b"=") for line in lines]
    if rest or not all(name and separator for name, separator, _ in pairs):
        return None
    return {name: value for name, _, value in pairs}
