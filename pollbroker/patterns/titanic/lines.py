"""Which stored requests of a Titanic broker are in memory: for each service with workers a few, the next ones in line.

All others stay in the store. So the memory depends on how many workers there are, and not on how many requests are
stored, and a worker that has answered need not wait for the store.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, TypeAlias

from pollbroker.patterns.majordomo.services import Request, Service
from pollbroker.patterns.titanic.store import Stored

_FOR_EACH_WORKER: Final = 2
_FOR_EACH_SERVICE: Final = 14
"""Of each service as many are in memory as these two say, so that the store is read for several at a time."""

MOST_FOR_A_WORKER: Final = _FOR_EACH_WORKER + _FOR_EACH_SERVICE
"""All that are in memory are no more than that for each worker."""

Pending: TypeAlias = Callable[[bytes, int, int], Sequence[Stored]]
"""See `Store.pending`."""


@dataclass(slots=True, eq=False)
class StoredRequest(Request):
    """A request that is stored. Its client is its UUID, at no port."""

    expires: ClassVar[bool] = False

    number: int = field(kw_only=True)
    """See `Stored.number`."""
    closed: bool = False
    """True if its client has closed it while a worker had it."""


@dataclass(slots=True, eq=False)
class _Line:
    """The stored requests of one service that has workers."""

    after: int = 0
    """The number of a request. Those with greater ones are still to be read from the store, but for some that are in
    memory."""
    exhausted: bool = False
    """True if there are none to be read."""
    requests: dict[bytes, StoredRequest] = field(default_factory=dict)
    """Those in memory by their UUIDs, in the order in which they were read. They wait, or are in the hands of
    workers."""


class Lines:
    """The lines of all services that have workers.

    Arguments:
        most: how many requests may be in memory, of all services.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lines: dict[bytes, _Line] = {}
        self._loaded: dict[bytes, StoredRequest] = {}

    def __len__(self) -> int:
        """How many requests are in memory."""
        return len(self._loaded)

    def __iter__(self) -> Iterator[bytes]:
        """The names of the services."""
        return iter(self._lines)

    def get(self, uuid: bytes) -> StoredRequest | None:
        """A request, if it is in memory."""
        return self._loaded.get(uuid)

    def begin(self, name: bytes) -> None:
        """There is a line for a service, if there was none."""
        if name not in self._lines:
            self._lines[name] = _Line()

    def note_more(self, name: bytes) -> None:
        """There are more requests in the store than there were."""
        line = self._lines.get(name)
        if line is not None:
            line.exhausted = False

    def begin_again(self, name: bytes) -> None:
        """Read a service's requests from the first one on. Those in memory are passed over."""
        line = self._lines.get(name)
        if line is not None:
            line.after = 0
            line.exhausted = False

    def load(
        self,
        service: Service,
        pending: Pending,
        add: Callable[[StoredRequest], None],
        pass_over: Callable[[Stored], object],
    ) -> bool:
        """Read the next requests of a service, if there is room for several. Returns False if there was none because of
        other services.

        Arguments:
            pending: reads the store. Whatever it raises is raised here.
            add: is called with each request.
            pass_over: is called with each one that cannot be read.
        """
        line = self._lines.get(service.name)
        if line is None or line.exhausted:
            return True
        most, number = _most_for(service), len(line.requests)
        if 2 * number > most:
            return True
        wanted = most - number
        room = min(wanted, self._most - len(self._loaded))
        while room > 0 and not line.exhausted:
            read = pending(service.name, line.after, room)
            line.exhausted = len(read) < room
            for stored in read:
                number, uuid, body = stored
                line.after = number
                if body is None:
                    pass_over(stored)
                elif uuid not in line.requests:
                    request = StoredRequest("", uuid, 1, service.name, body, number=number)
                    line.requests[uuid] = self._loaded[uuid] = request
                    add(request)
                    room -= 1
                    wanted -= 1
        return line.exhausted or wanted == 0

    def unload(self, request: StoredRequest) -> None:
        """A request is in memory no more."""
        del self._loaded[request.client]
        del self._lines[request.service].requests[request.client]

    def shrink(self, service: Service) -> list[StoredRequest]:
        """The service has fewer workers. The requests that are too many for them are in memory no more, and returned;
        they all were waiting, and are read again in their turn. Without workers there is no line."""
        line = self._lines[service.name]
        most = _most_for(service)
        surplus: list[StoredRequest] = []
        for request in reversed(line.requests.values()):
            if len(line.requests) - len(surplus) <= most or request not in service.waiting:
                break
            surplus.append(request)
        for request in surplus:
            self.unload(request)
            line.after = min(line.after, request.number - 1)
            line.exhausted = False
        if not service.workers:
            del self._lines[service.name]
        return surplus


def _most_for(service: Service) -> int:
    return _FOR_EACH_WORKER * service.workers + _FOR_EACH_SERVICE if service.workers else 0
