"""The network of simulated streams: who listens where, which streams there are, and what a seed does to them.

Nothing happens between two calls of `tick`, so a run with the same seed and the same calls is the same run.
"""

import random
from collections.abc import Callable
from typing import Final

from zmq import SocketType

from pollbroker.testing.simulation.clock import SimClock
from pollbroker.testing.streams.channel import Channel
from pollbroker.testing.streams.peer_connection import PeerConnection
from pollbroker.testing.streams.port_stream import PortStream
from pollbroker.testing.streams.sockets import StreamSocket
from pollbroker.testing.streams.zmtp import Message
from pollbroker.wire.native import Port

_CAPACITIES: Final = (16, 64, 300, 4096, 1 << 20, 1 << 20)
"""How many bytes a stream may have under way in one direction."""

_FIRST_NUMBER: Final = 1 << 24
"""The numbers of streams begin here: no descriptor of the process is as great."""


class Link:
    """A stream between two ends, one of which is a port, or both of them.

    Arguments:
        manner: how bytes arrive: "whole", all at once; "few", one to three at a time; "cut", any number, or none.
    """

    def __init__(self, network: "StreamNetwork", near: Port, far: PeerConnection | Port, manner: str) -> None:
        draw = network.random
        inward, outward = (Channel(draw.choice(_CAPACITIES)) for _ in range(2))
        refuses = draw.random() < 0.5
        self.manner = manner
        self.ports = (near,) if isinstance(far, PeerConnection) else (near, far)
        self.streams = [PortStream(network, inward, outward, refuses_after_end=refuses)]
        self.peer: PeerConnection | None = None
        self._network = network
        if isinstance(far, PeerConnection):
            self.peer = far
            far.begin(outward, inward)
        else:
            self.streams.append(PortStream(network, outward, inward, refuses_after_end=refuses))

    def begin(self) -> None:
        """Have the ports greet."""
        for stream, port in zip(self.streams, self.ports, strict=True):
            stream.begin(port, self._network.next_number())

    def tick(self) -> None:
        """Let bytes arrive, have the peer read and write, and tell the ports."""
        for stream in self.streams:
            came = self._deliver(stream.input)
            if self.peer is not None:
                self._deliver(stream.output)
                self.peer.work()
            stream.tell_news(came)

    def _deliver(self, channel: Channel) -> int:
        if not channel.is_moving:
            return 0
        before = channel.delivered
        draw = self._network.random
        flying = len(channel.flying)
        if self.manner == "whole":
            channel.deliver(flying)
        elif self.manner == "few":
            channel.deliver(draw.randint(1, 3))
        elif draw.random() < 0.7:
            channel.deliver(draw.randint(1, max(1, flying)))
        return channel.delivered - before

    @property
    def is_busy(self) -> bool:
        """Return True if `tick` has something to do, now or later."""
        moving = any(stream.input.is_moving or stream.output.is_moving for stream in self.streams)
        return moving or any(one.has_news for one in self.streams) or (self.peer is not None and self.peer.has_work)

    @property
    def is_over(self) -> bool:
        """Return True if the ports have closed the connection, and nothing is on its way any more."""
        return not any(stream.is_open for stream in self.streams) and not self.is_busy


class StreamNetwork:
    """Streams that a seed cuts, delays and breaks.

    Arguments:
        seed: decides everything that is chance.
        operation_s: how long a read or a write takes.
    """

    def __init__(self, seed: int, clock: SimClock, operation_s: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.meddle: Callable[[], None] | None = None
        """Called before each read and write of a port. Peers may do something then; what they do is found later."""
        self._clock = clock
        self._operation_s = operation_s
        self._listening: dict[str, Port] = {}
        self._waiting: list[tuple[str, PeerConnection | Port]] = []
        self._links: list[Link] = []
        self._live: list[Link] = []
        """Those at which something may still happen."""
        self._ports: dict[Port, None] = {}
        self._numbers = _FIRST_NUMBER
        self._meddles = False

    # -- who is there ---------------------------------------------------------------------------------------------

    def socket(self, kind: int) -> StreamSocket:
        """A socket for a peer."""
        return StreamSocket(self, SocketType(kind), self.random.choice((1, 1, 0)))

    def listen(self, address: str, port: Port) -> None:
        """Have a port listen."""
        self._listening[address] = port
        self._ports[port] = None

    def stop_listening(self, address: str) -> None:
        """Accept no more connections there."""
        self._listening.pop(address, None)

    def connect_port(self, address: str, port: Port) -> None:
        """Connect a port to another, in a `tick` in which that listens."""
        self._ports[port] = None
        self._waiting.append((address, port))

    def connect_peer(self, address: str, peer: PeerConnection) -> None:
        """Connect a peer to a port, in a `tick` in which that listens."""
        self._waiting.append((address, peer))

    def leave(self, peer: PeerConnection) -> list[Message]:
        """Have a peer leave, in order or not. Return the messages that are lost because it did not."""
        return peer.leave(in_order=self.random.random() < 0.6)

    @property
    def ports(self) -> tuple[Port, ...]:
        """Every port that there was."""
        return tuple(self._ports)

    def streams_of(self, port: Port) -> list[PortStream]:
        """The streams that a port has had so far."""
        return [
            stream for link in self._links for stream, one in zip(link.streams, link.ports, strict=True) if one is port
        ]

    def messages_lost(self, port: Port) -> int:
        """How many messages that a port has written were lost because the peers left that they were for."""
        return sum(link.peer.lost() for link in self._links if link.peer is not None and link.ports[0] is port)

    def next_number(self) -> int:
        """A number for a stream."""
        self._numbers += 1
        return self._numbers

    # -- what happens -----------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Make the connections that can be made, and let bytes move."""
        waiting, self._waiting = self._waiting, []
        for address, far in waiting:
            near = self._listening.get(address)
            if isinstance(far, Port) and far.closed:
                continue
            if near is None or near.closed:
                self._waiting.append((address, far))
                continue
            link = Link(self, near, far, self.random.choice(("whole", "whole", "cut", "cut", "few")))
            self._links.append(link)
            self._live.append(link)
            link.begin()
        for link in self._live:
            link.tick()
        self._live = [link for link in self._live if not link.is_over]

    @property
    def is_busy(self) -> bool:
        """Return True if bytes are on their way, or a peer or a port has something to read or to write."""
        return any(address in self._listening for address, _ in self._waiting) or any(
            link.is_busy for link in self._live
        )

    def part_of_write(self, count: int) -> int:
        """How many of so many bytes a write takes: as a rule all of them."""
        return self.random.randint(0, count) if self.random.random() < 0.2 else count

    def before_operation(self) -> None:
        """Called before each read and write of a port."""
        self._clock.advance(self._operation_s)
        if self.meddle is not None and not self._meddles:
            self._meddles = True
            try:
                self.meddle()
            finally:
                self._meddles = False
