"""Sharding: the requests of one key all go to the same shard, in their order.

Rules:

- The messages for a shard leave in the order in which they came.
- A shard that is full stalls its own requests only. What waits for it is kept here, up to a bound, while the others go
  on. So its messages are sent with `if_full="tell"`: while a message waits by "hold", no other port is read.
- One message is offered to a shard in one call. After a refusal the next one might be accepted, and overtake it.
- Nobody tells when a shard has room again. A timer tries, and a reply of the shard is a hint.
"""

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

import zmq

from pollbroker.behaviour import Behaviour
from pollbroker.device import Device
from pollbroker.errors import BehaviourError
from pollbroker.patterns.ring import HashRing
from pollbroker.patterns.settings import check_choice, check_whole

SHARDS: Final = ("shard0", "shard1", "shard2")

_FIRST_S: Final = 0.0005
_LAST_S: Final = 0.02
"""How long to wait before a shard that is full is tried again: twice as long each time. As for a sink of a route."""


@dataclass(slots=True)
class _Shard:
    name: str
    waiting: deque[list[bytes]] = field(default_factory=deque)
    """What it is to be sent, in order."""
    is_full: bool = False
    """True from a refusal until the timer comes, or a reply."""
    delay_s: float = _FIRST_S


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
        check_whole("Sharder: key_frame", key_frame)
        if function is not None and not callable(function):
            raise BehaviourError(f"Sharder: function is {function!r}: expected a function, or None")
        check_whole("Sharder: max_waiting", max_waiting, least=1)
        check_choice("Sharder: when_full", when_full, ("drop", "wait"))
        self._shards = {name: _Shard(name) for name in names}
        self._key_frame = key_frame
        self._find = HashRing(names).find
        self._function = function
        self._max_waiting = max_waiting
        self._stalls_all = when_full == "wait"
        self._waiting = 0
        self.max_held = max_waiting * len(names)  # type: ignore[misc]

    @property
    def held(self) -> int:
        return self._waiting

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port != "frontend":
            self._take_reply(self._shards[port], frames)
            return
        shard = self._shard_of(frames)
        if shard is None:
            return
        if not shard.waiting:
            self.send(shard.name, frames, if_full="tell")
            return
        if not shard.is_full:
            self._send_first(shard)
        self._let_wait(shard, frames)

    def on_timer(self, key: Hashable) -> None:
        assert isinstance(key, str)
        shard = self._shards[key]
        if not shard.is_full:
            shard.delay_s = _FIRST_S  # the last one was accepted
            self._open_if_all_have_room()
        shard.is_full = False
        if shard.waiting:
            self._send_first(shard)

    def on_refused(self, port: str, frames: list[bytes]) -> None:
        shard = self._shards[port]
        shard.waiting.appendleft(frames)
        self._waiting += 1
        self._keep_the_bound(shard)
        shard.is_full = True
        self.set_timer(port, shard.delay_s)
        shard.delay_s = min(2 * shard.delay_s, _LAST_S)

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

    def _take_reply(self, shard: _Shard, frames: list[bytes]) -> None:
        if len(frames) < 2:
            self.count("malformed")
            return
        self.send("frontend", frames)
        if shard.waiting:  # it has taken something, so that there may be room
            shard.is_full = False
            self._send_first(shard)

    def _send_first(self, shard: _Shard) -> None:
        """Offer the first message that waits to its shard. If it is refused, it comes back before anything else
        does."""
        frames = shard.waiting.popleft()
        self._waiting -= 1
        self.send(shard.name, frames, if_full="tell")
        self.set_timer(shard.name, 0.0)

    def _let_wait(self, shard: _Shard, frames: list[bytes]) -> None:
        shard.waiting.append(frames)
        self._waiting += 1
        self._keep_the_bound(shard)

    def _keep_the_bound(self, shard: _Shard) -> None:
        if len(shard.waiting) > self._max_waiting:
            shard.waiting.pop()  # the one that came last
            self._waiting -= 1
            self.count("shard_full")
        if self._stalls_all and len(shard.waiting) == self._max_waiting:
            self.close("frontend")

    def _open_if_all_have_room(self) -> None:
        if self._stalls_all and all(len(shard.waiting) < self._max_waiting for shard in self._shards.values()):
            self.open("frontend")

    def on_stop(self) -> None:
        """What waits for a shard is sent as far as there is room in time."""
        for shard in self._shards.values():
            for frames in shard.waiting:
                self.send(shard.name, frames)
            shard.waiting.clear()
        self._waiting = 0


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
    make = partial(
        Sharder,
        shards=tuple(shards),
        key_frame=key_frame,
        function=function,
        max_waiting=max_waiting,
        when_full=when_full,
    )
    make()  # so that what is unfit is refused here
    return Device(
        "sharder",
        ports={"frontend": zmq.ROUTER, **dict.fromkeys(shards, zmq.DEALER)},
        behaviour=make,
        options={"frontend": {"router_mandatory": 1}},
    )


SHARDER: Final = Device(
    "sharder",
    ports={"frontend": zmq.ROUTER, **dict.fromkeys(SHARDS, zmq.DEALER)},
    behaviour=Sharder,
    options={"frontend": {"router_mandatory": 1}},
)
"""Requests to three shards, `shard0` to `shard2`, by the client's routing id (ROUTER, three DEALERs). `Sharder` is its
behaviour; `sharder` makes a device with other shards."""
