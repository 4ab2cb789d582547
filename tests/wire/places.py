"""Where ports of the wire are bound, or connected, in tests."""

import itertools
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

import zmq

from pollbroker import Broker, Device, Engine
from tests.support.addresses import address_of
from tests.support.types import Connect, Socket

PLACES: Final = {
    "tcp": "tcp://127.0.0.1:*",
    "tcp on every interface": "tcp://*:*",
    "tcp by a name": "tcp://localhost:*",
    "tcp of IPv6": "tcp://[::1]:*",
    "ipc": "ipc://*",
    "ipc at a path": "ipc://{directory}/{number}",
    "ipc by an abstract name": "ipc://@pollbroker-{process}-{number}",
}
"""The kinds of addresses, by what they are called."""

_numbers = itertools.count()


def address_in(place: str, directory: object = "") -> str:
    """A free address of a place, which may have wildcards."""
    return PLACES[place].format(directory=directory, process=os.getpid(), number=next(_numbers))


def reachable(address: str) -> str:
    """Where a peer connects to reach what is bound to this address."""
    return address.replace("0.0.0.0", "127.0.0.1")


class Side:
    """One port of a broker, with its peers: either it is bound and they connect, or each of them is bound."""

    def __init__(self, connect: Connect, address: str, *, bound: bool) -> None:
        self.address = address
        self._connect = connect
        self._bound = bound
        self.peers: list[Socket] = []

    def prepare(self, *types: int, **options: Any) -> "list[str] | str":
        """Make the peers that are bound themselves; the endpoints of the port."""
        if self._bound:
            return self.address
        for number, kind in enumerate(types):
            peer = self._connect(kind, ipv6=1, **options)
            # A name of which there is one only is for one peer only.
            peer.bind(self.address if "*" in self.address else f"{self.address}-{number}")
            self.peers.append(peer)
        return [f">{reachable(address_of(peer))}" for peer in self.peers]

    def join(self, broker: Broker, port: str, *types: int, **options: Any) -> list[Socket]:
        """The peers; those that connect do it now."""
        if self._bound:
            (endpoint,) = broker.ports[port].endpoints
            self.peers = [self._connect(kind, reachable(endpoint), **({"ipv6": 1} | options)) for kind in types]
        return self.peers


def add_between(
    engine: Engine,
    connect: Connect,
    device: Device | str,
    peers: Mapping[str, Sequence[int]],
    *,
    addresses: Mapping[str, str] | None = None,
    bound: Mapping[str, bool] | None = None,
    name: str = "a",
    peer_options: Mapping[str, Mapping[str, Any]] | None = None,
    **more: Any,
) -> tuple[Broker, dict[str, list[Socket]]]:
    """A broker whose ports have these peers, by the types of their sockets; and the peers by port.

    Where `bound` does not say otherwise a port is bound, and where `addresses` does not it is to a free port of tcp.
    """
    addresses, bound, options = addresses or {}, bound or {}, peer_options or {}
    sides = {port: Side(connect, addresses.get(port, PLACES["tcp"]), bound=bound.get(port, True)) for port in peers}
    endpoints: dict[str, Any] = {
        port: side.prepare(*peers[port], **{"sndhwm": 0, "rcvhwm": 0, **options.get(port, {})})
        for port, side in sides.items()
    }
    broker = engine.add(name, device, transport="wire", **endpoints, **more)
    joined = {
        port: side.join(broker, port, *peers[port], **{"sndhwm": 0, "rcvhwm": 0, **options.get(port, {})})
        for port, side in sides.items()
    }
    return broker, joined


def publishes_to(publisher: Socket, subscriber: Socket, probe: bytes = b"are you there?") -> bool:
    """True if what a publisher sends arrives at a subscriber. Probes that are still on their way may follow."""
    publisher.send(probe)
    return bool(subscriber.poll(1)) and subscriber.recv() == probe


def receive_beyond(subscriber: Socket, probe: bytes = b"are you there?") -> list[bytes]:
    """The next message that is not a probe."""
    while (message := subscriber.recv_multipart()) == [probe]:
        pass
    return message


SENDERS: Final = {
    zmq.PULL: zmq.PUSH,
    zmq.DEALER: zmq.DEALER,
    zmq.ROUTER: zmq.DEALER,
    zmq.SUB: zmq.PUB,
    zmq.XSUB: zmq.PUB,
}
"""For each type of a port that receives, a peer that sends to it."""

RECEIVERS: Final = {zmq.PUSH: zmq.PULL, zmq.DEALER: zmq.DEALER, zmq.PUB: zmq.SUB, zmq.XPUB: zmq.SUB}
"""For each type of a port that sends, a peer that receives from it."""
