"""Titanic: a Majordomo broker that stores requests, for clients and workers that are not there at the same time.

It follows the Titanic Service Protocol (RFC 9). Its three services are built into the broker, as `mmi.service` is.
Rules:

- A client is told `200` when what it asked for was committed, and not before. So a request that was accepted survives
  the end of the process, however that comes.
- What comes within `commit_s` is committed at once, and then answered: a commit waits for the disk, and the disk allows
  only so many in a second.
- A stored request is given to a worker as any other, with its UUID as the client's address. Until its reply was
  committed it counts as not answered, and is given again after a restart: at least once.
- If the store fails, the changes that were not committed are taken back, and each client is told `500`.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

import zmq

from pollbroker.checks import SettingChecks
from pollbroker.device import Device
from pollbroker.errors import BehaviourError
from pollbroker.patterns.ages import LEAST_S
from pollbroker.patterns.majordomo.majordomo import Majordomo
from pollbroker.patterns.majordomo.mdp import PARTIAL, ClientRequest, Command, Version, is_service_name
from pollbroker.patterns.majordomo.services import Request, Worker
from pollbroker.patterns.titanic.frames import ERROR, OK, PENDING, REPLY, REQUEST, SERVICES, UNKNOWN, is_uuid
from pollbroker.patterns.titanic.lines import MOST_FOR_A_WORKER, Lines, StoredRequest
from pollbroker.patterns.titanic.sqlite import SqliteStore
from pollbroker.patterns.titanic.store import Store, Stored, StoreError

_COMMIT: Final = "commit"
_RETRY: Final = "retry"
_OLD: Final = "old"
"""The keys of the timers, beside the tick of Majordomo."""

_MOST_CHANGES: Final = 1000
"""So many changes are committed without waiting for `commit_s`. This bounds the answers that wait for a commit."""

_RETRY_S: Final = 1.0
"""How long a service waits after its stored requests could not be read or done. A request on which workers die costs no
more than one worker in this time."""

_OLD_MOST_S: Final = 60.0
"""Replies that nobody fetches are looked for as often as this, or more often if `keep_s` is short."""


class _Answer(NamedTuple):
    """What a client of the three services is told once the changes were committed."""

    port: str
    client: bytes
    version: Version
    service: bytes
    body: list[bytes]


class Titanic(Majordomo):
    """A broker of services that stores requests and replies (RFC 9; the ZeroMQ guide, chapter 4).

    Counters beside those of `Majordomo`: `stored` (requests), `replied` (replies that were stored), `forgotten`
    (replies that nobody has closed within `keep_s`), `put_back` (stored requests whose workers were lost; they are
    given again later), `store_failed` (errors of the store). `refused` has the requests beyond `max_stored`, too, and
    `malformed` those whose body is not as RFC 9 says.

    Arguments:
        path: the file of the SQLite database. It is made if it is not there. A second file, with `-wal` behind its
            name, belongs to it.
        max_stored: how many requests may be stored, with their replies or without one.
        keep_s: how long a reply is kept that no client closes, in seconds. None: for ever.
        commit_s: how long a change may wait for others to be committed with it, in seconds.
        heartbeat_s: how often a worker is sent a heartbeat if it is sent nothing else, in seconds. Workers should be
            set to the same.
        liveness: after how many heartbeats in which nothing was heard of it a worker is no longer known.
        give_again: give a request to another worker, once, if the one that had it is no longer known. It may have been
            carried out by the first one, too. A stored request is given again later in any case.
        request_expiry_s: how long a request that is not stored may wait for a worker, in seconds. None: for ever.
        reply_expiry_s: how long a worker may take with a request, in seconds. What it answers afterwards is dropped,
            and only then is it given another request. None: as long as it is heard of.
        max_requests: how many requests that are not stored may be held, which wait for a worker or are in its hands.
        max_workers: how many workers may be known. For each up to 16 stored requests are in memory.
        max_services: for how many names that no worker serves requests may wait.
    """

    def __init__(
        self,
        *,
        path: str = "titanic.db",
        max_stored: int = 100_000,
        keep_s: float | None = 604_800.0,
        commit_s: float = 0.001,
        heartbeat_s: float = 2.5,
        liveness: int = 3,
        give_again: bool = True,
        request_expiry_s: float | None = 60.0,
        reply_expiry_s: float | None = None,
        max_requests: int = 10_000,
        max_workers: int = 10_000,
        max_services: int = 1_000,
    ) -> None:
        super().__init__(
            heartbeat_s=heartbeat_s,
            liveness=liveness,
            give_again=give_again,
            request_expiry_s=request_expiry_s,
            reply_expiry_s=reply_expiry_s,
            max_requests=max_requests,
            max_workers=max_workers,
            max_services=max_services,
        )
        if not isinstance(path, str) or path in ("", ":memory:"):
            raise BehaviourError(f"Titanic: path is {path!r}: expected the path of a file")
        checks = SettingChecks("Titanic", BehaviourError)
        checks.whole(max_stored=max_stored)
        checks.seconds(least=LEAST_S, or_none=True, keep_s=keep_s)
        checks.seconds(zero=True, commit_s=commit_s)
        self.path = path
        self._max_stored = max_stored
        self._keep_s = keep_s
        self._commit_s = commit_s
        self.max_held = max_requests + _MOST_CHANGES
        self._lines = Lines(MOST_FOR_A_WORKER * max_workers)
        self._store: Store | None = None
        """None before the beginning, and after the end."""
        self._stored = 0
        """How many requests are stored."""
        self._growth = 0
        """How many more they are than were committed."""
        self._changes = 0
        """How many changes were not committed yet."""
        self._counts = Counter[str]()
        """What is to be added to the counters when they were."""
        self._answers: list[_Answer] = []
        """What is to be sent when they were."""
        self._grown: set[bytes] = set()
        """The services for which a request was stored that was not committed yet."""
        self._retry: set[bytes] = set()
        """The services whose stored requests are looked for again when the timer comes."""
        self._last_log_s = -math.inf

    def make_store(self) -> Store:
        """The place where requests are stored. A subclass may have another than the database at `path`."""
        return SqliteStore(self.path)

    @property
    def held(self) -> int:
        """What would be lost if the broker ended now. Stored requests are not, so that those in memory do not count."""
        return self._requests + len(self._answers)

    # -- what happens -------------------------------------------------------------------------------------------------

    def on_start(self) -> None:
        super().on_start()
        store = self.make_store()
        store.open()
        try:
            self._stored = store.count()
        except StoreError:
            store.close()
            raise
        self._store = store
        if self._keep_s is not None:
            self.set_timer(_OLD, 0.0)

    def on_timer(self, key: Hashable) -> None:
        if key == _COMMIT:
            self._commit()
        elif key == _RETRY:
            names, self._retry = self._retry, set()
            for name in names:
                self._lines.begin_again(name)
                self._load(name)
        elif key == _OLD:
            self._remove_old()
        else:
            super().on_timer(key)

    def on_stop(self) -> None:
        super().on_stop()
        self._grown.clear()  # no request is given to a worker any more
        self._commit()

    def on_end(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    # -- the three services -------------------------------------------------------------------------------------------

    def _is_built_in(self, service: bytes) -> bool:
        return service in SERVICES or super()._is_built_in(service)

    def _is_served(self, name: bytes) -> bool:
        return name in SERVICES or super()._is_served(name)

    def _serve_built_in(self, port: str, client: bytes, asked: ClientRequest) -> None:
        if asked.service not in SERVICES:
            super()._serve_built_in(port, client, asked)
            return
        if asked.service == REQUEST:
            body = self._take_to_store(asked.body)
        elif len(asked.body) != 1 or not is_uuid(asked.body[0]):
            self.count("malformed")
            body = [UNKNOWN]
        elif asked.service == REPLY:
            body = self._look_up(asked.body[0].lower())
        else:
            body = self._remove(asked.body[0].lower())
        answer = _Answer(port, client, asked.version, asked.service, body)
        if self._changes:
            self._answers.append(answer)  # it may tell of something that is not committed yet
            if len(self._answers) >= _MOST_CHANGES:
                self._commit()
        else:
            self._reply(*answer)

    def _take_to_store(self, body: Sequence[bytes]) -> list[bytes]:
        if len(body) < 2 or not is_service_name(body[0]) or self._is_built_in(body[0]):
            self.count("malformed")
            return [UNKNOWN]
        if self._stored >= self._max_stored:
            self.count("refused")
            return [ERROR]
        try:
            uuid = self._open_store().add(body[0], body[1:])
        except StoreError as error:
            self._take_back_changes(error)
            return [ERROR]
        self._grow(1)
        self._note_change("stored")
        self._grown.add(body[0])
        return [OK, uuid]

    def _look_up(self, uuid: bytes) -> list[bytes]:
        try:
            found = self._open_store().find(uuid)
        except StoreError as error:
            self._note_failure(error)
            return [ERROR]
        if found is None:
            return [UNKNOWN]
        return [PENDING] if found.reply is None else [OK, *found.reply]

    def _remove(self, uuid: bytes) -> list[bytes]:
        try:
            removed = self._open_store().remove(uuid)
        except StoreError as error:
            self._take_back_changes(error)
            return [ERROR]
        if removed:
            self._grow(-1)
            self._note_change()
            request = self._lines.get(uuid)
            if request is not None and self._services.is_waiting(request):
                self._lines.unload(request)
                self._services.take_out(request)
            elif request is not None:
                request.closed = True
        return [OK]

    # -- changes of the store -----------------------------------------------------------------------------------------

    def _open_store(self) -> Store:
        if self._store is None:
            raise StoreError("the broker has ended")
        return self._store

    def _grow(self, by: int) -> None:
        self._stored += by
        self._growth += by

    def _note_change(self, counter: str | None = None, by: int = 1) -> None:
        """Have a change committed, and then counted, if it has a counter."""
        if not self._changes:
            self.set_timer(_COMMIT, self._commit_s)
        self._changes += 1
        if counter is not None:
            self._counts[counter] += by

    def _commit(self) -> None:
        """Commit what was changed, and answer the clients that wait for it."""
        if not self._changes:
            return
        try:
            self._open_store().commit()
        except StoreError as error:
            self._take_back_changes(error)
            return
        self._changes = self._growth = 0
        counts, self._counts = self._counts, Counter()
        for counter, by in counts.items():
            self.count(counter, by)
        answers, self._answers = self._answers, []
        for answer in answers:
            self._reply(*answer)
        names, self._grown = self._grown, set()
        for name in names:
            self._lines.note_more(name)
            self._load(name)

    def _take_back_changes(self, error: StoreError) -> None:
        """A change has failed. All that were not committed are taken back, and those who wait for them are told so.
        Replies among them are asked for again."""
        self._note_failure(error)
        if self._store is not None:
            self._store.rollback()
        self._stored -= self._growth
        self._changes = self._growth = 0
        self._counts.clear()
        answers, self._answers = self._answers, []
        for answer in answers:
            self._reply(*answer._replace(body=[ERROR]))
        self._grown.clear()
        self._retry_later(*self._lines)

    def _note_failure(self, error: StoreError) -> None:
        self.count("store_failed")
        now_s = self.now_s
        if now_s - self._last_log_s >= _RETRY_S:
            self._last_log_s = now_s
            self.log.error("the store has failed: %s", error)

    def _remove_old(self) -> None:
        """Remove replies that nobody has fetched in time."""
        if self._keep_s is None or self._store is None:
            return
        again_s = min(_OLD_MOST_S, self._keep_s / 10)
        try:
            removed = self._store.remove_old(self._keep_s, _MOST_CHANGES)
        except StoreError as error:
            self._take_back_changes(error)
        else:
            if removed:
                self._grow(-removed)
                self._note_change("forgotten", removed)
            if removed == _MOST_CHANGES:
                again_s = self._commit_s  # there are more
        self.set_timer(_OLD, again_s)

    # -- stored requests, on their way to workers ---------------------------------------------------------------------

    def _be_free(self, worker: Worker) -> None:
        self._lines.begin(worker.service.name)
        self._load(worker.service.name)
        super()._be_free(worker)

    def _forget(self, worker: Worker) -> None:
        if isinstance(worker.request, StoredRequest) and worker.request.closed:
            self._drop(self._take_back(worker), "closed")
        super()._forget(worker)
        for request in self._lines.shrink(worker.service):
            self._services.take_out(request)

    def _load(self, name: bytes) -> None:
        """Read the next stored requests for a service, if there is room for them."""
        service = self._services.get(name)
        if self._store is None or service is None:
            return
        try:
            if not self._lines.load(service, self._store.pending, self._add_stored, self._pass_over):
                self._retry_later(name)
        except StoreError as error:
            self._note_failure(error)
            self._retry_later(name)

    def _add_stored(self, request: StoredRequest) -> None:
        self._services.add_request(self._services.served(request.service), request, self._tick)

    def _pass_over(self, stored: Stored) -> None:
        self._note_failure(StoreError(f"request number {stored.number} is damaged, and is passed over"))

    def _retry_later(self, *names: bytes) -> None:
        if names and not self._retry:
            self.set_timer(_RETRY, _RETRY_S)
        self._retry.update(names)

    def _answer(self, request: Request, command: Command, body: Sequence[bytes]) -> None:
        if not isinstance(request, StoredRequest):
            super()._answer(request, command, body)
        elif command is PARTIAL:
            self.count("partials_dropped")  # there is one reply in RFC 9
        else:
            self._lines.unload(request)
            self._put_reply(request, body)

    def _put_reply(self, request: StoredRequest, body: Sequence[bytes]) -> None:
        try:
            is_wanted = self._open_store().put_reply(request.client, body)
        except StoreError as error:
            self._take_back_changes(error)
            return
        if not is_wanted:
            self.count("late")  # a client has closed it meanwhile
            return
        self._note_change("replied")
        if self._changes >= _MOST_CHANGES:
            self._commit()

    def _drop(self, request: Request, why: str) -> None:
        if not isinstance(request, StoredRequest):
            super()._drop(request, why)
            return
        if not request.closed:
            self.count("put_back")
        self._lines.unload(request)
        self._retry_later(request.service)  # a close may be taken back


TITANIC: Final = Device(
    "titanic",
    ports={"frontend": zmq.ROUTER},
    behaviour=Titanic,
    options={"frontend": {"router_mandatory": 1}},
)
"""A MAJORDOMO that also stores requests and replies, until workers and clients come for them (one ROUTER; RFC 9)."""
