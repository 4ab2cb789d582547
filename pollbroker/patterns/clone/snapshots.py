"""The snapshots that clients have asked for. They are sent in portions, to one client after the other.

A snapshot ends when everything in it was accepted by the socket, and not before. What was dropped, because the client
is slower than the server, is sent again.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pollbroker.behaviour import Behaviour
from pollbroker.patterns.clone.chp import KTHXBAI, as_frame
from pollbroker.patterns.clone.key_values import KeyValues
from pollbroker.patterns.sorted_keys import after

PORTION: Final = 100
"""The most entries that are sent to one client in one turn of the loop, since all brokers wait meanwhile."""

PORTION_BYTES: Final = 1_000_000
"""When so many bytes were sent to a client in a turn, the rest is left for later turns."""

REQUESTS_OF_A_CLIENT: Final = 10
"""The most snapshots that one client can have asked for and not yet been sent."""

RETRY_S: Final = 0.05
"""A client to which a message could not be sent is tried again after this time."""

PORTIONS: Final = "portions"
"""The key of the timer for the next portion."""


@dataclass(slots=True)
class _Snapshot:
    """A snapshot that a client has asked for."""

    subtree: bytes
    position: bytes
    """All keys before this one were sent."""
    number: bytes = b""
    """As a frame; empty until the snapshot begins."""
    ended: bool = False
    """True if all keys were sent, and only KTHXBAI is missing."""
    tried: bytes | None = None
    """The first key of the last portion, or None if that was KTHXBAI."""
    moved_s: float = 0.0
    """When a message was accepted last, and `moved_before_s`, when one was accepted before the last portion."""
    moved_before_s: float = 0.0
    probes: bool = False
    """True if nothing of the last portion was accepted. The next one is one message then."""


class Snapshots:
    """Snapshots of a map, on their way to clients.

    Arguments:
        behaviour: whose port `snapshot`, timers and counters are used. A timer whose key is `PORTIONS` is for
            `send_portion`, and one whose key is bytes, the routing id of a client, for `try_again`.
        map_: the map.
        number: returns the number of the last update.
        most: how many may be on the way. While there are so many, the port `snapshot` is closed.
        stalled_s: a client is given up when it has taken nothing for so long.
    """

    def __init__(
        self, behaviour: Behaviour, map_: KeyValues, number: Callable[[], int], *, most: int, stalled_s: float
    ) -> None:
        self._behaviour = behaviour
        self._map = map_
        self._number = number
        self._most = most
        self._stalled_s = stalled_s
        self._requests: dict[bytes, deque[_Snapshot]] = {}
        """What each client has asked for. It is sent one after the other."""
        self.held = 0
        """How many snapshots that is in all."""
        self._turns: deque[bytes] = deque()
        """The clients that are sent to in turn: all of them, but for those that are resting."""
        self._resting: set[bytes] = set()
        """Those that a message could not be sent to. They are tried again later."""
        self._last_sent: _Snapshot | None = None
        """The snapshot whose KTHXBAI was sent last."""

    def ask(self, client: bytes, subtree: bytes) -> None:
        """A client has asked for a snapshot."""
        requests = self._requests.get(client)
        if requests is None:
            requests = self._requests[client] = deque()
            self._turns.append(client)
            self._behaviour.set_timer(PORTIONS, 0.0)
        elif len(requests) >= REQUESTS_OF_A_CLIENT:
            self._behaviour.count("refused")
            return
        requests.append(_Snapshot(subtree, position=subtree))
        self.held += 1
        if self.held >= self._most:
            self._behaviour.close("snapshot")

    def send_portion(self) -> None:
        """Send a portion to the client whose turn it is."""
        if not self._turns:
            return
        client = self._turns[0]
        self._turns.rotate(-1)
        snapshot = self._requests[client][0]
        now_s = self._behaviour.now_s
        if not snapshot.number:
            snapshot.number = as_frame(self._number())
            snapshot.moved_s = now_s
        snapshot.moved_before_s, snapshot.moved_s = snapshot.moved_s, now_s
        if snapshot.ended:
            self._send_end(client, snapshot)
        else:
            self._send_entries(client, snapshot)
        if self._turns:
            self._behaviour.set_timer(PORTIONS, 0.0)

    def _send_entries(self, client: bytes, snapshot: _Snapshot) -> None:
        most = 1 if snapshot.probes else PORTION
        entries = self._map.with_prefix(snapshot.subtree, snapshot.position, most)
        snapshot.tried = entries[0][0] if entries else None
        snapshot.probes = False
        left_bytes = PORTION_BYTES
        for key, value in entries:
            self._behaviour.send("snapshot", [client, key, snapshot.number, b"", b"", value], if_full="tell")
            snapshot.position = after(key)
            left_bytes -= len(key) + len(value)
            if left_bytes <= 0:
                return
        snapshot.ended = len(entries) < most

    def _send_end(self, client: bytes, snapshot: _Snapshot) -> None:
        """Send KTHXBAI. All entries were accepted, or else the snapshot would not have ended."""
        snapshot.tried = None
        self._behaviour.send("snapshot", [client, KTHXBAI, snapshot.number, b"", b"", snapshot.subtree], if_full="tell")
        self._behaviour.count("snapshots")
        self._last_sent = snapshot
        self._requests[client].popleft()
        self.held -= 1
        if not self._requests[client]:
            self._forget(client)
        self._behaviour.open("snapshot")

    def _forget(self, client: bytes) -> None:
        del self._requests[client]
        if client in self._resting:
            self._resting.remove(client)
        else:
            self._turns.remove(client)

    def send_again(self, client: bytes, key: bytes) -> None:
        """A message of a snapshot did not reach the client, which is gone, or has taken nothing for a while. It is sent
        again, with all that comes behind it."""
        if key == KTHXBAI:
            self._take_back_end(client)
        snapshot = self._requests[client][0]
        if key != KTHXBAI:
            snapshot.position = min(snapshot.position, key)
            snapshot.ended = False
        if key == KTHXBAI or key == snapshot.tried:
            snapshot.moved_s = snapshot.moved_before_s
            snapshot.probes = True
        if client not in self._resting:
            self._turns.remove(client)
            self._resting.add(client)
            self._behaviour.set_timer(client, RETRY_S)

    def _take_back_end(self, client: bytes) -> None:
        assert self._last_sent is not None
        if client not in self._requests:
            self._requests[client] = deque()
            self._turns.append(client)
        self._requests[client].appendleft(self._last_sent)
        self.held += 1
        self._behaviour.count("snapshots", -1)
        if self.held >= self._most:
            self._behaviour.close("snapshot")

    def try_again(self, client: bytes) -> None:
        """Go on with a client that a message could not be sent to, or give it up."""
        requests = self._requests[client]
        if self._behaviour.now_s - requests[0].moved_s >= self._stalled_s:
            self._behaviour.count("abandoned", len(requests))
            self.held -= len(requests)
            self._forget(client)
            self._behaviour.open("snapshot")
            return
        self._resting.remove(client)
        self._turns.append(client)
        self._behaviour.set_timer(PORTIONS, 0.0)
