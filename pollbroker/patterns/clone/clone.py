"""Clone: a map that any number of clients share, by the Clustered Hashmap Protocol (RFC 12/CHP; the guide, chapter 5).

A client asks for a snapshot of the map, or of a subtree of it, and then follows the updates that are published. It
changes the map by sending an update to the collector. `chp.py` has the messages. Rules:

- Every update that the map takes has a number of its own, and is published at once, in the order of the numbers.
- A snapshot has the number that the map had when it began. It is sent in portions, between which everything else goes
  on, and nothing is copied for it: each value is the one that the map has when it is sent. This is right because the
  client applies all updates behind the snapshot's number, in order. So a key that was changed while the snapshot was
  sent ends with its last value, whether the snapshot had the old one, the new one or none.
"""

from collections.abc import Hashable
from typing import Final

import zmq

from pollbroker.behaviour import Behaviour
from pollbroker.checks import SettingChecks
from pollbroker.device import Device
from pollbroker.errors import BehaviourError
from pollbroker.patterns.clone.chp import HUGZ, ICANHAZ, MAX_NUMBER, as_frame, parse_time_to_live
from pollbroker.patterns.clone.key_values import KeyValues
from pollbroker.patterns.clone.snapshots import PORTIONS, Snapshots

SUBTREE_MAX_BYTES: Final = 4096
"""The longest subtree that can be asked for, since it is kept until the snapshot has been sent."""

EXPIRING: Final = 100
"""The most entries that expire in one turn of the loop, since all brokers wait meanwhile."""

_SNDHWM: Final = 10_000
"""Updates wait in the client's queue while it reads a snapshot. Of what exceeds the high-water mark, libzmq drops the
rest in silence, and the client's map is wrong from then on."""

_HUGZ: Final = "hugz"
_ENDS: Final = "ends"
"""The keys of timers. The key of a client's own timer is its routing id."""


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
        self.max_held = max_snapshots
        self._map = KeyValues(max_keys, max_bytes)
        self._number = first_number
        self._ends_timer_s = float("inf")
        """When the timer for entries that expire comes."""
        self._snapshots = Snapshots(self, self._map, lambda: self._number, most=max_snapshots, stalled_s=stalled_s)

    @property
    def held(self) -> int:
        return self._snapshots.held

    def on_start(self) -> None:
        self.set_timer(_HUGZ, self._hugz_s)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port == "collector":
            self._on_update(frames)
        else:
            self._on_request(frames)

    def on_timer(self, key: Hashable) -> None:
        if key == PORTIONS:
            self._snapshots.send_portion()
        elif key == _ENDS:
            self._delete_ended()
        elif key == _HUGZ:
            self.send("publisher", [HUGZ, as_frame(0), b"", b"", b""])
            self.set_timer(_HUGZ, self._hugz_s)
        elif isinstance(key, bytes):
            self._snapshots.try_again(key)

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
        ended = self._map.delete_ended(self.now_s, EXPIRING)
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
        else:
            self._snapshots.ask(frames[0], frames[2])

    def on_dropped(self, port: str, frames: list[bytes]) -> None:
        if port == "snapshot":
            self._snapshots.send_again(frames[0], frames[1])

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        self.on_dropped(port, frames)  # the device waits for slow peers: see `Device.slow_peer`


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
