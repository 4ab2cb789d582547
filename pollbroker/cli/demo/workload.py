"""The demo's messages, and how they are counted at both ends.

A body is 64 bytes: two letters for the **stream** (which topic, which source), the number in that stream (8 bytes,
big-endian), and padding. Bodies of one stream therefore sort by their numbers. The number 0 is a probe: it shows that a
stream arrives, and counts as no message.

A `Tally` holds the number of messages and the sum of their checksums. So the tally of what was sent and the tally of
what arrived are equal if, and only if, the messages were the same. A tally also counts messages that came out of order.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import ge
from typing import Any, Final, TypeAlias
from zlib import crc32

STREAM_BYTES: Final = 2
_NUMBER_BYTES: Final = 8
_PADDING: Final = b"." * 54

_NO_NUMBER: Final = bytes(_NUMBER_BYTES)
_NUMBER: Final = slice(STREAM_BYTES, STREAM_BYTES + _NUMBER_BYTES)

_TCP_BUFFER_BYTES: Final = 1 << 17
"""How much may be on its way in each connection. The system's default holds seconds of traffic, for which the demo
would have to wait at the end."""

SOCKET_OPTIONS: Final[Mapping[str, int]] = {"sndbuf": _TCP_BUFFER_BYTES, "rcvbuf": _TCP_BUFFER_BYTES}
"""The socket options at both ends of every connection."""


@dataclass
class Tally:
    """The messages of one stream: their number, the sum of their checksums, and how many came out of order."""

    count: int = 0
    checksum: int = 0
    disordered: int = 0
    """How many messages had a number that was not greater than that of the message before."""
    last: bytes = b""
    """The last message."""

    def add(self, bodies: list[bytes]) -> None:
        """Count messages, in the order in which they came."""
        self.count += len(bodies)
        self.checksum += sum(map(crc32, bodies))
        self.disordered += sum(map(ge, [self.last, *bodies], bodies))
        self.last = bodies[-1] if bodies else self.last

    def same_messages(self, other: "Tally") -> bool:
        """Return True if the other tally has counted the same messages, in any order."""
        return (self.count, self.checksum) == (other.count, other.checksum)


Tallies: TypeAlias = dict[str, Tally]
"""Tallies by stream."""


def make_body(stream: str, number: int) -> bytes:
    """Return the message with a number in a stream."""
    return stream.encode() + number.to_bytes(_NUMBER_BYTES) + _PADDING


def is_probe(body: bytes) -> bool:
    """Return True if a message is a probe, which is not counted as a message."""
    return body[_NUMBER] == _NO_NUMBER


def stream_of(body: bytes) -> str:
    """Return the stream that a message belongs to. Any bytes are accepted."""
    return body[:STREAM_BYTES].decode(errors="backslashreplace")


def make_reply(request: bytes) -> bytes:
    """Return the reply of a worker. No other request has the same reply."""
    return request[::-1]


def add_to_tallies(tallies: Tallies, bodies: Iterable[bytes]) -> None:
    """Count messages of any streams, in the order in which they came."""
    by_stream: dict[bytes, list[bytes]] = {}
    for body in bodies:
        by_stream.setdefault(body[:STREAM_BYTES], []).append(body)
    for in_stream in by_stream.values():
        tallies.setdefault(stream_of(in_stream[0]), Tally()).add(in_stream)


def merge_tallies(several: Iterable[Mapping[str, Tally]]) -> Tallies:
    """Add the tallies of several peers up. The result does not say which message was last."""
    merged: Tallies = {}
    for tallies in several:
        for stream, tally in tallies.items():
            sums = merged.setdefault(stream, Tally())
            sums.count += tally.count
            sums.checksum += tally.checksum
            sums.disordered += tally.disordered
    return merged


@dataclass(frozen=True)
class Report:
    """What one peer of the demo has counted."""

    role: str
    number: int
    tallies: Mapping[str, Tally]
    """By stream, the messages that a source sent or that arrived at a sink."""
    replies: int = 0
    """How many replies a client got."""
    wrong: int = 0
    """How many replies of a client were not the reply to its request."""
    probes: int = 0
    """How many probes a publisher sent."""

    @property
    def count(self) -> int:
        """The number of messages of all streams."""
        return sum(tally.count for tally in self.tallies.values())

    def as_json(self) -> dict[str, object]:
        """Return what `report_from_json` turns into an equal report."""
        return vars(self) | {
            "tallies": {stream: [t.count, t.checksum, t.disordered] for stream, t in self.tallies.items()}
        }


def report_from_json(fields: Mapping[str, Any]) -> Report:
    """Return the report from which `Report.as_json` made these fields."""
    tallies = {stream: Tally(*counts) for stream, counts in fields["tallies"].items()}
    return Report(**{**fields, "tallies": tallies})
