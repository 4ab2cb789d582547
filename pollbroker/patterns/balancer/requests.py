"""The requests that wait for a worker, and those that have a time limit."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pollbroker.patterns.balancer.buckets import Buckets

if TYPE_CHECKING:
    from pollbroker.patterns.balancer.workers import Worker


@dataclass(slots=True, eq=False)
class Request:
    """A request that waits for a worker, or that a worker has."""

    client: bytes
    frames: list[bytes] | None
    """The request as it came, the client first. None if a worker has it and it will not be given to another."""
    priority: int | None = None
    """None until it has to wait, for the first time."""
    again: bool = False
    """True if another worker had it first."""
    worker: "Worker | None" = None
    """Who has it; None while it waits."""
    key: bytes = b""
    """The frame that names the client to the worker."""
    due_s: float = 0.0
    """When its time limit is over, or its waiting."""
    over: bool = False
    """True if it was taken from its worker, in whose hand it stays until that has answered."""
    successor: "Request | None" = None
    """The same request, when it was taken from this worker so that another may have it."""
    waits: bool = False


class Deadlines:
    """Requests that have to be done with within the same time, the oldest first."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._requests: OrderedDict[Request, None] = OrderedDict()
        self.is_watched = False
        """True while a timer is set that will look for those that are due."""

    def add(self, request: Request, now_s: float) -> None:
        request.due_s = now_s + self._limit_s
        self._requests[request] = None

    def discard(self, request: Request) -> None:
        """Remove a request, if it is there."""
        self._requests.pop(request, None)

    def clear(self) -> None:
        self._requests.clear()

    def take_due(self, now_s: float) -> Iterator[Request]:
        """Remove and yield those whose time is over."""
        while self._requests:
            request = next(iter(self._requests))
            if request.due_s > now_s:
                return
            del self._requests[request]
            yield request

    def next_s(self, now_s: float) -> float | None:
        """In how many seconds the next one is due; None if there is none."""
        for request in self._requests:
            return max(0.0, request.due_s - now_s)
        return None


class WaitingRequests:
    """The requests that wait for a worker: those of the highest priority first, and of these the one that came first.

    Arguments:
        max_wait_s: how long one may wait, in seconds; None if as long as it takes.
    """

    def __init__(self, max_wait_s: float | None) -> None:
        self.requests: Buckets[Request] = Buckets()
        self.deadlines = None if max_wait_s is None else Deadlines(max_wait_s)

    def __len__(self) -> int:
        return self.requests.number

    def put(self, request: Request, now_s: float, *, first: bool = False) -> None:
        """Let a request wait, behind the others of its priority, or with `first` in front of them."""
        assert request.priority is not None
        self.requests.put(-request.priority, request, first=first)
        request.worker, request.waits = None, True
        if self.deadlines is not None:
            self.deadlines.add(request, now_s)

    def take(self) -> Request:
        """Remove and return the request that is to be given to a worker next."""
        request = self.requests.take()
        request.waits = False
        if self.deadlines is not None:
            self.deadlines.discard(request)
        return request

    def remove(self, request: Request) -> None:
        """Remove a request that needs no worker any more."""
        assert request.priority is not None
        self.requests.remove(-request.priority, request)
        request.waits = False
        if self.deadlines is not None:
            self.deadlines.discard(request)
