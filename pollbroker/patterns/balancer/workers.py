"""The workers of a balancer, and what each of them has in hand."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from pollbroker.patterns.balancer.requests import Request


@dataclass(slots=True, eq=False)
class Worker:
    """A worker that has said that it is ready."""

    address: bytes
    """Its routing id."""
    capacity: int = 1
    """How many requests it may have in hand."""
    in_hand: dict[bytes, Request | None] = field(default_factory=dict)
    """What it has not answered, by the frame that names the client to it. None stands for a request of which nothing is
    known but the client, which is that frame."""
    place: float | None = None
    """Where a policy keeps it among the workers that have room; None if it is not there."""
    share: float = 0.0
    """How much of its share it has been given, by the policy `weighted`."""


class Policy(Protocol):
    """The workers that have room, in the order in which they are given requests."""

    def __len__(self) -> int: ...

    def take(self) -> Worker:
        """Remove and return the worker that is to be given the next request. There is one."""

    def put(self, worker: Worker) -> None:
        """Note that a worker has room, after what it has in hand has changed."""

    def drop(self, worker: Worker) -> None:
        """Remove a worker, if it is there."""


class Workers:
    """The workers that have said READY, by their routing ids.

    Arguments:
        free: those of them that have room.
        most: how many there may be.
    """

    def __init__(self, free: Policy, most: int) -> None:
        self.known: dict[bytes, Worker] = {}
        self.free = free
        self.lapsed: OrderedDict[bytes, Worker] = OrderedDict()
        """Those that have answered nothing of what they have in time. They make room for new ones."""
        self._most = most

    def add(self, address: bytes, capacity: int) -> None:
        """Add a worker, which has room. It may not be known yet."""
        worker = self.known[address] = Worker(address, capacity)
        self.free.put(worker)

    def have_room(self) -> bool:
        """Return True if one more may be added. If necessary, the one that lapsed first is forgotten."""
        if len(self.known) >= self._most and self.lapsed:
            self.forget(next(iter(self.lapsed.values())))
        return len(self.known) < self._most

    def forget(self, worker: Worker) -> None:
        """Remove a worker."""
        del self.known[worker.address]
        self.lapsed.pop(worker.address, None)
        self.free.drop(worker)
