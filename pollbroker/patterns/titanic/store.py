"""What a Titanic broker needs of the place where it stores requests, and such a place in memory.

Changes belong to a transaction, which begins with the first of them. `commit` makes them last; until then they may be
taken back, all together. A request is only found by `pending` once it was committed.

Every method may raise `StoreError`. Whatever was not committed is then taken back by `rollback`. If a failure has lost
the changes already, every further change and `commit` raise `StoreError` until `rollback`.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from pollbroker.errors import PollbrokerError


class StoreError(PollbrokerError):
    """The place where requests are stored has failed: it is full, damaged, or out of reach."""


class DamagedError(StoreError):
    """What was stored cannot be read any more, now or later."""


class Stored(NamedTuple):
    """A request that was stored."""

    number: int
    """Grows from each request to the next."""
    uuid: bytes
    """32 hexadecimal digits."""
    body: list[bytes] | None
    """None if it is damaged."""


class Found(NamedTuple):
    """What is known of a UUID."""

    reply: list[bytes] | None
    """None as long as there is none."""


class Store(Protocol):
    """A place for requests and their replies."""

    def open(self) -> None:
        """Be ready for the other methods. Raises `BehaviourError` if that is not possible."""

    def close(self) -> None:
        """Give everything back. What was not committed is lost."""

    def count(self) -> int:
        """How many requests are stored, with a reply or without one."""

    def add(self, service: bytes, body: Sequence[bytes]) -> bytes:
        """Store a request. Returns its UUID."""

    def pending(self, service: bytes, after: int, limit: int) -> Sequence[Stored]:
        """The first requests for a service that have no reply.

        Arguments:
            after: the number of a request; only later ones are meant.
            limit: how many at most.
        """

    def find(self, uuid: bytes) -> Found | None:
        """What is known of a UUID; None if there is no such request."""

    def put_reply(self, uuid: bytes, body: Sequence[bytes]) -> bool:
        """Store the reply to a request. Returns False if there is no such request, or if it has a reply."""

    def remove(self, uuid: bytes) -> bool:
        """Remove a request and its reply. Returns False if there is no such request."""

    def remove_old(self, keep_s: float, limit: int) -> int:
        """Remove requests whose reply has been stored for so many seconds, but no more than `limit` of them. Returns
        how many there were."""

    def commit(self) -> None:
        """Make all changes last."""

    def rollback(self) -> None:
        """Take all changes back that were not committed. Does not raise."""


@dataclass(slots=True)
class _Row:
    number: int
    service: bytes
    body: list[bytes]
    reply: list[bytes] | None = None
    replied_s: float = 0.0


class MemoryStore:
    """A `Store` that forgets everything with its process: for tests and simulations.

    Arguments:
        clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._clock = clock
        self._rows: dict[bytes, _Row] = {}
        self._numbers = itertools.count(1)
        self._committed = 0
        self._undo: list[Callable[[], object]] = []
        """What takes back the changes of the transaction, the last one last."""

    def open(self) -> None:
        """See `Store`. What was committed is there again."""

    def close(self) -> None:
        """See `Store`."""
        self.rollback()

    def count(self) -> int:
        """See `Store`."""
        return len(self._rows)

    def add(self, service: bytes, body: Sequence[bytes]) -> bytes:
        """See `Store`."""
        number = next(self._numbers)
        uuid = b"%032x" % number
        self._rows[uuid] = _Row(number, service, list(body))
        self._undo.append(lambda: self._rows.pop(uuid, None))
        return uuid

    def pending(self, service: bytes, after: int, limit: int) -> Sequence[Stored]:
        """See `Store`."""
        return list(itertools.islice(self._pending(service, after), limit))

    def _pending(self, service: bytes, after: int) -> Iterable[Stored]:
        for uuid, row in sorted(self._rows.items(), key=lambda item: item[1].number):
            if row.service == service and after < row.number <= self._committed and row.reply is None:
                yield Stored(row.number, uuid, row.body)

    def find(self, uuid: bytes) -> Found | None:
        """See `Store`."""
        row = self._rows.get(uuid)
        return None if row is None else Found(row.reply)

    def put_reply(self, uuid: bytes, body: Sequence[bytes]) -> bool:
        """See `Store`."""
        row = self._rows.get(uuid)
        if row is None or row.reply is not None:
            return False
        row.reply, row.replied_s = list(body), self._clock()
        self._undo.append(lambda: setattr(row, "reply", None))
        return True

    def remove(self, uuid: bytes) -> bool:
        """See `Store`."""
        row = self._rows.pop(uuid, None)
        if row is None:
            return False
        self._undo.append(lambda: self._rows.update({uuid: row}))
        return True

    def remove_old(self, keep_s: float, limit: int) -> int:
        """See `Store`."""
        since_s = self._clock() - keep_s
        old = [uuid for uuid, row in self._rows.items() if row.reply is not None and row.replied_s <= since_s]
        return sum(self.remove(uuid) for uuid in old[:limit])

    def commit(self) -> None:
        """See `Store`."""
        self._undo.clear()
        self._committed = max((row.number for row in self._rows.values()), default=self._committed)

    def rollback(self) -> None:
        """See `Store`."""
        while self._undo:
            self._undo.pop()()
