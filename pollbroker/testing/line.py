"""A line at work: one broker, or a chain of several (`wiring.py`), with the peers at its two ends and what they do.

Everything that a peer does is recorded in the trace, in the canonical form (`trace.py`).
"""

import itertools
from collections.abc import Callable
from typing import Final

import zmq

from pollbroker.testing.environments import Environment
from pollbroker.testing.peer_types import ALONE, PUBLISHERS
from pollbroker.testing.peers import Peer, envelope_of, mark_of
from pollbroker.testing.scenario import LinePlan, Side, Topology
from pollbroker.testing.trace import (
    Copied,
    Event,
    Frames,
    Got,
    Heard,
    Joined,
    Left,
    Path,
    Sent,
    Trace,
    Wanted,
)
from pollbroker.testing.wiring import Wiring

TOPICS: Final = (b"a", b"ab", b"b", b"")
"""The topics with which published messages begin."""

SUBSCRIPTIONS: Final = (b"", b"a", b"b")
"""The prefixes to which subscribers subscribe. A subscriber that joins takes the one at its own number."""


class Line:
    """One broker, or a chain of several, and its peers.

    Arguments:
        name: the beginning of the names of its brokers and peers.
        plan: the devices and the peers of the line.
        topology: the topology that the line is a part of.
        environment: where the brokers and the peers' sockets are made.
        trace: what everything is recorded in.
    """

    def __init__(self, name: str, plan: LinePlan, topology: Topology, environment: Environment, trace: Trace) -> None:
        self.name = name
        self.plan = plan
        wiring = Wiring(name, plan, environment, trace, self._subscribers)
        self.brokers = wiring.brokers
        self.paths = wiring.paths
        self.peers: dict[tuple[Side, int], Peer] = {}
        self.departed: list[Peer] = []
        """The peers that have left, until their brokers have noticed."""
        self.routing_ids: set[bytes] = set()
        """The routing ids by which ROUTERs know the peers, including those that have left."""
        self._environment = environment
        self._record: Callable[[Event], object] = trace.events.append
        self._bodies = topology.bodies
        # A flat waiter does not watch a socket that no flow reads from. So a PUB is told of subscribers when it next
        # sends, or later.
        self._hear_subscribers = {port for port in wiring.types if topology.waiter == "nested" or port in self.paths}
        self._lives = itertools.count()
        self._numbers = itertools.count()
        self._sent: dict[bytes, tuple[Path, Frames]] = {}
        self._last_ids: dict[tuple[Side, int], bytes] = {}
        self._types = wiring.types
        self._ending = {
            side: [self.paths[route.source] for route in plan.device.routes if side in route.sinks]
            for side in self._types
        }
        wiring.open()
        mark = plan.capture_high_water_mark
        self._readers = [
            (broker, self._peer(f"{broker}!", zmq.PULL, f"{broker}/capture", zmq.PUSH, b"", mark))
            for broker in self.brokers
            if plan.capture != "none"
        ]

    # -- peers join and leave -----------------------------------------------------------------------------------------

    def _peer(self, name: str, kind: int, place: str, port_type: int, routing_id: bytes, mark: int) -> Peer:
        socket = self._environment.socket(kind)
        # With a limit, a REP drops replies and a SUB drops subscriptions that find no room.
        socket.setsockopt(zmq.SNDHWM, 0 if kind in (zmq.REP, zmq.SUB) else mark)
        socket.setsockopt(zmq.RCVHWM, mark)
        peer = Peer(name, socket, self._environment.address(place), port_type, routing_id)
        peer.connect()
        return peer

    def join(self, side: Side, who: int, *, again: bool = False) -> Peer | None:
        """Connect peer number `who` at a side, unless it is there, and return it; None if that peer cannot be there.

        Arguments:
            again: True to use the same routing id as the peer of that number that was there before.
        """
        side = side if side in self._types else next(iter(self._types))
        kind = self.plan.peer_type(side)
        who = 0 if kind in ALONE else who
        known = self.peers.get((side, who))
        if known is not None:
            return known
        if kind in ALONE and (side, who) in self._last_ids:
            return None  # a PAIR accepts another peer only when it has read everything from the last one
        life = next(self._lives)
        name = f"{self.name}{side[0]}{who}.{life}"
        again = again and kind != zmq.REQ  # a new REQ does not read the reply to the request of the last one
        routing_id = self._last_ids.get((side, who)) if again else None
        routing_id = routing_id or b"%s%d.%d" % (side.encode(), who, life)
        self._last_ids[side, who] = routing_id
        port = self.brokers[0] if side == "frontend" else self.brokers[-1]
        mark = 0 if kind in PUBLISHERS and self.plan.no_drop else self.plan.peers_high_water_mark
        peer = self._peer(name, kind, f"{port}/{side}", self._types[side], routing_id, mark)
        self.peers[side, who] = peer
        if peer.routing_id is not None:
            self.routing_ids.add(peer.routing_id)
        self._record(Joined(name, self.name, side, peer.kind, peer.routing_id))
        if kind == zmq.SUB:
            self.subscribe(side, who, who)
        return peer

    def leave(self, side: Side, who: int) -> None:
        """Disconnect a peer, if it is there."""
        peer = self.peers.pop((side, who), None)
        if peer is not None:
            peer.leave()
            self.departed.append(peer)
            self._record(Left(peer.name, peer.lost_on_the_way()))

    def subscribe(self, side: Side, who: int, number: int) -> None:
        """Have a subscriber subscribe to the topic of that number."""
        peer = self.join(side, who)
        topic = SUBSCRIPTIONS[number % len(SUBSCRIPTIONS)]
        if peer is not None and topic not in peer.topics:
            peer.subscribe(topic)
            self._record(Wanted(peer.name, topic, True))

    def unsubscribe(self, side: Side, who: int, number: int) -> None:
        """Have a subscriber unsubscribe from the topic of that number, if it had subscribed to it."""
        peer = self.peers.get((side, who))
        topic = SUBSCRIPTIONS[number % len(SUBSCRIPTIONS)]
        if peer is not None and topic in peer.topics:
            peer.unsubscribe(topic)
            self._record(Wanted(peer.name, topic, False))

    # -- peers send and receive ---------------------------------------------------------------------------------------

    def send(self, side: Side, who: int, count: int) -> int:
        """Have a peer send up to `count` messages, as far as its socket takes them. Return how many it sent."""
        path, peer = self.paths.get(side), self.join(side, who)
        if path is None or path.upstream or peer is None or peer.kind in (zmq.SUB, zmq.PULL, zmq.REP):
            return 0
        if any(self.plan.peer_type(port) == zmq.REQ for port in path.routers):
            return 0  # a REQ throws away a message that is not the reply to its request
        for done in range(count):
            frames, mark = self._compose(path, peer, side)
            if not self._send(path, peer, frames, mark, peer.canonical(tuple(frames)), None):
                return done
        return count

    def _compose(self, path: Path, peer: Peer, side: Side) -> tuple[list[bytes], bytes]:
        number = next(self._numbers)
        mark = peer.next_mark()
        frames = [mark, *self._bodies[number % len(self._bodies)]]
        delimited = self.plan.delimited or any(self.plan.peer_type(port) == zmq.REQ for port in self._types)
        if delimited and peer.kind != zmq.REQ:
            frames.insert(0, b"")
        if peer.kind in PUBLISHERS:
            frames.insert(0, TOPICS[number % len(TOPICS)])
        if path.routers and self._types[side] != zmq.ROUTER:
            known = [i for (at, _), i in self._last_ids.items() if at in path.routers]
            frames[:0] = [*path.prefix, [*known, b"nobody"][number % (len(known) + 1)]]
        return frames, mark

    def _send(
        self, path: Path, peer: Peer, frames: list[bytes], mark: bytes, canonical: Frames, answers: bytes | None
    ) -> bool:
        expected_at = self._subscribers(path, None, canonical) if peer.is_known else frozenset()
        if not peer.send(frames):
            return False
        self._sent[mark] = path, canonical
        self._record(Sent(path.name, peer.name, mark, canonical, expected_at, answers))
        return True

    def _subscribers(self, path: Path, port: str | None, frames: Frames) -> frozenset[str]:
        """The subscribers that are to receive a message on a path: those of which its last broker certainly knows.

        Arguments:
            port: the sink that the message is for; None for every sink.
        """
        sinks = {sink.port for sink in path.sinks if sink.to_many and port in (None, sink.port)}
        if not sinks:
            return frozenset()
        return frozenset(
            one.name
            for (at, _), one in self.peers.items()
            if at in sinks & self._hear_subscribers and any(frames[0].startswith(topic) for topic in one.known_topics)
        )

    def take(self, side: Side, who: int, count: int) -> int:
        """Have a peer receive up to `count` messages. Return how many it received."""
        peer = self.peers.get((side, who))
        if peer is None or peer.kind in (zmq.PUSH, zmq.PUB):
            return 0
        if peer.kind == zmq.REP:
            return self.answer(side, who, count)  # a REP can receive the next request only after it has answered
        for done in range(count):
            if self._take(side, peer) is None:
                return done
        return count

    def _take(self, side: Side, peer: Peer) -> Frames | None:
        frames = peer.receive()
        if frames is None:
            return None
        canonical = peer.canonical(tuple(frames))
        if peer.kind == zmq.XPUB:
            self._record(Heard(peer.name, frames[0][1:], frames[0][:1] == b"\1"))
        else:
            path, _ = self._sent.get(mark_of(canonical) or b"", (None, ()))
            if path not in self._ending[side]:
                path = self._ending[side][0]
            self._record(Got(path.name, peer.name, canonical, peer.kind == zmq.REP, side))
        return canonical

    def answer(self, side: Side, who: int, count: int) -> int:
        """Have a worker receive up to `count` messages and answer each, as far as its socket takes the answers. Return
        how many it answered."""
        path, peer = self.paths.get(side), self.join(side, who)
        if path is None or path.upstream or peer is None:
            return 0
        done = 0
        while done < count:
            if not peer.unsent_replies:
                request = self._take(side, peer)
                if request is None:
                    break
                peer.unsent_replies.append(self._answer(path, peer, request))
            frames, mark, canonical, answers = peer.unsent_replies[0]
            if not self._send(path, peer, frames, mark, canonical, answers):
                break
            peer.unsent_replies.clear()
            done += 1
        return done

    def _answer(self, path: Path, peer: Peer, request: Frames) -> tuple[list[bytes], bytes, Frames, bytes | None]:
        asked = mark_of(request)
        mark = peer.next_mark()
        reply = [mark, b"in reply to", asked or b"?"]
        if peer.kind == zmq.REP:
            _, asking = self._sent.get(asked or b"", (path, ()))
            return reply, mark, path.prefix + envelope_of(asking) + tuple(reply), asked
        envelope: Frames = ()
        if path.routers:
            envelope = request[: len(path.prefix) + 1]
            if request[len(envelope) : len(envelope) + 1] == (b"",):
                envelope = (*envelope, b"")
        frames = [*envelope, *reply]
        return frames, mark, peer.canonical(tuple(frames)), asked

    def take_copies(self, count: int) -> int:
        """Have the reader of each capture socket take up to `count` copies. Return how many were taken in all."""
        taken = 0
        for broker, reader in self._readers:
            for _ in range(count):
                frames = reader.receive()
                if frames is None:
                    break
                taken += 1
                self._record(Copied(broker, tuple(frames)))
        return taken

    def take_everything(self) -> int:
        """Have every peer receive all that there is. Return how many messages were received in all."""
        everything = 1 << 20
        return sum(self.take(side, who, everything) for side, who in list(self.peers)) + self.take_copies(everything)

    def add_missing_consumers(self) -> None:
        """Add a peer at each end where messages wait until a consumer is there, and none is."""
        for route in self.plan.device.routes:
            for sink in route.sinks:
                if self._types[sink] in (zmq.PUSH, zmq.DEALER, zmq.PAIR) and not any(
                    side == sink for side, _ in self.peers
                ):
                    self.join(sink, 0)

    def mark_peers_known(self) -> None:
        """Called when the engine has come to rest: the brokers know of every peer and subscription, and of who has
        left."""
        for peer in self.peers.values():
            peer.is_known = True
            peer.known_topics |= peer.topics

    def close(self) -> None:
        """Close the peers' sockets."""
        for peer in [*self.peers.values(), *self.departed, *(reader for _, reader in self._readers)]:
            peer.close()
        self.peers.clear()
        self.departed.clear()
