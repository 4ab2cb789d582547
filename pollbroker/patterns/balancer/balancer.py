"""Load balancing: requests go to workers that have said that they are free.

It follows chapter 3 of the ZeroMQ guide (the load balancing broker): a worker says READY, and is given requests from
then on; its reply also says that it is free again. Rules:

- A request is given to a worker only while that has room: one request at a time, or as many as it said.
- A request that no worker can take is not read. It waits at its client's socket, in no list here. Only priorities and
  `max_wait_s` need requests that are read and kept; their number has a bound.
- `in_hand` of a worker has every request that it has not answered. What is not there cannot be answered, so no request
  is answered twice. A request that is taken from its worker stays there, marked as `over`: the worker is still busy
  with it, and its answer is known to be late.
- A message that could not be delivered goes to another worker in any case, since no worker has seen it.
- A worker without room is not known to be alive. If it answers nothing in time, it is given nothing until it does.
"""

import math
from collections.abc import Hashable, Mapping
from typing import ClassVar, Final, Literal

import zmq

from pollbroker.behaviour import Behaviour
from pollbroker.checks import SettingChecks
from pollbroker.device import Device
from pollbroker.errors import BehaviourError
from pollbroker.patterns.balancer.policies import POLICIES, LeastRecentlyUsed
from pollbroker.patterns.balancer.requests import Deadlines, Request, WaitingRequests
from pollbroker.patterns.balancer.workers import Worker, Workers

READY: Final = frozenset({b"READY", b"\x01"})
"""What workers of the guide say when they are ready: those in Python the one, those in C the other."""

_LIMIT: Final = "time limit"
_WAITED: Final = "waited too long"
_GONE: Final = "gone"
"""The keys of the timers."""

HIGHEST_PRIORITY: Final = 255


class Balancer(Behaviour):
    """Gives each request to a worker that has room for it (the ZeroMQ guide, chapter 3).

    The frontend is a ROUTER for clients, the backend a ROUTER for workers: REQ sockets that say READY, or DEALER
    sockets that send the same frames. A worker says how many requests it takes at a time in a further frame, as a
    decimal number: `READY`, `4`. READY alone means 1.

    Arguments:
        policy: which worker is given a request. "least_recently_used": the one that has been free for longest; each has
            one at a time, whatever it said. "least_loaded": the one that has the smallest part of its number in hand.
            "weighted": over time, each has requests in proportion to its number.
        ready: what a worker says when it is ready. None means `READY` and the one byte 1, both of which the guide has.
        priority_frame: the frame of a request that has its priority, a decimal number from 0 to 255; the highest comes
            first. Frames are counted as the broker reads them: 0 is the routing id, 1 the empty frame of a REQ, and 2
            the first frame that it sent. While no worker has room, up to `max_waiting` requests are read and kept.
        max_waiting: how many requests are kept with `priority_frame` or `max_wait_s`. Without these none is.
        max_wait_s: a request that was kept for so many seconds, and that no worker could take, is dropped.
        time_limit_s: a request that its worker has not answered after so many seconds is taken from it. The worker is
            given no other until it is heard of.
        give_again: give a request to another worker, once, if the one that had it did not answer in time, left, or
            began again. That worker may have carried it out all the same. Without it such a request is dropped.
        max_workers: how many workers may be known. READY of more is refused.
        max_capacity: the highest number that a worker may say.

    Raises `BehaviourError` if a setting is unfit.
    """

    request_ports = ("frontend",)
    peers: ClassVar[Mapping[str, str]] = {
        "frontend": "REQ or DEALER clients",
        "backend": "REQ or DEALER workers, which say READY",
    }

    def __init__(
        self,
        *,
        policy: Literal["least_recently_used", "least_loaded", "weighted"] = "least_recently_used",
        ready: bytes | None = None,
        priority_frame: int | None = None,
        max_waiting: int = 1000,
        max_wait_s: float | None = None,
        time_limit_s: float | None = None,
        give_again: bool = False,
        max_workers: int = 10_000,
        max_capacity: int = 100,
    ) -> None:
        checks = SettingChecks("Balancer", BehaviourError)
        checks.one_of(tuple(POLICIES), policy=policy)
        checks.some_bytes(ready=ready)
        if priority_frame is not None:
            checks.whole(least=-math.inf, priority_frame=priority_frame)
        checks.whole(max_waiting=max_waiting, max_workers=max_workers, max_capacity=max_capacity)
        checks.seconds(or_none=True, max_wait_s=max_wait_s, time_limit_s=time_limit_s)
        checks.true_or_false(give_again=give_again)

        self._ready = READY if ready is None else frozenset({ready})
        self._priority_frame = priority_frame
        self._max_waiting = max_waiting if priority_frame is not None or max_wait_s is not None else 0
        self._give_again = give_again
        self._has_records = give_again or time_limit_s is not None
        """True if something has to be known of a request that a worker has, beside its client."""
        self._max_capacity = max_capacity

        self._free = POLICIES[policy]()
        self._is_single = isinstance(self._free, LeastRecentlyUsed)
        """True if each worker has one request at a time."""
        self._workers = Workers(self._free, max_workers)
        self._known = self._workers.known
        self._gone: dict[bytes, Worker] = {}
        """Workers that have left, until it is known which of the messages to them were not delivered."""
        self._waiting = WaitingRequests(max_wait_s)
        """While there are any, no worker has room."""
        self._limits = None if time_limit_s is None else Deadlines(time_limit_s)
        self._kept = 0
        """How many requests are kept that workers have in hand."""
        self._is_reading = True
        self._second_keys = 0
        self.max_held = self._max_waiting + max_workers * (1 if self._is_single else max_capacity)

    @property
    def held(self) -> int:
        return self._kept + self._waiting.requests.number

    @property
    def outstanding(self) -> int:
        return sum(
            request is None or not request.over
            for workers in (self._known, self._gone)
            for worker in workers.values()
            for request in worker.in_hand.values()
        )

    # -- what happens -------------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        self._open_or_close()

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port == "frontend":
            if len(frames) < 2:
                self.count("malformed")
                return
            if self._free and not self._has_records:
                self._give(frames, None)  # without a record of it, which takes half of the time
            else:
                self._take_request(Request(frames[0], frames))
            if not self._free:
                self._open_or_close()
            return
        worker = self._known.get(frames[0])
        if worker is None or len(frames) < 4 or frames[2] not in worker.in_hand or frames[1]:
            self._take_other(worker, frames)
            return
        request = worker.in_hand.pop(frames[2])
        if request is None:
            self.send("frontend", frames[2:])
        else:
            self._answer(request, frames)
            self._workers.lapsed.pop(worker.address, None)
        self._free.put(worker)
        if self._max_waiting or not self._is_reading:  # only then may any wait
            self._serve()

    def on_timer(self, key: Hashable) -> None:
        if key == _LIMIT and self._limits is not None:
            for request in self._limits.take_due(self.now_s):
                self._end_time_of(request)
            self._watch(_LIMIT, self._limits, came=True)
        elif key == _WAITED and (deadlines := self._waiting.deadlines) is not None:
            for request in deadlines.take_due(self.now_s):
                self._waiting.remove(request)
                self.count("expired")
            self._watch(_WAITED, deadlines, came=True)
        else:
            for worker in self._gone.values():
                self._take_from(worker)
            self._gone.clear()
        self._serve()

    def on_dropped(self, port: str, frames: list[bytes]) -> None:
        if port != "backend":
            return
        address, key = frames[0], frames[2]
        worker = self._gone.get(address)
        if worker is None or key not in worker.in_hand:
            worker = self._known.get(address)
            if worker is None or key not in worker.in_hand:
                return  # it has been taken from its worker already
            self.count("gone")
            self._workers.forget(worker)
            if address in self._gone:
                self._take_from(self._gone[address])
            self._gone[address] = worker
            self.set_timer(_GONE, 0.0)  # when all that was not delivered has come back
        self._take_back(worker, key, frames)
        self._serve()

    def on_stop(self) -> None:
        """No answer is read any more. What workers have in hand has been sent, and is not kept any longer."""
        if unanswered := self.outstanding:
            self.count("unanswered", unanswered)
        while self._free:
            self._free.take()
        self._known.clear()
        self._gone.clear()
        self._limits = None
        self._kept = 0

    def is_lost(self, port: str, frames: list[bytes]) -> bool:
        """Workers may say that they are ready."""
        return port == "frontend" or not self._is_ready(frames)

    # -- requests -----------------------------------------------------------------------------------------------------

    def _take_request(self, request: Request) -> None:
        if self._free:
            self._give(request.frames or [], request)
        else:
            self._let_wait(request)

    def _give(self, frames: list[bytes], request: Request | None) -> None:
        """Give a request to the worker whose turn it is.

        Arguments:
            request: what is to be known of it later; None if that is its client alone.
        """
        worker = self._free.take()
        key = frames[0]
        if key in worker.in_hand or key in self._ready:
            key = self._second_key(worker, key)
            request = request or Request(frames[0], None)
        worker.in_hand[key] = request
        if not self._is_single and len(worker.in_hand) < worker.capacity:
            self._free.put(worker)
        self.send("backend", [worker.address, b"", key, *frames[1:]])
        if request is not None:
            request.worker, request.key = worker, key
            if self._give_again and not request.again:
                self._kept += 1
            else:
                request.frames = None
            if self._limits is not None:
                self._limits.add(request, self.now_s)
                self._watch(_LIMIT, self._limits)

    def _second_key(self, worker: Worker, client: bytes) -> bytes:
        """A frame by which the worker's answer is told from its answer to another request of the same client. If the
        client is called READY, it is also told from what a worker says that begins."""
        while True:
            self._second_keys += 1
            key = b"%s#%d" % (client, self._second_keys)
            if key not in worker.in_hand:
                return key

    def _let_wait(self, request: Request, *, first: bool = False) -> None:
        """Let a request wait for a worker; with `first`, before the others of its priority."""
        if request.priority is None:
            request.priority = self._priority_of(request.frames or [])
        self._waiting.put(request, self.now_s, first=first)
        if self._waiting.deadlines is not None:
            self._watch(_WAITED, self._waiting.deadlines)

    def _serve(self) -> None:
        """Give requests that wait to workers that have room, and read others if there is more room."""
        while self._waiting and self._free:
            request = self._waiting.take()
            self._give(request.frames or [], request)
        self._open_or_close()

    def _open_or_close(self) -> None:
        """Read requests while a worker has room for one, or while more of them may be kept."""
        wanted = bool(self._free) or len(self._waiting) < self._max_waiting
        if wanted != self._is_reading:
            if wanted:
                self.open("frontend")
            else:
                self.close("frontend")
            self._is_reading = wanted

    def _priority_of(self, frames: list[bytes]) -> int:
        if self._priority_frame is None:
            return 0
        try:
            frame = frames[self._priority_frame]
        except IndexError:
            frame = b""
        if frame.isdigit() and len(frame) <= 3 and int(frame) <= HIGHEST_PRIORITY:
            return int(frame)
        self.count("no_priority")
        return 0

    def _watch(self, key: str, deadlines: Deadlines, *, came: bool = False) -> None:
        """See to it that a timer comes when the next of these is due; `came` says that it has come."""
        if came:
            deadlines.is_watched = False
        if not deadlines.is_watched:
            delay_s = deadlines.next_s(self.now_s)
            if delay_s is not None:
                self.set_timer(key, delay_s)
                deadlines.is_watched = True

    # -- answers, and what has none -----------------------------------------------------------------------------------

    def _answer(self, request: Request, frames: list[bytes]) -> None:
        """Send the answer to the client, unless another worker has the request by now or it was given up."""
        if not request.over:
            self._let_go(request)
        elif request.successor is not None and request.successor.waits:
            self._waiting.remove(request.successor)
            self.count("accepted_late")
        else:
            self.count("late")
            return
        self.send("frontend", [request.client, *frames[3:]])

    def _let_go(self, request: Request) -> None:
        """The worker has answered a request, or it is taken from it."""
        if self._limits is not None:
            self._limits.discard(request)
        if request.frames is not None:
            self._kept -= 1

    def _end_time_of(self, request: Request) -> None:
        """Take a request from its worker, which has not answered in time. Give the worker no other for now."""
        worker = request.worker
        assert worker is not None
        self.count("overdue")
        self._free.drop(worker)
        self._give_up(request)
        if worker.address not in self._gone and all(one is not None and one.over for one in worker.in_hand.values()):
            self._workers.lapsed[worker.address] = worker

    def _give_up(self, request: Request) -> None:
        """Let another worker have a request, or drop it."""
        self._let_go(request)
        request.over = True
        if request.frames is None:
            self.count("lost")
        else:
            self.count("given_again")
            request.successor = Request(request.client, request.frames, request.priority, again=True)
            request.frames = None
            self._let_wait(request.successor, first=True)

    def _take_from(self, worker: Worker) -> None:
        """Let others have what a worker had in hand that has left or began again."""
        for request in reversed(worker.in_hand.values()):  # each is put before the others
            if request is None:
                self.count("lost")
            elif not request.over:
                self._give_up(request)

    def _take_back(self, worker: Worker, key: bytes, frames: list[bytes]) -> None:
        """Let another worker have a request that could not be delivered."""
        request = worker.in_hand.pop(key)
        if request is not None and request.over:
            return
        client = key if request is None else request.client
        undelivered = [client, *frames[3:]]
        if request is None:
            request = Request(client, undelivered)
        else:
            self._let_go(request)
            request.frames = undelivered
        self.count("undelivered")
        self._let_wait(request, first=True)

    # -- workers ------------------------------------------------------------------------------------------------------

    def _take_other(self, worker: Worker | None, frames: list[bytes]) -> None:
        """Take what is not the answer to a request that the worker has."""
        if self._is_ready(frames):
            self._take_ready(worker, frames[0], frames[3] if len(frames) == 4 else b"1")
        elif len(frames) < 4 or frames[1]:
            self.count("malformed")
        else:
            self.count("unknown_worker" if worker is None else "late")

    def _is_ready(self, frames: list[bytes]) -> bool:
        """True if this is what a worker says that has begun."""
        return len(frames) in (3, 4) and not frames[1] and frames[2] in self._ready

    def _take_ready(self, worker: Worker | None, address: bytes, number: bytes) -> None:
        capacity = int(number) if number.isdigit() and len(number) < 10 else 0
        if not 1 <= capacity <= self._max_capacity:
            self.count("malformed")
            return
        if self._is_single:
            capacity = 1
        if worker is None and not self._workers.have_room():
            self.count("refused")
            return
        self.count("ready")
        if worker is not None:
            if not worker.in_hand and worker.capacity == capacity:
                return  # it is known to have room, and keeps its place
            if worker.in_hand:
                self.count("restarted")
                self._take_from(worker)
            self._workers.forget(worker)
        self._workers.add(address, capacity)
        self._serve()


BALANCER: Final = Device(
    "balancer",
    ports={"frontend": zmq.ROUTER, "backend": zmq.ROUTER},
    behaviour=Balancer,
    # Without this option libzmq drops messages to peers that have left, and does not report it.
    options={"frontend": {"router_mandatory": 1}, "backend": {"router_mandatory": 1}},
)
"""Requests to workers that have said that they are free (ROUTER, ROUTER). `Balancer` is its behaviour."""
