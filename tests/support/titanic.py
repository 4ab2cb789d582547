"""A Titanic broker with a store in memory that a test can let fail, and its clients."""

from collections.abc import Callable, Sequence
from typing import Any

from pollbroker.patterns.majordomo.mdp import Version, client_reply
from pollbroker.patterns.titanic import frames as titanic_frames
from pollbroker.patterns.titanic.store import Found, MemoryStore, Store, Stored, StoreError
from pollbroker.patterns.titanic.titanic import Titanic
from pollbroker.testing import Send
from tests.support.mdp_peers import Peers


class FailingStore(MemoryStore):
    """A store in memory of which the methods named in `failing` fail. If `loses_changes` is set, a failure takes back
    what was not committed, as SQLite does by itself if the disk fails."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__(clock)
        self.failing: set[str] = set()
        self.loses_changes = False
        self.damaged: set[bytes] = set()
        """The UUIDs of requests that cannot be read."""
        self.reads = 0
        self.lost = False
        """True from the time at which a failure has taken changes back until `rollback`."""

    def _fail(self, method: str) -> None:
        if method in self.failing:
            if self.loses_changes and self._undo:
                super().rollback()
                self.lost = True
            raise StoreError(f"{method} fails")

    def _fail_change(self, method: str) -> None:
        self._fail(method)
        if self.lost:
            raise StoreError("the changes were lost")

    def add(self, service: bytes, body: Sequence[bytes]) -> bytes:
        self._fail_change("add")
        return super().add(service, body)

    def pending(self, service: bytes, after: int, limit: int) -> Sequence[Stored]:
        self._fail("pending")
        self.reads += 1
        found = super().pending(service, after, limit)
        return [one._replace(body=None) if one.uuid in self.damaged else one for one in found]

    def find(self, uuid: bytes) -> Found | None:
        self._fail("find")
        return super().find(uuid)

    def put_reply(self, uuid: bytes, body: Sequence[bytes]) -> bool:
        self._fail_change("put_reply")
        return super().put_reply(uuid, body)

    def remove(self, uuid: bytes) -> bool:
        self._fail_change("remove")
        return super().remove(uuid)

    def remove_old(self, keep_s: float, limit: int) -> int:
        self._fail_change("remove_old")
        return super().remove_old(keep_s, limit)

    def commit(self) -> None:
        self._fail_change("commit")
        super().commit()

    def rollback(self) -> None:
        self.lost = False
        super().rollback()


class TitanicInMemory(Titanic):
    """A Titanic whose store is handed in."""

    def __init__(self, store: Store, **settings: Any) -> None:
        super().__init__(**settings)
        self.given_store = store

    def make_store(self) -> Store:
        return self.given_store


class TitanicPeers(Peers):
    """Peers who also use the three services. What is committed later is asked for by `tell`."""

    def store(self, client: bytes, service: bytes, *body: bytes, version: Version = 1) -> list[Send]:
        asked = titanic_frames.request_body(service, body or [b"question"])
        return self.ask(client, titanic_frames.REQUEST, *asked, version=version)

    def fetch(self, client: bytes, uuid: bytes) -> list[Send]:
        return self.ask(client, titanic_frames.REPLY, uuid)

    def close(self, client: bytes, uuid: bytes) -> list[Send]:
        return self.ask(client, titanic_frames.CLOSE, uuid)

    def commit(self) -> list[Send]:
        """Let the time pass after which changes are committed."""
        return self.driver.advance(0.001)

    def told(self, client: bytes, service: bytes, *body: bytes) -> Send:
        return Send(self.clients_at, [client, *client_reply(service, body)])

    def stored(self, client: bytes, service: bytes, *body: bytes) -> bytes:
        """Store a request, and return its UUID."""
        assert self.store(client, service, *body) == []
        (told, *_) = self.commit()
        assert told == self.told(client, titanic_frames.REQUEST, b"200", told.frames[-1])
        return told.frames[-1]
