"""The services of a Majordomo broker: which worker is given which request.

Rules:

- While a request waits for a service, no worker of it is free.
- A name that has neither a worker nor a request that waits is forgotten, so that names which nobody serves do not add
  up.
- A worker is free from the time at which it has answered. Requests go to the one that has been free for longest.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from pollbroker.patterns.ages import Ages
from pollbroker.patterns.majordomo.mdp import Version


@dataclass(slots=True, eq=False)
class Request:
    """A client's request, until it is answered or dropped."""

    expires: ClassVar[bool] = True
    """False if it may wait for a worker for ever."""

    port: str
    """Where the client is."""
    client: bytes
    """Its routing id there. A worker is given it as the client's address."""
    version: Version
    """What the client speaks."""
    service: bytes
    body: list[bytes]
    given: int = 0
    """How many workers were given it."""


@dataclass(slots=True, eq=False)
class Worker:
    """A worker that is registered."""

    port: str
    routing_id: bytes
    version: Version
    service: "Service"
    busy: bool = False
    """True from the time at which it is given a request until it has answered."""
    client: bytes = b""
    """The address that its answer has to have, while it is busy."""
    request: Request | None = None
    """What it works at. None if nobody waits for the answer any more."""


@dataclass(slots=True, eq=False)
class Service:
    """The workers of one name, and the requests for it."""

    name: bytes
    workers: int = 0
    """How many workers are registered, free or busy."""
    free: OrderedDict[Worker, None] = field(default_factory=OrderedDict)
    """Those that have been free for longest come first."""
    waiting: OrderedDict[Request, None] = field(default_factory=OrderedDict)
    """The requests that wait for a worker, in the order in which they are given."""


class Services:
    """The services by name, and who is given what.

    Arguments:
        max_unserved: how many names without a worker may be known because of requests that wait.
        give: gives a worker a request.
    """

    def __init__(self, max_unserved: int, give: Callable[[Worker, Request], None]) -> None:
        self._max_unserved = max_unserved
        self._give = give
        self._services: dict[bytes, Service] = {}
        self._expiring: Ages[Request] = Ages()
        """The requests that wait and may expire."""
        self.unserved = 0
        """How many of the names have no worker."""

    def __len__(self) -> int:
        return len(self._services)

    @property
    def expiring(self) -> int:
        """How many requests wait that may expire, of all services."""
        return len(self._expiring)

    def get(self, name: bytes) -> Service | None:
        """The service of this name, if it has a worker or a request that waits."""
        return self._services.get(name)

    def served(self, name: bytes) -> Service:
        """The service of this name, which has a worker."""
        return self._services[name]

    def is_waiting(self, request: Request) -> bool:
        """Return True if this request waits for a worker."""
        service = self._services.get(request.service)
        return service is not None and request in service.waiting

    # -- requests -----------------------------------------------------------------------------------------------------

    def add_unserved(self, name: bytes) -> Service | None:
        """A service that nobody serves yet, for a request that is then added. None if there are too many already."""
        if self.unserved >= self._max_unserved:
            return None
        self.unserved += 1
        service = self._services[name] = Service(name)
        return service

    def add_request(self, service: Service, request: Request, tick: int, *, first: bool = False) -> None:
        """Give a request to the worker that has been free for longest, or let it wait for one.

        Arguments:
            first: it waits before all others, and not behind them.
        """
        if service.free:
            self._give(service.free.popitem(last=False)[0], request)
            return
        service.waiting[request] = None
        if first:
            service.waiting.move_to_end(request, last=False)
        if request.expires:
            self._expiring.touch(request, tick)

    def take_until(self, tick: int) -> Iterator[Request]:
        """Take out, one after the other, the requests that may expire and have waited since this tick, or for
        longer."""
        for request in self._expiring.take_until(tick):
            self._take_out(request)
            yield request

    def take_out(self, request: Request) -> None:
        """Take out a request that waits."""
        self._expiring.forget(request)
        self._take_out(request)

    def _take_out(self, request: Request) -> None:
        service = self._services[request.service]
        del service.waiting[request]
        self._forget_if_empty(service)

    # -- workers ------------------------------------------------------------------------------------------------------

    def add_worker(self, name: bytes) -> Service:
        """The service of this name, with one worker more. It is not free yet."""
        service = self._services.get(name)
        if service is None:
            service = self._services[name] = Service(name)
        elif not service.workers:
            self.unserved -= 1
        service.workers += 1
        return service

    def be_free(self, worker: Worker) -> None:
        """Give a worker the request whose turn it is, or let it wait for one."""
        service = worker.service
        if service.waiting:
            request = service.waiting.popitem(last=False)[0]
            self._expiring.forget(request)
            self._give(worker, request)
        else:
            service.free[worker] = None

    def pass_over(self, worker: Worker) -> None:
        """Give a worker nothing any more: it is about to be removed."""
        worker.service.free.pop(worker, None)

    def remove_worker(self, worker: Worker) -> None:
        """The service of a worker has one worker less."""
        self.pass_over(worker)
        service = worker.service
        service.workers -= 1
        if not service.workers:
            self.unserved += 1
            self._forget_if_empty(service)

    def _forget_if_empty(self, service: Service) -> None:
        if not service.workers and not service.waiting:
            self.unserved -= 1
            del self._services[service.name]
