"""The account of a relay's messages: which of those that its sockets accepted have not come out yet.

A message is known by its mark, the frame of it that is in no other message.
"""

from collections.abc import Collection, Mapping

from pollbroker.testing.peers import Peer
from pollbroker.testing.relay.trace import RelayTrace
from pollbroker.testing.trace import Frames, Joined, Path, Sent


class Outstanding:
    """The messages of one relay that have not come out yet.

    Arguments:
        trace: the trace of the relay; a path is marked as alive there when a message that was sent later comes out.
        paths: the paths through the relay.
    """

    def __init__(self, trace: RelayTrace, paths: Mapping[str, Path]) -> None:
        self.missing: dict[tuple[str, bytes], bytes] = {}
        """The first frames of the messages that have not come out yet, by receiver and mark. The receiver is the peer
        that is to have a copy; it is "" where any peer may have the message."""
        self.saw_violation = False
        """Whether a message came out that was not missing, or not as it was sent. An invariant reports that."""
        self._trace = trace
        self._paths = paths
        self._sent: dict[bytes, Sent] = {}
        self._probes: set[bytes] = set()
        """The marks of messages that were sent after one that is missing."""
        self._excused: set[bytes] = set()
        """The marks of messages that may come out or not: those that peers which left had sent or were to receive."""

    def find(self, mark: bytes | None) -> Sent | None:
        """Return the message with that mark, or None if no such message was sent."""
        return self._sent.get(mark or b"")

    def add(self, sent: Sent, path: Path, present_ids: Collection[bytes | None]) -> None:
        """A socket of the relay has accepted a message; `present_ids` are the routing ids of the peers that are there.

        A message to a peer that has left need not come out.
        """
        self._sent[sent.mark] = sent
        if path.only_sink.to_router and sent.frames[0] not in present_ids:
            self._excused.add(sent.mark)
            return
        for receiver in ("",) if sent.expected_at is None else sent.expected_at:
            self.missing[receiver, sent.mark] = sent.frames[0]

    def add_probe(self, mark: bytes) -> None:
        """The message with that mark was sent after one that is missing, or answers such a message."""
        self._probes.add(mark)

    def is_probe(self, mark: bytes | None) -> bool:
        """Return True if the message with that mark was sent after one that is missing."""
        return mark in self._probes

    def remove(self, path: Path, receiver: Peer, mark: bytes, canonical: Frames, shown: int) -> None:
        """A peer has received a message, of which its socket shows the last `shown` frames."""
        was_missing = self.missing.pop((receiver.name if path.only_sink.to_many else "", mark), None) is not None
        is_expected = was_missing or path.only_sink.may_lose or mark in self._excused
        is_as_sent = mark not in self._sent or self._sent[mark].frames[-shown:] == canonical[-shown:]
        if not (is_expected and is_as_sent):
            self.saw_violation = True
        if mark in self._probes:
            self._trace.alive.add(path.name)

    def excuse(self, leaver: Peer) -> None:
        """A peer has left: what it sent, and what was sent to it, need not come out any more."""
        for (receiver, mark), first in list(self.missing.items()):
            if receiver == leaver.name or first == leaver.routing_id or self._sent[mark].peer == leaver.name:
                del self.missing[receiver, mark]
                self._excused.add(mark)

    def paths_with_missing(self) -> set[str]:
        """The names of the paths on which a message is missing."""
        return {self._sent[mark].path for _, mark in self.missing}

    def allowance_for_leavers(self, present: Collection[str]) -> int:
        """How many messages may be lost with peers that left, on paths where any peer may have a message.

        Arguments:
            present: the names of the peers that are there.
        """
        left = [joined.side for _, joined in self._trace.of(Joined) if joined.peer not in present]
        plain = [path for path in self._paths.values() if not (path.only_sink.to_router or path.only_sink.to_many)]
        return sum(left.count(path.only_sink.port) * (path.capacity + 1) for path in plain)
