"""Sharding: the requests of one key all go to the same shard, in their order.

Rules:

- The messages for a shard leave in the order in which they came.
- A shard that is full stalls its own requests only. What waits for it is kept here, up to a bound, while the others go
  on. So its messages are sent with `if_full="tell"`: while a message waits by "hold", no other port is read.
- What a shard has refused comes back in order, before anything else happens. It is put in front of what waits.
- A message is offered as long as the shard has refused none, and again when `on_room` says so. That none was refused is
  known in the next call, for which a timer is set.
"""

import math
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal

import zmq

from pollbroker.behaviour import Behaviour
from pollbroker.checks import SettingChecks
from pollbroker.device import Device
from pollbroker.errors import BehaviourError
from pollbroker.patterns.sharder.ring import HashRing

SHARDS: Final = ("shard0", "shard1", "shard2")

_BATCH: Final = 100
"""How many of the messages that wait for a shard are offered to it in one call, at most, since all brokers wait
meanwhile. After a refusal it is one, and then twice as many each time: a shard seldom has room for all."""


@dataclass(slots=True)
class _Shard:
    name: str
    waiting: deque[list[bytes]] = field(default_factory=deque)
    """What it is to be sent, in order."""
    is_full: bool = False
    """True from a refusal until there may be room again."""
    returned: int = 0
    """How many messages of the batch of which it has refused one have come back."""
    batch: int = 1
    """How many are to be offered next."""


class Sharder(Behaviour):
    """Gives each request to one of several shards, by a key in it.

    The frontend is a ROUTER for clients. Each shard is a port of its own, a DEALER; behind it stand workers, or another
    broker. Messages pass unchanged, as through a QUEUE.

    Arguments:
        shards: the names of the shards' ports.
        key_frame: the frame that has the key. Frames are counted as the broker reads them: 0 is the client's routing
            id, so that each client keeps its shard. 1 is the empty frame of a REQ, and 2 the first frame that it sent.
        function: in place of a key, a function that is given the frames of a request and returns the name of its shard.
        max_waiting: how many requests wait for each shard that is full.
        when_full: what happens when so many wait. "drop": further requests for that shard are dropped, and counted as
            `shard_full`; the other shards do not notice. "wait": no request at all is read until that shard has taken
            some.

    Raises `BehaviourError` if a setting is unfit.
    """

    request_ports = ("frontend",)
    peers: ClassVar[Mapping[str, str]] = {"frontend": "REQ or DEALER clients"}

    def __init__(
        self,
        *,
        shards: Sequence[str] = SHARDS,
        key_frame: int = 0,
        function: Callable[[list[bytes]], str] | None = None,
        max_waiting: int = 1000,
        when_full: Literal["drop", "wait"] = "drop",
    ) -> None:
        names = (shards,) if isinstance(shards, str) else tuple(shards)
        if not names or len(set(names)) < len(names) or not all(isinstance(one, str) for one in names):
            raise BehaviourError(f"Sharder: shards is {shards!r}: expected one or more names of ports, each once")
        checks = SettingChecks("Sharder", BehaviourError)
        checks.whole(least=-math.inf, key_frame=key_frame)
        if function is not None and not callable(function):
            raise BehaviourError(f"Sharder: function is {function!r}: expected a function, or None")
        checks.whole(max_waiting=max_waiting)
        checks.one_of(("drop", "wait"), when_full=when_full)
        self._shards = {name: _Shard(name) for name in names}
        self._key_frame = key_frame
        self._find = HashRing(names).find
        self._function = function
        self._max_waiting = max_waiting
        self._stalls_all = when_full == "wait"
        self._waiting = 0
        self._passed_on = self._replies = 0
        self.max_held = max_waiting * len(names)

    @property
    def held(self) -> int:
        return self._waiting

    @property
    def outstanding(self) -> int:
        return max(0, self._passed_on - self._replies)

    def on_start(self) -> None:
        for name in self._shards:
            self.open(name)  # it raises if the device has no such port

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port != "frontend":
            if len(frames) < 2:
                self.count("malformed")
            else:
                self._replies += 1
                self.send("frontend", frames)
            return
        shard = self._shard_of(frames)
        if shard is None:
            return
        if not shard.waiting:
            self._passed_on += 1
            self.send(shard.name, frames, if_full="tell")
            return
        if not shard.is_full:
            self._send_some(shard)
        shard.waiting.append(frames)
        self._waiting += 1
        self._keep_the_bound(shard)

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        shard = self._shards[port]
        if not shard.is_full:
            shard.is_full = True
            shard.returned = 0
            shard.batch = 1
            self.cancel_timer(port)  # each timer lets shards be tried; one set by each try would never end
        shard.waiting.insert(shard.returned, frames)
        shard.returned += 1
        self._waiting += 1
        self._passed_on -= 1
        self._keep_the_bound(shard)

    def on_room(self, port: str) -> None:
        shard = self._shards[port]
        shard.is_full = False
        self._send_some(shard)

    def on_timer(self, key: Hashable) -> None:
        shard = self._shards[str(key)]
        # All that was offered was accepted: a refusal would have cancelled the timer.
        if self._stalls_all and all(len(one.waiting) < self._max_waiting for one in self._shards.values()):
            self.open("frontend")
        if shard.waiting:
            self._send_some(shard)

    def on_stop(self) -> None:
        """What waits for a shard is sent as far as there is room in time."""
        for shard in self._shards.values():
            for frames in shard.waiting:
                self.send(shard.name, frames)
            shard.waiting.clear()
        self._waiting = 0

    def _shard_of(self, frames: list[bytes]) -> _Shard | None:
        """The shard of a request; None if it has none, which is counted."""
        if self._function is not None:
            shard = self._shards.get(self._function(frames))
            if shard is None:
                self.count("no_shard")
            return shard
        try:
            return self._shards[self._find(frames[self._key_frame])]
        except IndexError:
            self.count("malformed")
            return None

    def _send_some(self, shard: _Shard) -> None:
        """Offer a shard the first of what waits for it."""
        number = min(len(shard.waiting), shard.batch)
        shard.batch = min(2 * shard.batch, _BATCH)
        for _ in range(number):
            self.send(shard.name, shard.waiting.popleft(), if_full="tell")
        self._waiting -= number
        self._passed_on += number
        self.set_timer(shard.name, 0.0)

    def _keep_the_bound(self, shard: _Shard) -> None:
        if len(shard.waiting) > self._max_waiting:
            shard.waiting.pop()  # the one that came last
            self._waiting -= 1
            self.count("shard_full")
        if self._stalls_all and len(shard.waiting) == self._max_waiting:
            self.close("frontend")


SHARDER: Final = Device(
    "sharder",
    ports={"frontend": zmq.ROUTER, **dict.fromkeys(SHARDS, zmq.DEALER)},
    behaviour=Sharder,
    # Without this option libzmq drops replies to clients that have left, and does not report it.
    options={"frontend": {"router_mandatory": 1}},
)
"""Requests to three shards, `shard0` to `shard2`, by the client's routing id (ROUTER, three DEALERs). `Sharder` is its
behaviour; `sharder` makes a device with other shards."""


def sharder(
    shards: Sequence[str] = SHARDS,
    *,
    key_frame: int = 0,
    function: Callable[[list[bytes]], str] | None = None,
    max_waiting: int = 1000,
    when_full: Literal["drop", "wait"] = "drop",
) -> Device:
    """A device with these shards: the port `frontend`, and a port for each shard.

    The arguments are those of `Sharder`. Raises `BehaviourError` and `DeviceError` if one is unfit.
    """
    names = tuple(shards)
    ports = {"frontend": (zmq.ROUTER,), **dict.fromkeys(names, (zmq.DEALER,))}
    return replace(SHARDER, ports=ports).with_settings(
        shards=names, key_frame=key_frame, function=function, max_waiting=max_waiting, when_full=when_full
    )
