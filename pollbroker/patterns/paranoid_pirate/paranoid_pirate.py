"""Paranoid Pirate: a request goes to the worker that has been free for longest, and both sides send heartbeats.

It follows RFC 6/PPP, in which this broker is what the RFC calls the client, and chapter 4 of the ZeroMQ guide. Rules:

- A worker is known from its READY until nothing was heard of it for `liveness` heartbeats. What comes from a worker
  that is not known is no part of a conversation, and gets no answer. That worker gets no heartbeats, and begins again.
- A worker has at most one request. Its reply is the message whose envelope begins with that request's client.
- While no worker is free, no request is read: requests wait at the clients' sockets.
- While the engine stands still, nobody is heard. That counts as one heartbeat at most, so that what has come meanwhile
  is read before the time of its sender is over.
- Workers are kept in the order in which they were last heard of, so that those whose time is over come first.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import zmq

from pollbroker.behaviour import Behaviour
from pollbroker.checks import SettingChecks
from pollbroker.device import Device
from pollbroker.errors import BehaviourError
from pollbroker.patterns.ages import LEAST_S
from pollbroker.patterns.paranoid_pirate.ppp import HEARTBEAT, READY, split_envelope

_HEARTBEAT: Final = "heartbeat"
"""The key of the timer for the next heartbeat."""

_OTHERS: Final = "others"
"""The key of the timer for the workers that are yet to be sent the heartbeat that is due."""

_HEARTBEATS_AT_ONCE: Final = 100
"""To how many workers it is sent before other brokers have their turn."""


@dataclass(slots=True)
class _Request:
    """A request. Its frames are kept only if it may have to be given to another worker."""

    client: bytes
    frames: list[bytes] | None
    given_again: bool = False


@dataclass(slots=True)
class _Worker:
    heard_s: float
    request: _Request | None = None


class ParanoidPirate(Behaviour):
    """A broker between clients and workers that may vanish (RFC 6/PPP; the ZeroMQ guide, chapter 4).

    Counters: `ready`, `ready_again` (a worker that was known began a new conversation), `expired` (nothing was heard of
    a worker for too long), `gone` (a worker had left), `given_again` (a request is to go to another worker), `lost` (a
    request was in the hands of a worker that expired, left or began again, and is not given to another), `late` (a
    reply of a worker that has no such request), `unknown` (a heartbeat of a worker that is not known), `refused`
    (READY, while there were `max_workers`), `malformed`.

    Arguments:
        heartbeat_s: how often each worker is sent a heartbeat, in seconds. Workers should be set to the same.
        liveness: after how many heartbeats in which nothing was heard of it a worker has expired.
        give_again: give a request to another worker if the one that had it expired, left or began again. That is done
            once. A worker that was only slow may have carried it out, too.
        max_workers: how many workers may be known at a time. Each may hold one request.
    """

    request_ports = ("frontend",)
    peers: ClassVar[Mapping[str, str]] = {"frontend": "REQ or DEALER clients", "backend": "DEALER workers (PPP)"}

    def __init__(
        self, *, heartbeat_s: float = 1.0, liveness: int = 3, give_again: bool = True, max_workers: int = 10_000
    ) -> None:
        checks = SettingChecks("ParanoidPirate", BehaviourError)
        checks.seconds(least=LEAST_S, heartbeat_s=heartbeat_s)
        checks.whole(liveness=liveness, max_workers=max_workers)
        checks.true_or_false(give_again=give_again)
        self._heartbeat_s = heartbeat_s
        self._lifetime_s = heartbeat_s * liveness
        self._give_again = give_again
        self._max_workers = max_workers
        self.max_held = max_workers
        self._workers: OrderedDict[bytes, _Worker] = OrderedDict()
        """All that are known, those first that were not heard of for longest."""
        self._free: OrderedDict[bytes, None] = OrderedDict()
        """Those that have no request, those first that have been free for longest."""
        self._untold: deque[bytes] = deque()
        """Those that are yet to be sent the heartbeat that is due."""
        self._waiting: deque[_Request] = deque()
        """Requests that are to be given to another worker, while none is free."""
        self._kept = 0
        """How many of the workers have a request whose frames are kept."""
        self._seen_s = 0.0
        self._lost_s = 0.0
        """When `_time_s` was read last, and for how long the engine has stood still, as far as that does not count."""

    @property
    def held(self) -> int:
        return self._kept + len(self._waiting)

    @property
    def outstanding(self) -> int:
        return sum(worker.request is not None for worker in self._workers.values())

    def on_start(self) -> None:
        self._seen_s = self.now_s
        self.close("frontend")  # until a worker is free
        self.set_timer(_HEARTBEAT, self._heartbeat_s)

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port == "frontend":
            self._take_request(frames)
        elif len(frames) > 2:
            self._take_reply(frames[0], frames[1:])
        else:
            self._take_command(frames[0], frames[1] if len(frames) == 2 else None)

    def is_lost(self, port: str, frames: list[bytes]) -> bool:
        """Commands of workers are of no use to anybody else."""
        return port == "frontend" or len(frames) > 2

    def on_timer(self, key: Hashable) -> None:
        if key == _HEARTBEAT:
            self._expire()
            self._untold = self._untold or deque(self._workers)
            self.set_timer(_HEARTBEAT, self._heartbeat_s)
        for _ in range(min(len(self._untold), _HEARTBEATS_AT_ONCE)):
            worker = self._untold.popleft()
            if worker in self._workers:
                self.send("backend", [worker, HEARTBEAT])
        if self._untold:
            self.set_timer(_OTHERS, 0)

    def on_dropped(self, port: str, frames: list[bytes]) -> None:
        """A worker that could not be reached has left. A request that it was sent is given to another worker in any
        case, since it was never received."""
        if port != "backend" or (worker := self._workers.get(frames[0])) is None:
            return
        request = worker.request if len(frames) > 2 else None  # two frames are a heartbeat
        if request is not None and request.client == frames[1] and request.frames in (None, frames[1:]):
            self._keep(worker, None)
            request.frames = frames[1:]
            self._waiting.appendleft(request)
        self.count("gone")
        self._forget(frames[0])
        self._give_waiting()

    # -- requests -----------------------------------------------------------------------------------------------------

    def _take_request(self, frames: list[bytes]) -> None:
        if split_envelope(frames) is None:
            self.count("malformed")
            return
        self._expire()
        request = _Request(frames[0], frames)
        if self._free:
            self._give(request)
        else:  # those that seemed to be free had expired
            self._waiting.append(request)
        self._open_or_close()

    def _give(self, request: _Request) -> None:
        """Give a request to the worker that has been free for longest."""
        address, _ = self._free.popitem(last=False)
        assert request.frames is not None
        self.send("backend", [address, *request.frames])
        if not self._give_again or request.given_again:
            request.frames = None
        self._keep(self._workers[address], request)

    def _keep(self, worker: _Worker, request: _Request | None) -> None:
        """Note which request a worker has."""
        for one, change in ((worker.request, -1), (request, 1)):
            if one is not None and one.frames is not None:
                self._kept += change
        worker.request = request

    def _give_waiting(self) -> None:
        while self._waiting and self._free:
            self._give(self._waiting.popleft())
        self._open_or_close()

    def _open_or_close(self) -> None:
        if self._free:
            self.open("frontend")
        else:
            self.close("frontend")

    # -- workers ------------------------------------------------------------------------------------------------------

    def _take_command(self, address: bytes, command: bytes | None) -> None:
        worker = self._workers.get(address)
        if command == HEARTBEAT and worker is not None:
            self._hear(address, worker)
        elif command == HEARTBEAT:
            self.count("unknown")
        elif command != READY:
            self.count("malformed")
        elif worker is None and len(self._workers) >= self._max_workers:
            self.count("refused")
        else:
            self.count("ready" if worker is None else "ready_again")
            if worker is not None:
                self._forget(address)
            self._workers[address] = _Worker(self._time_s())
            self._free[address] = None
            self._give_waiting()

    def _take_reply(self, address: bytes, frames: list[bytes]) -> None:
        worker = self._workers.get(address)
        if worker is not None:
            self._hear(address, worker)
        if split_envelope(frames) is None:
            self.count("malformed")
        elif worker is None or worker.request is None or worker.request.client != frames[0]:
            self.count("late")
        else:
            self._keep(worker, None)
            self._free[address] = None
            self.send("frontend", frames)
            self._give_waiting()

    def _hear(self, address: bytes, worker: _Worker) -> None:
        worker.heard_s = self._time_s()
        self._workers.move_to_end(address)

    def _time_s(self) -> float:
        """The time by which workers are heard of and expire. It is read once a heartbeat at least, unless the engine
        stands still."""
        now_s = self.now_s
        self._lost_s += max(0.0, now_s - self._seen_s - self._heartbeat_s)
        self._seen_s = now_s
        return now_s - self._lost_s

    def _expire(self) -> None:
        """Forget the workers of which nothing was heard for too long."""
        latest_s = self._time_s() - self._lifetime_s
        expired = False
        while self._workers:
            address = next(iter(self._workers))
            if self._workers[address].heard_s > latest_s:
                break
            self.count("expired")
            self._forget(address)
            expired = True
        if expired:
            self._give_waiting()

    def _forget(self, address: bytes) -> None:
        """Forget a worker. The request that it has waits for another worker, or is lost."""
        worker = self._workers.pop(address)
        self._free.pop(address, None)
        request = worker.request
        self._keep(worker, None)
        if request is None:
            return
        if request.frames is None:
            self.count("lost")
        else:
            self.count("given_again")
            request.given_again = True
            self._waiting.append(request)


PARANOID_PIRATE: Final = Device(
    "paranoid_pirate",
    ports={"frontend": zmq.ROUTER, "backend": zmq.ROUTER},
    behaviour=ParanoidPirate,
    options={"frontend": {"router_mandatory": 1}, "backend": {"router_mandatory": 1}},
)
"""Clients' requests to the worker that has been free for longest, with heartbeats both ways (ROUTER, ROUTER; RFC
6/PPP). `ParanoidPirate` is its behaviour."""
