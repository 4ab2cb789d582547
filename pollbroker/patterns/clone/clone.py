"""Clone: a map that any number of clients share, by the Clustered Hashmap Protocol (RFC 12/CHP; the guide, chapter 5).

A client asks for a snapshot of the map, or of a subtree of it, and then follows the updates that are published. It
changes the map by sending an update to the collector. `chp.py` has the messages. Rules:

- Every update that the map takes has a number of its own, and is published at once, in the order of the numbers.
- A snapshot has the number that the map had when it began. It is sent in portions, between which everything else goes
  on, and nothing is copied for it: each value is the one that the map has when it is sent. This is right because the
  client applies all updates behind the snapshot's number, in order. So a key that was changed while the snapshot was
  sent ends with its last value, whether the snapshot had the old one, the new one or none.
- A snapshot ends when everything in it was accepted by the socket, and not before. What was dropped, because the client
  is slower than the server, is sent again.
"""

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

import zmq

from pollbroker.behaviour import Behaviour
from pollbroker.checks import SettingChecks
from pollbroker.device import Device
from pollbroker.errors import BehaviourError
from pollbroker.patterns.clone.chp import HUGZ, ICANHAZ, KTHXBAI, MAX_NUMBER, as_frame, parse_time_to_live
from pollbroker.patterns.clone.key_values import KeyValues
from pollbroker.patterns.sorted_keys import after

PORTION: Final = 100
"""The most entries that are sent to one client in one turn of the loop, and the most that expire in one, since all
brokers wait meanwhile."""

PORTION_BYTES: Final = 1_000_000
"""When so many bytes were sent to a client in a turn, the rest is left for later turns."""

SUBTREE_MAX_BYTES: Final = 4096
"""The longest subtree that can be asked for, since it is kept until the snapshot has been sent."""

REQUESTS_OF_A_CLIENT: Final = 10
"""The most snapshots that one client can have asked for and not yet been sent."""

RETRY_S: Final = 0.05
"""A client to which a message could not be sent is tried again after this time."""

_SNDHWM: Final = 10_000
"""Updates wait in the client's queue while it reads a snapshot. Of what exceeds the high-water mark, libzmq drops the
rest in silence, and the client's map is wrong from then on."""

_PORTIONS: Final = "portions"
_HUGZ: Final = "hugz"
_ENDS: Final = "ends"
"""The keys of timers. The key of a client's own timer is its routing id."""


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


class Clone(Behaviour):
    """A server of the Clustered Hashmap Protocol (RFC 12/CHP; the guide, chapter 5, models one to five).

    It is one server. Two that stand in for one another (model six, with the Binary Star pattern) are not part of it.

    Counters: `updates` (that were published), `expired` (entries whose time to live was over), `refused` (updates for
    which the map had no room, and requests of clients with ten snapshots on the way), `snapshots` (that were sent
    whole), `abandoned` (snapshots whose client took nothing for too long), `malformed`.

    A request for a snapshot is held until its last message has been sent. The other messages of a snapshot, heartbeats
    and what is published when an entry expires count as `added`.

    Arguments:
        hugz_s: how often a heartbeat is published, in seconds.
        max_keys: how many keys the map may have. An update for which there is no room is refused: it is not published.
        max_bytes: how many bytes the map may take, with 400 for each entry, which Python's memory takes beside the key
            and the value.
        max_snapshots: how many requests for snapshots may be on the way. While there are so many, no more are read.
        stalled_s: a snapshot is given up when its client has taken nothing for so long.
        first_number: the first update has the number after this one. Clients of a server that was started again
            discard updates until their numbers are greater than those of the server before it.
    """

    def __init__(
        self,
        *,
        hugz_s: float = 1.0,
        max_keys: int = 100_000,
        max_bytes: int = 100_000_000,
        max_snapshots: int = 100,
        stalled_s: float = 10.0,
        first_number: int = 0,
    ) -> None:
        checks = SettingChecks("Clone", BehaviourError)
        checks.seconds(hugz_s=hugz_s, stalled_s=stalled_s)
        checks.whole(max_keys=max_keys, max_bytes=max_bytes, max_snapshots=max_snapshots)
        checks.whole(least=0, most=MAX_NUMBER // 2, first_number=first_number)
        self._hugz_s = hugz_s
        self._stalled_s = stalled_s
        self._max_snapshots = max_snapshots
        self.max_held = max_snapshots
        self._map = KeyValues(max_keys, max_bytes)
        self._number = first_number
        self._ends_timer_s = float("inf")
        """When the timer for entries that expire comes."""
        self._requests: dict[bytes, deque[_Snapshot]] = {}
        """What each client has asked for. It is sent one after the other."""
        self._held = 0
        """How many snapshots that is in all."""
        self._turns: deque[bytes] = deque()
        """The clients that are sent to in turn: all of them, but for those that are resting."""
        self._resting: set[bytes] = set()
        """Those that a message could not be sent to. They are tried again later."""
        self._last_sent: _Snapshot | None = None
        """The snapshot whose KTHXBAI was sent last."""

    @property
    def held(self) -> int:
        return self._held

    def on_start(self) -> None:
        self.set_timer(_HUGZ, self._hugz_s)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port == "collector":
            self._on_update(frames)
        else:
            self._on_request(frames)

    def on_timer(self, key: Hashable) -> None:
        if key == _PORTIONS:
            self._send_portion()
        elif key == _ENDS:
            self._delete_ended()
        elif key == _HUGZ:
            self.send("publisher", [HUGZ, as_frame(0), b"", b"", b""])
            self.set_timer(_HUGZ, self._hugz_s)
        elif isinstance(key, bytes):
            self._try_again(key)

    # -- updates -------------------------------------------------------------------------------------------------------

    def _on_update(self, frames: list[bytes]) -> None:
        try:
            ttl_s = parse_time_to_live(frames)
        except ValueError:
            self.count("malformed")
            return
        key, _, uuid, properties, value = frames
        if not value:
            self._map.delete(key)
        else:
            end_s = self.now_s + ttl_s if ttl_s else None
            if not self._map.set(key, value, end_s):
                self.count("refused")
                return
            if end_s is not None and end_s < self._ends_timer_s:
                self._set_ends_timer(end_s)
        self.count("updates")
        self._publish(key, uuid, properties, value)

    def _publish(self, key: bytes, uuid: bytes, properties: bytes, value: bytes) -> None:
        self._number += 1
        self.send("publisher", [key, as_frame(self._number), uuid, properties, value])

    def _set_ends_timer(self, end_s: float) -> None:
        self._ends_timer_s = end_s
        self.set_timer(_ENDS, max(0.0, end_s - self.now_s))

    def _delete_ended(self) -> None:
        self._ends_timer_s = float("inf")
        ended = self._map.delete_ended(self.now_s, PORTION)
        for key in ended:
            self._publish(key, b"", b"", b"")
        if ended:
            self.count("expired", len(ended))
        end_s = self._map.next_end_s()
        if end_s is not None:
            self._set_ends_timer(end_s)

    # -- snapshots -----------------------------------------------------------------------------------------------------

    def _on_request(self, frames: list[bytes]) -> None:
        if len(frames) != 3 or frames[1] != ICANHAZ or len(frames[2]) > SUBTREE_MAX_BYTES:
            self.count("malformed")
            return
        client, _, subtree = frames
        requests = self._requests.get(client)
        if requests is None:
            requests = self._requests[client] = deque()
            self._turns.append(client)
            self.set_timer(_PORTIONS, 0.0)
        elif len(requests) >= REQUESTS_OF_A_CLIENT:
            self.count("refused")
            return
        requests.append(_Snapshot(subtree, position=subtree))
        self._held += 1
        if self._held >= self._max_snapshots:
            self.close("snapshot")

    def _send_portion(self) -> None:
        """Send a portion to the client whose turn it is."""
        if not self._turns:
            return
        client = self._turns[0]
        self._turns.rotate(-1)
        snapshot = self._requests[client][0]
        now_s = self.now_s
        if not snapshot.number:
            snapshot.number = as_frame(self._number)
            snapshot.moved_s = now_s
        snapshot.moved_before_s, snapshot.moved_s = snapshot.moved_s, now_s
        if snapshot.ended:
            self._send_end(client, snapshot)
        else:
            self._send_entries(client, snapshot)
        if self._turns:
            self.set_timer(_PORTIONS, 0.0)

    def _send_entries(self, client: bytes, snapshot: _Snapshot) -> None:
        most = 1 if snapshot.probes else PORTION
        entries = self._map.with_prefix(snapshot.subtree, snapshot.position, most)
        snapshot.tried = entries[0][0] if entries else None
        snapshot.probes = False
        left_bytes = PORTION_BYTES
        for key, value in entries:
            self.send("snapshot", [client, key, snapshot.number, b"", b"", value], if_full="tell")
            snapshot.position = after(key)
            left_bytes -= len(key) + len(value)
            if left_bytes <= 0:
                return
        snapshot.ended = len(entries) < most

    def _send_end(self, client: bytes, snapshot: _Snapshot) -> None:
        """Send KTHXBAI. All entries were accepted, or else the snapshot would not have ended."""
        snapshot.tried = None
        self.send("snapshot", [client, KTHXBAI, snapshot.number, b"", b"", snapshot.subtree], if_full="tell")
        self.count("snapshots")
        self._last_sent = snapshot
        self._requests[client].popleft()
        self._held -= 1
        if not self._requests[client]:
            self._forget(client)
        self.open("snapshot")

    def _forget(self, client: bytes) -> None:
        del self._requests[client]
        if client in self._resting:
            self._resting.remove(client)
        else:
            self._turns.remove(client)

    def on_dropped(self, port: str, frames: list[bytes]) -> None:
        """A message of a snapshot did not reach the client, which is gone, or has taken nothing for a while. It is sent
        again, with all that comes behind it."""
        if port != "snapshot":
            return
        client, key = frames[:2]
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
            self.set_timer(client, RETRY_S)

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        self.on_dropped(port, frames)  # the device waits for slow peers: see `Device.slow_peer`

    def _take_back_end(self, client: bytes) -> None:
        assert self._last_sent is not None
        if client not in self._requests:
            self._requests[client] = deque()
            self._turns.append(client)
        self._requests[client].appendleft(self._last_sent)
        self._held += 1
        self.count("snapshots", -1)
        if self._held >= self._max_snapshots:
            self.close("snapshot")

    def _try_again(self, client: bytes) -> None:
        requests = self._requests[client]
        if self.now_s - requests[0].moved_s >= self._stalled_s:
            self.count("abandoned", len(requests))
            self._held -= len(requests)
            self._forget(client)
            self.open("snapshot")
            return
        self._resting.remove(client)
        self._turns.append(client)
        self.set_timer(_PORTIONS, 0.0)


CLONE: Final = Device(
    "clone",
    ports={"snapshot": zmq.ROUTER, "publisher": zmq.PUB, "collector": (zmq.SUB, zmq.PULL)},
    behaviour=Clone,
    options={
        "snapshot": {"router_mandatory": 1},
        "publisher": {"sndhwm": _SNDHWM},
        "collector": {"subscribe": b""},
    },
)
"""A map that clients share (RFC 12/CHP; ROUTER, PUB, SUB): see `Clone`. Clients ask `snapshot` for the map, subscribe
to `publisher`, and send updates to `collector`."""
