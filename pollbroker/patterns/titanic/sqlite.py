"""Requests and replies in an SQLite database: what was committed survives the end of the process and of the machine.

- The journal is a write-ahead log, and each commit waits until the disk has it (`synchronous=FULL`).
- One broker has the database to itself (`locking_mode=EXCLUSIVE`). The lock ends with the process, however that ends.
- The frames of a message are one value: for each frame its length, in eight bytes, and the frame.

`sqlite3` is imported when a database is opened, so that `import pollbroker` does not load it.
"""

import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from pollbroker.errors import BehaviourError
from pollbroker.patterns.titanic.store import DamagedError, Found, Store, Stored, StoreError

if TYPE_CHECKING:
    import sqlite3

_APPLICATION: Final = 0x50425453
"""What says in the file that it is a database of ours ("PBTS")."""

_VERSION: Final = 1

_SCHEMA: Final = f"""
CREATE TABLE requests(
    number INTEGER PRIMARY KEY,
    uuid BLOB NOT NULL UNIQUE,
    service BLOB NOT NULL,
    body BLOB NOT NULL,
    reply BLOB,
    replied_s REAL
);
CREATE INDEX pending ON requests(service, number) WHERE reply IS NULL;
CREATE INDEX replied ON requests(replied_s) WHERE reply IS NOT NULL;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_VERSION};
"""

_PENDING: Final = (
    "FROM requests WHERE service = ? AND number > ? AND number <= ? AND reply IS NULL ORDER BY number LIMIT ?"
)
"""What the table has of requests for a service that wait for a reply."""

_LENGTH: Final = struct.Struct("<Q")


def pack(frames: Sequence[bytes]) -> bytes:
    """A message as one value."""
    return b"".join(part for frame in frames for part in (_LENGTH.pack(len(frame)), frame))


def unpack(packed: bytes) -> list[bytes]:
    """The message that `pack` made a value of. Raises `DamagedError` if there is no such message."""
    frames = []
    at = 0
    while at < len(packed):
        if len(packed) - at < _LENGTH.size:
            raise DamagedError("a stored message is damaged")
        begin = at + _LENGTH.size
        at = begin + _LENGTH.unpack_from(packed, at)[0]
        frames.append(packed[begin:at])
    if at != len(packed):
        raise DamagedError("a stored message is damaged")
    return frames


class SqliteStore(Store):
    """A `Store` in the file `path`. It is made if it is not there."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._next = 1
        self._committed = 0
        """The greatest number of a request that was committed."""
        self._changing = False
        """True while changes are neither committed nor taken back."""
        self._is_to_roll_back = False
        """True if changes could not be taken back yet."""

    def open(self) -> None:
        """See `Store`. Raises `BehaviourError` if the file cannot be used, is another kind of file, or is used by a
        broker that is at work."""
        import sqlite3

        if not Path(self._path).parent.is_dir():
            raise BehaviourError(f"Titanic: path is {self._path!r}: expected a file in a directory that is there")
        try:
            connection = sqlite3.connect(self._path, timeout=0.0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise BehaviourError(f"Titanic: path is {self._path!r}: {error}") from error
        try:
            self._prepare(connection)
            last = connection.execute("SELECT max(number) FROM requests").fetchone()[0] or 0
        except sqlite3.Error as error:
            connection.close()
            why = "another broker uses it" if "locked" in str(error) else str(error)
            raise BehaviourError(f"Titanic: path is {self._path!r}: {why}") from error
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        self._committed, self._next = last, last + 1

    def _prepare(self, connection: "sqlite3.Connection") -> None:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        is_new = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not is_new and (application, version) != (_APPLICATION, _VERSION):
            raise BehaviourError(
                f"Titanic: path is {self._path!r}: it is another kind of database; expected that of a Titanic broker "
                f"(version {_VERSION}), or no file"
            )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")  # takes the lock, and fails if nothing can be written
        for statement in _SCHEMA.split(";") if is_new else ():
            connection.execute(statement)
        connection.execute("COMMIT")

    def close(self) -> None:
        """See `Store`."""
        connection, self._connection = self._connection, None
        self._changing = self._is_to_roll_back = False
        if connection is not None:
            connection.close()

    def count(self) -> int:
        """See `Store`."""
        return int(self._fetch("SELECT count(*) FROM requests")[0][0])

    def add(self, service: bytes, body: Sequence[bytes]) -> bytes:
        """See `Store`."""
        name = uuid4().hex.encode()
        self._change(
            "INSERT INTO requests(number, uuid, service, body) VALUES(?, ?, ?, ?)",
            self._next,
            name,
            service,
            pack(body),
        )
        self._next += 1
        return name

    def pending(self, service: bytes, after: int, limit: int) -> Sequence[Stored]:
        """See `Store`."""
        bounds = (service, after, self._committed, limit)
        try:
            rows = self._fetch(f"SELECT number, uuid, body {_PENDING}", *bounds)
            return [Stored(number, name, unpack(body)) for number, name, body in rows]
        except DamagedError:  # the others can be read, as a rule: their numbers are in an index, which is elsewhere
            numbers = self._fetch(f"SELECT number {_PENDING}", *bounds)
            return [self._stored(number) for (number,) in numbers]

    def _stored(self, number: int) -> Stored:
        try:
            ((name, body),) = self._fetch("SELECT uuid, body FROM requests WHERE number = ?", number)
            return Stored(number, name, unpack(body))
        except (DamagedError, ValueError):  # there is no such row, though the index has it
            return Stored(number, b"", None)

    def find(self, uuid: bytes) -> Found | None:
        """See `Store`."""
        rows = self._fetch("SELECT reply FROM requests WHERE uuid = ?", uuid)
        if not rows:
            return None
        reply = rows[0][0]
        return Found(None if reply is None else unpack(reply))

    def put_reply(self, uuid: bytes, body: Sequence[bytes]) -> bool:
        """See `Store`. The time is that of the machine's clock, since it has to last longer than a process."""
        return bool(
            self._change(
                "UPDATE requests SET reply = ?, replied_s = ? WHERE uuid = ? AND reply IS NULL",
                pack(body),
                time.time(),
                uuid,
            )
        )

    def remove(self, uuid: bytes) -> bool:
        """See `Store`."""
        return bool(self._change("DELETE FROM requests WHERE uuid = ?", uuid))

    def remove_old(self, keep_s: float, limit: int) -> int:
        """See `Store`."""
        return self._change(
            "DELETE FROM requests WHERE number IN "
            "(SELECT number FROM requests WHERE reply IS NOT NULL AND replied_s <= ? ORDER BY replied_s LIMIT ?)",
            time.time() - keep_s,
            limit,
        )

    def commit(self) -> None:
        """See `Store`."""
        with self._errors() as connection:
            self._check_changes(connection)
            if connection.in_transaction:
                connection.execute("COMMIT")
        self._changing = False
        self._committed = self._next - 1

    def rollback(self) -> None:
        """See `Store`."""
        self._changing = False
        self._is_to_roll_back = not self._take_back()

    def _take_back(self) -> bool:
        """Take back what is not committed. Return False if that fails; it is tried again before the next change."""
        import sqlite3

        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except (sqlite3.Error, MemoryError):
                return False
        return True

    def _fetch(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._errors() as connection:
            return connection.execute(statement, values).fetchall()

    def _change(self, statement: str, *values: Any) -> int:
        with self._errors() as connection:
            self._check_changes(connection)
            if not connection.in_transaction:
                connection.execute("BEGIN IMMEDIATE")
                self._changing = True
            return connection.execute(statement, values).rowcount

    def _check_changes(self, connection: "sqlite3.Connection") -> None:
        """SQLite takes the whole transaction back by itself if a statement, even one that only reads, finds the disk
        full or broken or has no memory. Raises `StoreError` if it has, or if what is to be taken back cannot be."""
        if self._is_to_roll_back:
            self._is_to_roll_back = not self._take_back()
            if self._is_to_roll_back:
                raise StoreError(f"{self._path}: changes that have failed cannot be taken back")
        if self._changing and not connection.in_transaction:
            raise StoreError(f"{self._path}: the changes were taken back after an error")

    @contextmanager
    def _errors(self) -> "Iterator[sqlite3.Connection]":
        import sqlite3

        if self._connection is None:
            raise StoreError(f"{self._path}: the database is closed")
        try:
            yield self._connection
        except (sqlite3.Error, OverflowError) as error:
            damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT
            raise (DamagedError if damaged else StoreError)(f"{self._path}: {error}") from error
        except MemoryError as error:
            raise StoreError(f"{self._path}: out of memory") from error
