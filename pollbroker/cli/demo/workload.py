"""The demo's messages, and the account that is kept of them at both ends.

A body is 64 bytes: two letters for the **stream** (which topic, which source), the number in that stream (8 bytes,
big-endian), and padding. Bodies of one stream therefore sort by their numbers. The number 0 is a probe: it shows that a
stream arrives, and counts as no message.

A `Tally` of what was sent and one of what arrived are equal if, and only if, it was the same messages: it holds their
number and the sum of their checksums. Whether they came in order, it says too.
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
"""As much may be on its way in each connection. The system's own limit holds seconds of traffic, which would have to be
waited for at the end."""

SOCKET_OPTIONS: Final[Mapping[str, int]] = {"sndbuf": _TCP_BUFFER_BYTES, "rcvbuf": _TCP_BUFFER_BYTES}
"""For both ends of every connection."""


@dataclass
class Tally:
    """How many messages of one stream, the sum of their checksums, and how many came out of order."""

    count: int = 0
    checksum: int = 0
    disordered: int = 0
    """Messages whose number was not above that of the message before."""
    last: bytes = b""

    def add(self, bodies: list[bytes]) -> None:
        """Count messages, in the order in which they came."""
        self.count += len(bodies)
        self.checksum += sum(map(crc32, bodies))
        self.disordered += sum(map(ge, [self.last, *bodies], bodies))
        self.last = bodies[-1] if bodies else self.last

    def same_messages(self, other: "Tally") -> bool:
        """Whether the other has counted the same messages, in whatever order."""
        return (self.count, self.checksum) == (other.count, other.checksum)


Tallies: TypeAlias = dict[str, Tally]
"""By stream."""


def make_body(stream: str, number: int) -> bytes:
    """A message."""
    return stream.encode() + number.to_bytes(_NUMBER_BYTES) + _PADDING


def is_probe(body: bytes) -> bool:
    """Whether it counts as no message."""
    return body[_NUMBER] == _NO_NUMBER


def stream_of(body: bytes) -> str:
    """The stream that a message belongs to, whatever it consists of."""
    return body[:STREAM_BYTES].decode(errors="backslashreplace")


def make_reply(request: bytes) -> bytes:
    """What a worker answers: nobody else's reply looks like it."""
    return request[::-1]


def add_to_tallies(tallies: Tallies, bodies: Iterable[bytes]) -> None:
    """Count messages of any streams, in the order in which they came."""
    by_stream: dict[bytes, list[bytes]] = {}
    for body in bodies:
        by_stream.setdefault(body[:STREAM_BYTES], []).append(body)
    for those in by_stream.values():
        tallies.setdefault(stream_of(those[0]), Tally()).add(those)


def merge_tallies(several: Iterable[Mapping[str, Tally]]) -> Tallies:
    """The tallies of several peers as one; the order between them means nothing."""
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
    """A source: what was sent, by stream; a sink: what arrived."""
    replies: int = 0
    """A client: replies that came."""
    wrong: int = 0
    """A client: replies that were not its request's."""
    probes: int = 0
    """A publisher: probes sent."""

    @property
    def count(self) -> int:
        """Messages of all streams."""
        return sum(tally.count for tally in self.tallies.values())

    def as_json(self) -> dict[str, object]:
        """For `report_from_json`."""
        return vars(self) | {
            "tallies": {stream: [t.count, t.checksum, t.disordered] for stream, t in self.tallies.items()}
        }


def report_from_json(fields: Mapping[str, Any]) -> Report:
    """The report that `Report.as_json` made."""
    tallies = {stream: Tally(*counts) for stream, counts in fields["tallies"].items()}
    return Report(**{**fields, "tallies": tallies})
