"""The company of a relay: the peers at its two sides, what they do, and the book of what has not come yet.

A peer never waits: it sends what its socket takes and receives what is there. Everything that it does is written down
in the trace, as the relay's sockets see it (`trace.py`).
"""

import itertools
from collections import defaultdict, deque
from typing import Final

import zmq

from pollbroker.device import Device, Route
from pollbroker.pump import Socket
from pollbroker.testing.drawing import INITIATORS, RandomDraw, draw_body
from pollbroker.testing.peers import Peer, envelope_of, mark_of
from pollbroker.testing.relay.trace import RelayTrace
from pollbroker.testing.trace import Frames, Got, Heard, Joined, Left, Path, Sent, Wanted

SIDES: Final = ("frontend", "backend")

_BARE: Final = b"bare"
"""What stands for the mark of a message that has no room for one."""

_EVERYTHING: Final = b""
"""The topic to which all subscribers subscribe."""


class RelayPeers:
    """The peers of one relay.

    Arguments:
        device: says which sockets the relay has, and so who may connect to them.
        capacity: how many messages lie at most between the relay and a peer with a small high-water mark; 0: no limit.
        no_drop: whether a publishing backend refuses rather than drops (XPUB_NODROP).
    """

    def __init__(self, device: Device, *, seed: int, deadline_s: float, capacity: int, no_drop: bool) -> None:
        self.trace = RelayTrace(deadline_s=deadline_s)
        self.context: zmq.Context[Socket] = zmq.Context()
        self.peers: list[Peer] = []
        """Those that are there."""
        self.reading: set[Peer] = set()
        """Those of them that take whatever comes, and answer it if they are workers."""
        self.not_answering: set[Peer] = set()
        """Workers that take, and do not answer for the time being."""
        self.draw = RandomDraw(seed)
        self.types = {side: device.types_of(side)[0] for side in SIDES}
        """Of the relay's sockets."""
        self.swaps = all(kind is zmq.SocketType.ROUTER for kind in self.types.values())
        """Whether a message names its receiver itself: between two ROUTERs a relay swaps the two routing ids."""
        self.paths: dict[str, Path] = {route.source: self._path(route, capacity, no_drop) for route in device.routes}
        """By the side at which they begin."""
        self.trace.paths = {path.name: path for path in self.paths.values()}
        self.replies_are_addressed = "backend" in self.paths and self.paths["backend"].to_router
        """Whether what goes back says whom it is for."""
        self.backlog: dict[Peer, deque[tuple[bytes | None, bool]]] = {}
        """What peers are to send as soon as their sockets take it: to whom, and whether bare."""
        self.missing: dict[tuple[str, bytes], bytes] = {}
        """What has not come yet, by the peer that is to have a copy (or "") and by mark; with the first frame."""
        self.saw_violation = False
        """Whether something came that was not missing, or not as it was sent: there is an invariant that says so."""
        self.sockets: dict[Peer, Socket] = {}
        """Those of all that have ever come."""
        self._record = self.trace.events.append
        self._bodies = [(b"first", b"", b"third"), *(draw_body(self.draw) for _ in range(4))]
        self._numbers = itertools.count()
        self._workers: set[Peer] = set()
        self._sent: dict[bytes, Sent] = {}
        self._probes: set[bytes] = set()
        """The marks of what was sent after something that is missing."""
        self._excused: set[bytes] = set()
        """What may come or not: messages of peers that left, and for them."""
        self._received: dict[Peer, int] = {}
        self._replies: dict[bytes, int] = defaultdict(int)

    def _path(self, route: Route, capacity: int, no_drop: bool) -> Path:
        source, sink = self.types[route.source], self.types[route.sinks[0]]
        publishes = sink in (zmq.PUB, zmq.XPUB)
        return Path(
            name="requests" if route.source == "frontend" else "replies",
            line="relay",
            sink=route.sinks[0],
            flows=(),
            to_router=sink == zmq.ROUTER,
            to_many=publishes,
            may_lose=publishes and not no_drop,
            from_publisher=source in (zmq.SUB, zmq.XSUB),
            capacity=capacity,
            upstream=source in (zmq.PUB, zmq.XPUB),
        )

    # -- who is there -------------------------------------------------------------------------------------------------

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
        """A peer comes.

        Arguments:
            kind: its socket's type; by default what is usual at this side.
            mark: its high-water mark in receiving; with 0 there is no limit to what the relay's socket takes for it.
            sending_mark: in sending.
            reads: whether it takes what comes.
            topic: what it subscribes to, if it is a subscriber.
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
            # The last subscription is one that nobody else has, so that publishers hear of it; pipes keep the order.
            for one in dict.fromkeys((topic, b"!" + name.encode())):
                peer.subscribe(one)
                self._record(Wanted(name, one, True))
        return peer

    def leave(self, peer: Peer) -> None:
        """A peer goes, with whatever it has not read; the relay has been told when this returns."""
        self.peers.remove(peer)
        self.reading.discard(peer)
        self.backlog.pop(peer, None)
        peer.leave()
        self._record(Left(peer.name))
        for (consumer, mark), first in list(self.missing.items()):
            if consumer == peer.name or first == peer.routing_id or self._sent[mark].peer == peer.name:
                del self.missing[consumer, mark]
                self._excused.add(mark)

    def received_by(self, peer: Peer) -> int:
        """How many messages it has received."""
        return self._received[peer]

    def replies_sent_to(self, peer: Peer) -> int:
        """How many messages workers have sent it."""
        return self._replies[peer.routing_id or b""]

    # -- what they do -------------------------------------------------------------------------------------------------

    def send(self, peer: Peer, count: int, *, to: Peer | None = None, bare: bool = False) -> None:
        """Have a peer send so many messages, as soon as its socket takes them.

        Arguments:
            to: whom they name, where a message names its receiver.
            bare: whether they have no frame but that name.
        """
        receiver = None if to is None else to.name.encode()
        self.backlog.setdefault(peer, deque()).extend([(receiver, bare)] * count)
        self.flush(peer)

    def _side(self, peer: Peer) -> str:
        return "frontend" if peer.name.startswith("frontend") else "backend"

    def flush(self, peer: Peer) -> int:
        """Send what its socket takes; how many messages."""
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
        mark = _BARE if bare else b"#%s/%d" % (peer.name.encode(), peer.numbers + 1)
        frames: list[bytes] = [] if bare else [mark, *self._bodies[next(self._numbers) % len(self._bodies)]]
        if not bare and peer.kind is zmq.SocketType.DEALER and path.name == "requests" and not self.swaps:
            frames.insert(0, b"")  # as a REP wants it, and any other worker sends it back
        if peer.kind is zmq.SocketType.XPUB:
            frames.insert(0, b"topic")
        if to is not None:
            frames.insert(0, to)
        canonical = peer.canonical(tuple(frames))
        if self.swaps and len(canonical) > 1:
            canonical = (canonical[1], canonical[0], *canonical[2:])  # as it has to come out
        if not self._send(peer, path, frames, mark, canonical, None):
            return False
        peer.numbers += 1
        return True

    def _send(
        self, peer: Peer, path: Path, frames: list[bytes], mark: bytes, canonical: Frames, answers: bytes | None
    ) -> bool:
        expected_at = None
        if path.to_many:
            wanting = [one for one in self.peers if one.is_known and any(map(frames[0].startswith, one.topics))]
            expected_at = frozenset(one.name for one in wanting if not self._may_miss(path, one))
        if not peer.send(frames):
            return False
        sent = Sent(path.name, peer.name, mark, canonical, expected_at, answers)
        self._record(sent)
        self._sent[mark] = sent
        if path.to_router:
            self._replies[canonical[0]] += 1
        if path.to_router and canonical[0] not in {one.routing_id for one in self.peers}:
            self._excused.add(mark)
            return True
        for consumer in ("",) if expected_at is None else expected_at:
            self.missing[consumer, mark] = canonical[0]
        return True

    def _may_miss(self, path: Path, subscriber: Peer) -> bool:
        """Whether libzmq may drop messages for it in silence: at its own high-water mark."""
        return path.may_lose and int(self.sockets[subscriber].getsockopt(zmq.RCVHWM)) > 0

    def take(self, peer: Peer, most: int = 1 << 20) -> int:
        """Have a peer receive up to so many messages, and answer each if it is a worker; how many."""
        count = 0
        while count < most and (not peer.unsent_replies or peer in self.not_answering):
            frames = peer.receive()
            if frames is None:
                break
            count += 1
            self._got(peer, tuple(frames))
            self._send_replies(peer)
        return count

    def _got(self, peer: Peer, frames: Frames) -> None:
        if peer.kind is zmq.SocketType.XPUB:
            (peer.topics.add if frames[0][:1] == b"\1" else peer.topics.discard)(frames[0][1:])
            self._record(Heard(peer.name, frames[0][1:], frames[0][:1] == b"\1"))
            return
        side = self._side(peer)
        path = next(path for path in self.paths.values() if path.sink == side)
        canonical = peer.canonical(frames)
        self._record(Got(path.name, peer.name, canonical, peer.kind is zmq.SocketType.REP))
        self._received[peer] += 1
        mark = mark_of(canonical) or _BARE
        expected = self.missing.pop((peer.name if path.to_many else "", mark), None) is not None
        if not (expected or path.may_lose or mark in self._excused):
            self.saw_violation = True
        elif mark in self._sent and self._sent[mark].frames[-len(frames) :] != canonical[-len(frames) :]:
            self.saw_violation = True  # a REP shows no more of a message than this
        if mark in self._probes:
            self.trace.alive.add(path.name)
        if peer in self._workers:
            peer.unsent_replies.append(self._answer(peer, canonical))

    def _answer(self, peer: Peer, request: Frames) -> tuple[list[bytes], bytes, Frames, bytes | None]:
        asked = mark_of(request)
        mark = peer.next_mark()
        if asked in self._probes:
            self._probes.add(mark)
        reply = [mark, b"in reply to", asked or b"?"]
        if peer.kind is zmq.SocketType.REP:
            asking = self._sent.get(asked or b"")
            return reply, mark, (envelope_of(asking.frames) if asking else ()) + tuple(reply), asked
        envelope: Frames = ()
        if self.paths["backend"].to_router:
            envelope = request[:1] + ((b"",) if request[1:2] == (b"",) else ())
        frames = [*envelope, *reply]
        return frames, mark, peer.canonical(tuple(frames)), asked

    def _send_replies(self, peer: Peer) -> int:
        """Send the answers that it owes, as far as its socket takes them; how many."""
        paid = 0
        while peer.unsent_replies and peer not in self.not_answering:
            frames, mark, canonical, answers = peer.unsent_replies[0]
            if not self._send(peer, self.paths["backend"], frames, mark, canonical, answers):
                break
            peer.unsent_replies.pop(0)
            paid += 1
        return paid

    # -- what has not come --------------------------------------------------------------------------------------------

    def paths_with_missing(self) -> set[str]:
        """The paths on which something has not come yet."""
        return {self._sent[mark].path for _, mark in self.missing}

    def unsent(self) -> dict[str, int]:
        """How many messages wait for room in their peer's socket. A REQ's wait for its reply."""
        return {peer.name: len(some) for peer, some in self.backlog.items() if peer.kind is not zmq.SocketType.REQ}

    def allowance_for_leavers(self) -> int:
        """How many messages may have gone with peers that left, where it is not known whose a message is."""
        there = {one.name for one in self.peers}
        left = [joined.side for _, joined in self.trace.of(Joined) if joined.peer not in there]
        plain = [path for path in self.paths.values() if not (path.to_router or path.to_many)]
        return sum(left.count(path.sink) * (path.capacity + 1) for path in plain)

    def probe(self, also_replies: bool) -> None:
        """Send something more after what is missing; what answers it counts, too."""
        for peer in self.peers:
            path = self.paths.get(self._side(peer))
            if path is None or path.upstream or (path.name == "replies" and not also_replies) or peer.unsent_replies:
                continue
            receivers: list[bytes | None] = [None]
            if path.to_router:  # a REQ throws away what it has not asked for
                dealers = [one for one in self.peers if one.kind is zmq.SocketType.DEALER]
                receivers = [one.routing_id for one in dealers if one.routing_id is not None]
            for receiver in receivers:
                if self._send_new(peer, receiver, False):
                    self._probes.add(b"#%s/%d" % (peer.name.encode(), peer.numbers))


def _usual_peer(port_type: zmq.SocketType) -> zmq.SocketType:
    return INITIATORS[port_type][0]
