"""A map that clients share: each client has a copy of it, may change it, and follows the changes of the others.

The client here is complete but for one thing: a client that hears nothing for some heartbeats has to begin again with a
snapshot. docs/patterns/clone.md explains the protocol, RFC 12/CHP.
"""

import uuid

import zmq

from pollbroker import CLONE, Broker, Engine


class Client:
    """A copy of the keys that begin with `subtree`."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], server: Broker, subtree: bytes) -> None:
        self.map: dict[bytes, bytes] = {}
        self.number = 0
        self._snapshot = context.socket(zmq.DEALER)
        self._subscriber = context.socket(zmq.SUB)
        self._publisher = context.socket(zmq.XPUB)  # a PUB does not tell when the server has subscribed
        self._snapshot.connect(server.ports["snapshot"].endpoint)
        self._publisher.connect(server.ports["collector"].endpoint)
        self._publisher.recv()
        self._subscriber.subscribe(subtree)
        self._subscriber.subscribe(b"HUGZ")
        self._subscriber.connect(server.ports["publisher"].endpoint)
        self._join(subtree)

    def _join(self, subtree: bytes) -> None:
        # What is published after the snapshot has begun must reach this client. So it waits for a first message, which
        # shows that the server knows its subscriptions.
        waiting = [self._subscriber.recv_multipart()]
        self._snapshot.send_multipart([b"ICANHAZ?", subtree])
        while True:
            key, number, _, _, value = self._snapshot.recv_multipart()
            if key == b"KTHXBAI":
                break
            self.map[key] = value
        self.number = int.from_bytes(number, "big")
        for update in waiting:
            self._apply(update)

    def set(self, key: bytes, value: bytes, ttl_s: int = 0) -> None:
        """Ask the server for a change. It is applied here when the server publishes it. An empty value deletes."""
        properties = b"ttl=%d\n" % ttl_s if ttl_s else b""
        self._publisher.send_multipart([key, bytes(8), uuid.uuid4().bytes, properties, value])

    def take(self, number: int) -> None:
        """Apply updates, up to the one of this number."""
        while self.number < number:
            self._apply(self._subscriber.recv_multipart())

    def _apply(self, update: list[bytes]) -> None:
        key, number, _, _, value = update
        if int.from_bytes(number, "big") <= self.number:
            return  # the snapshot has it already; or it is a heartbeat, whose number is 0
        self.number = int.from_bytes(number, "big")
        if value:
            self.map[key] = value
        else:
            self.map.pop(key, None)

    def close(self) -> None:
        for socket in (self._snapshot, self._subscriber, self._publisher):
            socket.close(linger=0)


def main() -> None:
    clone = CLONE.with_settings(hugz_s=0.1)
    with Engine() as engine, zmq.Context() as context:
        any_port = "tcp://127.0.0.1:*"
        server = engine.add("map", clone, snapshot=any_port, publisher=any_port, collector=any_port)
        first = Client(context, server, b"")
        first.set(b"/colours/sky", b"blue")
        first.set(b"/colours/grass", b"green")
        first.set(b"/prices/tea", b"3")
        first.take(3)
        second = Client(context, server, b"/colours/")  # it comes late
        print("the second client joins:", sorted(second.map.items()))
        first.set(b"/colours/grass", b"")
        second.set(b"/colours/sky", b"grey", ttl_s=1)
        first.take(5)
        print("the first client follows:", sorted(first.map.items()))
        second.take(6)
        print("a second later the sky is gone:", sorted(second.map.items()))
        first.close()
        second.close()


if __name__ == "__main__":
    main()
