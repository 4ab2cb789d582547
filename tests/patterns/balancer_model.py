"""What a balancer has to do, said in the plainest way: lists that are searched through, and every choice by a minimum.

It is told what happens, as the balancer is, and says what is sent because of it.
"""

from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import count

from pollbroker.testing import Send


@dataclass(eq=False)
class Asked:
    """A request."""

    client: bytes
    rest: list[bytes]
    priority: int | None
    """None if it has none. That counts when it has to wait."""
    again: bool = False
    waits_since_s: float = 0.0


@dataclass(eq=False)
class Given:
    """A request in the hand of a worker."""

    request: Asked
    since_s: float
    order: int
    over: bool = False
    """It was taken from the worker."""
    next: Asked | None = None
    """It is to be given to another, or was."""


@dataclass(eq=False)
class Known:
    """A worker that said READY."""

    capacity: int
    hand: dict[bytes, Given] = field(default_factory=dict)
    rests: bool = False
    """It has not answered in time, and was not heard of since."""
    lapsed: int | None = None
    """When its last request was taken from it, if it has answered nothing since."""
    since: int = 0
    """Since when it has what it has in hand."""
    had_room: bool = False
    """It had room after the last that happened to it."""
    since_room: int = 0
    share: float = 0.0

    @property
    def has_room(self) -> bool:
        return not self.rests and len(self.hand) < self.capacity


class Model:
    """A balancer with these settings."""

    def __init__(
        self,
        *,
        policy: str,
        prioritized: bool,
        max_waiting: int,
        max_wait_s: float | None,
        time_limit_s: float | None,
        give_again: bool,
        max_workers: int,
    ) -> None:
        self.policy = policy
        self.prioritized = prioritized
        self.max_waiting = max_waiting if prioritized or max_wait_s is not None else 0
        self.max_wait_s = max_wait_s
        self.time_limit_s = time_limit_s
        self.give_again = give_again
        self.max_workers = max_workers
        self.workers: dict[bytes, Known] = {}
        self.waiting: list[Asked] = []
        self.gone: list[tuple[bytes, Known]] = []
        """Workers to which a message could not be delivered, until `settle`."""
        self.undelivered: list[tuple[bytes, bytes]] = []
        """The messages that were sent to workers that have left: the worker, and the name of the client."""
        self.dead: set[bytes] = set()
        """Workers that have left, whether the balancer has noticed or not."""
        self.counters: Counter[str] = Counter()
        self.sent: list[Send] = []
        self.now_s = 0.0
        self.received = 0
        self.answered = 0
        self._ticks = count(1)
        self._second_keys = count(1)
        self._share = 0.0

    # -- what can be seen ---------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        return any(worker.has_room for worker in self.workers.values()) or len(self.waiting) < self.max_waiting

    @property
    def in_hand(self) -> list[Given]:
        return [given for worker in self.workers.values() for given in worker.hand.values() if not given.over]

    @property
    def held(self) -> int:
        return len(self.waiting) + sum(self.give_again and not given.request.again for given in self.in_hand)

    # -- what happens -------------------------------------------------------------------------------------------------

    def request(self, client: bytes, *rest: bytes, priority: int | None = None) -> None:
        self.received += 1
        asked = Asked(client, list(rest), priority if self.prioritized else 0)
        if any(worker.has_room for worker in self.workers.values()):
            self._give(asked)
            self._serve()
        else:
            self._wait(asked, len(self.waiting))

    def reply(self, address: bytes, key: bytes, *rest: bytes) -> None:
        worker = self.workers.get(address)
        if worker is None:
            self.counters["unknown_worker"] += 1
            return
        given = worker.hand.pop(key, None)
        if given is None:
            self.counters["late"] += 1
            return
        if not given.over:
            self._answer(given.request, rest)
        elif given.next in self.waiting:
            assert given.next is not None
            self.waiting.remove(given.next)
            self.counters["accepted_late"] += 1
            self._answer(given.request, rest)
        else:
            self.counters["late"] += 1
        self._has_room(worker)
        self._serve()

    def ready(self, address: bytes, capacity: int | None) -> None:
        known = self.workers.get(address)
        number = 1 if capacity is None or self.policy == "least_recently_used" else capacity
        if known is None and len(self.workers) == self.max_workers:
            lapsed = [(worker.lapsed, one) for one, worker in self.workers.items() if worker.lapsed is not None]
            if not lapsed:
                self.counters["refused"] += 1
                return
            del self.workers[min(lapsed)[1]]
        self.counters["ready"] += 1
        if known is not None:
            if not known.hand and known.capacity == number:
                return
            self.counters["restarted"] += bool(known.hand)
            self._release(known)
            del self.workers[address]
        self.workers[address] = Known(number)
        self._has_room(self.workers[address])
        self._serve()

    def settle(self) -> None:
        """Let others have what workers had that have left: first what could not be delivered to them."""
        while self.undelivered:
            address, key = self.undelivered.pop(0)
            if address in self.workers:
                self.counters["gone"] += 1
                self.gone.append((address, self.workers.pop(address)))
            (given,) = [worker.hand.pop(key) for one, worker in self.gone if one == address]
            self.counters["undelivered"] += 1
            self._wait(given.request, 0)
            self._serve()
        for _, worker in self.gone:
            self._release(worker)
        self.gone.clear()
        self._serve()
        if self.undelivered:
            self.settle()

    def pass_a_second(self) -> None:
        self.now_s += 1
        self._end_times()
        for asked in [one for one in self.waiting if one.waits_since_s + (self.max_wait_s or 1e9) == self.now_s]:
            self.waiting.remove(asked)
            self.counters["expired"] += 1
        self._serve()

    def _end_times(self) -> None:
        due = [
            (given.order, worker, given)
            for worker in self.workers.values()
            for given in worker.hand.values()
            if not given.over and given.since_s + (self.time_limit_s or 1e9) == self.now_s
        ]
        for _, worker, given in sorted(due, key=lambda one: one[0]):
            self.counters["overdue"] += 1
            worker.rests = True
            worker.had_room = False
            self._give_up(given)
            if all(one.over for one in worker.hand.values()):
                worker.lapsed = next(self._ticks)

    # -- what follows -------------------------------------------------------------------------------------------------

    def _answer(self, request: Asked, rest: tuple[bytes, ...]) -> None:
        self.answered += 1
        self.sent.append(Send("frontend", [request.client, *rest]))

    def _has_room(self, worker: Known) -> None:
        worker.rests = False
        worker.lapsed = None
        worker.since = next(self._ticks)
        if not worker.had_room:
            worker.share = max(worker.share, self._share)
            worker.since_room = worker.since
        worker.had_room = True

    def _serve(self) -> None:
        while self.waiting and any(worker.has_room for worker in self.workers.values()):
            asked = min(self.waiting, key=lambda one: -(one.priority or 0))  # of several, the first
            self.waiting.remove(asked)
            self._give(asked)

    def _give(self, asked: Asked) -> None:
        address = self._choose()
        worker = self.workers[address]
        self._share = worker.share
        key = asked.client
        if key in worker.hand or key == b"READY":
            key = b"%s#%d" % (asked.client, next(self._second_keys))
        worker.hand[key] = Given(asked, self.now_s, next(self._ticks))
        worker.share += 1 / worker.capacity
        worker.since = worker.since_room = next(self._ticks)
        worker.had_room = worker.has_room
        if address in self.dead:
            self.undelivered.append((address, key))
        else:
            self.sent.append(Send("backend", [address, b"", key, *asked.rest]))

    def _choose(self) -> bytes:
        def rank(address: bytes) -> tuple[float | Fraction, int]:
            worker = self.workers[address]
            if self.policy == "least_recently_used":
                return 0, worker.since
            if self.policy == "least_loaded":
                return Fraction(len(worker.hand), worker.capacity), worker.since
            return worker.share, worker.since_room

        return min((address for address, worker in self.workers.items() if worker.has_room), key=rank)

    def _release(self, worker: Known) -> None:
        for given in reversed(worker.hand.values()):
            if not given.over:
                self._give_up(given)

    def _give_up(self, given: Given) -> None:
        given.over = True
        if not self.give_again or given.request.again:
            self.counters["lost"] += 1
            return
        self.counters["given_again"] += 1
        old = given.request
        given.next = Asked(old.client, old.rest, old.priority, again=True)
        self._wait(given.next, 0)

    def _wait(self, asked: Asked, where: int) -> None:
        if asked.priority is None:
            self.counters["no_priority"] += 1
            asked.priority = 0
        asked.waits_since_s = self.now_s
        self.waiting.insert(where, asked)
