"""The peers at the two sides of a relay, and what they do.

A peer never waits: it sends what its socket takes and receives what is there. Everything that a peer does is recorded
in the trace, with the frames that the relay's sockets see (`pollbroker/testing/trace.py`).
"""

import itertools
from collections import defaultdict, deque
from typing import Final

import zmq

from pollbroker.device import Device
from pollbroker.pump import Socket
from pollbroker.testing.drawing import RandomDraw, draw_body
from pollbroker.testing.peer_types import INITIATORS
from pollbroker.testing.peers import Peer, envelope_of, mark_of
from pollbroker.testing.relay.outstanding import Outstanding
from pollbroker.testing.relay.trace import RelayTrace, paths_of
from pollbroker.testing.trace import Frames, Got, Heard, Joined, Left, Path, Sent, Wanted

SIDES: Final = ("frontend", "backend")

_BARE: Final = b"bare"
"""Replaces the mark of a message that has no frame but a routing id."""

_EVERYTHING: Final = b""
"""The topic to which subscribers subscribe by default: it matches every message."""


class RelayPeers:
    """The peers of one relay.

    Arguments:
        device: says which sockets the relay has, and so which peers may connect to them.
        seed: decides what the messages carry.
        deadline_s: written into the trace; see `RelayTrace.deadline_s`.
        capacity: how many messages at most can wait between the relay and a peer with a small high-water mark; with 0
            there is no limit.
        no_drop: True if a publishing backend refuses a message rather than drop it (XPUB_NODROP).
    """

    def __init__(self, device: Device, *, seed: int, deadline_s: float, capacity: int, no_drop: bool) -> None:
        self.trace = RelayTrace(deadline_s=deadline_s)
        self.context: zmq.Context[Socket] = zmq.Context()
        self.peers: list[Peer] = []
        """The peers that have joined and have not left."""
        self.reading: set[Peer] = set()
        """The peers that receive whatever comes, and answer it if they are workers."""
        self.not_answering: set[Peer] = set()
        """The workers that receive requests and do not answer them for the time being."""
        self.draw = RandomDraw(seed)
        self.types = {side: device.types_of(side)[0] for side in SIDES}
        """The types of the relay's sockets, by side."""
        self.swaps = all(kind is zmq.SocketType.ROUTER for kind in self.types.values())
        """Whether a relay swaps the first two frames: between two ROUTERs a message begins with the routing ids of its
        sender and its receiver."""
        self.paths = paths_of(device, capacity, no_drop)
        """The paths through the relay, by the side at which they begin."""
        self.trace.paths = {path.name: path for path in self.paths.values()}
        self.replies_are_addressed = "backend" in self.paths and self.paths["backend"].only_sink.to_router
        """Whether a message from the backend begins with the routing id of its receiver."""
        self.backlog: dict[Peer, deque[tuple[bytes | None, bool]]] = {}
        """The messages that peers will send as soon as their sockets take them: for each the routing id that it names,
        and whether it has no other frame."""
        self.outstanding = Outstanding(self.trace, self.paths)
        self.sockets: dict[Peer, Socket] = {}
        """The sockets of all peers that ever joined."""
        self._record = self.trace.events.append
        self._bodies = [(b"first", b"", b"third"), *(draw_body(self.draw) for _ in range(4))]
        self._numbers = itertools.count()
        self._workers: set[Peer] = set()
        self._received: dict[Peer, int] = {}
        self._replies: dict[bytes, int] = defaultdict(int)

    # -- joining and leaving ------------------------------------------------------------------------------------------

    def join(
        self,
        side: str,
        *,
        kind: zmq.SocketType | None = None,
        mark: int = 0,
        sending_mark: int = 0,
        reads: bool = True,
        topic: bytes = _EVERYTHING,
    ) -> Peer:
        """Connect a new peer to the relay and return it.

        Arguments:
            side: the side of the relay that the peer connects to.
            kind: the type of the peer's socket; by default the usual one at this side.
            mark: the peer's receive high-water mark; with 0 the relay's socket takes any number of messages for the
                peer.
            sending_mark: the peer's send high-water mark.
            reads: True if the peer receives whatever comes.
            topic: what the peer subscribes to, if it is a subscriber.
        """
        port_type = self.types[side]
        socket = self.context.socket(kind or _usual_peer(port_type))
        socket.linger = 0
        socket.setsockopt(zmq.RCVHWM, mark)
        socket.setsockopt(zmq.SNDHWM, sending_mark if kind is not zmq.SocketType.REP else 0)
        name = f"{side}-{len(self.sockets)}"
        peer = Peer(name, socket, f"inproc://{side}", port_type, name.encode())
        self.sockets[peer] = socket
        self._received[peer] = 0
        peer.connect()
        self.peers.append(peer)
        self._record(Joined(name, "relay", side, peer.kind, peer.routing_id))
        if reads and peer.kind not in (zmq.SocketType.PUSH, zmq.SocketType.PUB):
            self.reading.add(peer)
        if side == "backend" and "backend" in self.paths and not self.paths["backend"].upstream and not self.swaps:
            self._workers.add(peer)
        if peer.kind is zmq.SocketType.SUB:
            # No other peer has the second subscription, so publishers are told of it. Pipes keep the order: a publisher
            # that has been told of the second has been told of the first too.
            for subscription in dict.fromkeys((topic, b"!" + name.encode())):
                peer.subscribe(subscription)
                self._record(Wanted(name, subscription, True))
        return peer

    def leave(self, peer: Peer) -> None:
        """Disconnect a peer, which loses what it has not read. The relay has been told when this method returns."""
        self.peers.remove(peer)
        self.reading.discard(peer)
        self.backlog.pop(peer, None)
        peer.leave()
        self._record(Left(peer.name))
        self.outstanding.excuse(peer)

    def received_by(self, peer: Peer) -> int:
        """How many messages a peer has received."""
        return self._received[peer]

    def replies_sent_to(self, peer: Peer) -> int:
        """How many messages workers have sent to a peer."""
        return self._replies[peer.routing_id or b""]

    # -- sending and receiving ----------------------------------------------------------------------------------------

    def send(self, peer: Peer, count: int, *, to: Peer | None = None, bare: bool = False) -> None:
        """Have a peer send `count` messages, as soon as its socket takes them.

        Arguments:
            to: the receiver, where a message begins with the receiver's routing id.
            bare: True if the messages have no frame but that routing id.
        """
        receiver = None if to is None else to.name.encode()
        self.backlog.setdefault(peer, deque()).extend([(receiver, bare)] * count)
        self.flush(peer)

    def _side(self, peer: Peer) -> str:
        return "frontend" if peer.name.startswith("frontend") else "backend"

    def flush(self, peer: Peer) -> int:
        """Send as much of a peer's backlog as its socket takes. Return the number of messages."""
        moved = self._send_replies(peer)
        waiting = self.backlog.get(peer)
        while waiting and self._send_new(peer, *waiting[0]):
            waiting.popleft()
            moved += 1
        if not waiting:
            self.backlog.pop(peer, None)
        return moved

    def _send_new(self, peer: Peer, to: bytes | None, bare: bool) -> bool:
        path = self.paths[self._side(peer)]
        mark = _BARE if bare else peer.mark(peer.numbers + 1)
        frames: list[bytes] = [] if bare else [mark, *self._bodies[next(self._numbers) % len(self._bodies)]]
        if not bare and peer.kind is zmq.SocketType.DEALER and path.name == "requests" and not self.swaps:
            frames.insert(0, b"")  # a REP needs this delimiter; any other worker sends it back
        if peer.kind is zmq.SocketType.XPUB:
            frames.insert(0, b"topic")
        if to is not None:
            frames.insert(0, to)
        canonical = peer.canonical(tuple(frames))
        if self.swaps and len(canonical) > 1:
            canonical = (canonical[1], canonical[0], *canonical[2:])  # the order in which the frames have to come out
        if not self._send(peer, path, frames, mark, canonical, None):
            return False
        peer.numbers += 1
        return True

    def _send(
        self, peer: Peer, path: Path, frames: list[bytes], mark: bytes, canonical: Frames, answers: bytes | None
    ) -> bool:
        expected_at = None
        if path.only_sink.to_many:
            subscribers = [one for one in self.peers if one.is_known and any(map(frames[0].startswith, one.topics))]
            expected_at = frozenset(one.name for one in subscribers if not self._may_miss(path, one))
        if not peer.send(frames):
            return False
        sent = Sent(path.name, peer.name, mark, canonical, expected_at, answers)
        self._record(sent)
        if path.only_sink.to_router:
            self._replies[canonical[0]] += 1
        self.outstanding.add(sent, path, {one.routing_id for one in self.peers})
        return True

    def _may_miss(self, path: Path, subscriber: Peer) -> bool:
        """Return True if libzmq may drop messages for this subscriber in silence, at the subscriber's own high-water
        mark."""
        return path.only_sink.may_lose and int(self.sockets[subscriber].getsockopt(zmq.RCVHWM)) > 0

    def take(self, peer: Peer, most: int = 1 << 20) -> int:
        """Have a peer receive up to `most` messages, and answer each if it is a worker. Return how many it received."""
        count = 0
        while count < most and (not peer.unsent_replies or peer in self.not_answering):
            frames = peer.receive()
            if frames is None:
                break
            count += 1
            self._record_received(peer, tuple(frames))
            self._send_replies(peer)
        return count

    def _record_received(self, peer: Peer, frames: Frames) -> None:
        if peer.kind is zmq.SocketType.XPUB:
            (peer.topics.add if frames[0][:1] == b"\1" else peer.topics.discard)(frames[0][1:])
            self._record(Heard(peer.name, frames[0][1:], frames[0][:1] == b"\1"))
            return
        side = self._side(peer)
        path = next(path for path in self.paths.values() if path.only_sink.port == side)
        canonical = peer.canonical(frames)
        self._record(Got(path.name, peer.name, canonical, peer.kind is zmq.SocketType.REP))
        self._received[peer] += 1
        mark = mark_of(canonical) or _BARE
        self.outstanding.remove(path, peer, mark, canonical, len(frames))  # a REP shows only its part of the message
        if peer in self._workers:
            peer.unsent_replies.append(self._answer(peer, canonical))

    def _answer(self, peer: Peer, request: Frames) -> tuple[list[bytes], bytes, Frames, bytes | None]:
        asked = mark_of(request)
        mark = peer.next_mark()
        if self.outstanding.is_probe(asked):
            self.outstanding.add_probe(mark)
        reply = [mark, b"in reply to", asked or b"?"]
        if peer.kind is zmq.SocketType.REP:
            original = self.outstanding.find(asked)
            return reply, mark, (envelope_of(original.frames) if original else ()) + tuple(reply), asked
        envelope: Frames = ()
        if self.paths["backend"].only_sink.to_router:
            envelope = request[:1] + ((b"",) if request[1:2] == (b"",) else ())
        frames = [*envelope, *reply]
        return frames, mark, peer.canonical(tuple(frames)), asked

    def _send_replies(self, peer: Peer) -> int:
        """Send the replies that a worker has not sent yet, as far as its socket takes them. Return how many."""
        sent = 0
        while peer.unsent_replies and peer not in self.not_answering:
            frames, mark, canonical, answers = peer.unsent_replies[0]
            if not self._send(peer, self.paths["backend"], frames, mark, canonical, answers):
                break
            peer.unsent_replies.pop(0)
            sent += 1
        return sent

    # -- what has not come out ----------------------------------------------------------------------------------------

    def unsent(self) -> dict[str, int]:
        """How many messages of each peer wait for room in the peer's socket.

        A REQ is left out: its messages wait for the reply to the one before.
        """
        return {peer.name: len(some) for peer, some in self.backlog.items() if peer.kind is not zmq.SocketType.REQ}

    def allowance_for_leavers(self) -> int:
        """How many messages may be lost with peers that left, on paths where any peer may have a message."""
        return self.outstanding.allowance_for_leavers({one.name for one in self.peers})

    def probe(self, also_replies: bool) -> None:
        """Send one more message after those that are missing, to find out whether its path still moves.

        Arguments:
            also_replies: True if messages are missing on the way back. Then workers send such a message too.
        """
        for peer in self.peers:
            path = self.paths.get(self._side(peer))
            if path is None or path.upstream or (path.name == "replies" and not also_replies) or peer.unsent_replies:
                continue
            receivers: list[bytes | None] = [None]
            if path.only_sink.to_router:  # only DEALERs: a REQ throws away what is not the reply to its request
                dealers = [one for one in self.peers if one.kind is zmq.SocketType.DEALER]
                receivers = [one.routing_id for one in dealers if one.routing_id is not None]
            for receiver in receivers:
                if self._send_new(peer, receiver, False):
                    self.outstanding.add_probe(peer.mark(peer.numbers))


def _usual_peer(port_type: zmq.SocketType) -> zmq.SocketType:
    return INITIATORS[port_type][0]
