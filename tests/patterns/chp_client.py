"""A client of RFC 12/CHP without sockets: what it makes of the messages that come."""

from pollbroker.patterns.clone.chp import HUGZ, KTHXBAI, parse


class ChpClient:
    """Follows the map, or a subtree of it. What is published before the snapshot is complete waits, as in the queue of
    a SUB socket."""

    def __init__(self, subtree: bytes = b"") -> None:
        self.subtree = subtree
        self.map: dict[bytes, bytes] = {}
        self.number: int | None = None
        """Of the snapshot or the last update; None until the snapshot is complete."""
        self.heartbeats = 0
        self._waiting: list[list[bytes]] = []

    def on_snapshot(self, frames: list[bytes]) -> None:
        """A message from the snapshot port, without the routing id."""
        message = parse(frames)
        assert message is not None
        assert (message.uuid, message.properties) == (b"", b"")
        assert self.number is None
        if message.key == KTHXBAI:
            assert message.value == self.subtree
            self.number = message.number
            for waiting in self._waiting:
                self._apply(waiting)
            self._waiting.clear()
        else:
            assert message.key.startswith(self.subtree)
            assert message.value
            self.map[message.key] = message.value

    def on_published(self, frames: list[bytes]) -> None:
        """A message from the publisher port; it comes if the client has subscribed to it."""
        if frames[0] == HUGZ:
            assert frames == [HUGZ, bytes(8), b"", b"", b""]
            self.heartbeats += 1
        elif frames[0].startswith(self.subtree):
            if self.number is None:
                self._waiting.append(frames)
            else:
                self._apply(frames)

    def _apply(self, frames: list[bytes]) -> None:
        message = parse(frames)
        assert message is not None
        assert self.number is not None
        if message.number <= self.number:
            return
        self.number = message.number
        if message.value:
            self.map[message.key] = message.value
        else:
            self.map.pop(message.key, None)
