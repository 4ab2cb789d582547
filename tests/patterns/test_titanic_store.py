"""Where requests are stored: in memory and in a database alike; and what only a database has to do."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollbroker import BehaviourError
from pollbroker.patterns.titanic.frames import is_uuid
from pollbroker.patterns.titanic.sqlite import SqliteStore, pack, unpack
from pollbroker.patterns.titanic.store import DamagedError, Found, MemoryStore, Store, StoreError
from tests.support.processes import run_apart

NOBODY = b"0" * 32


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "titanic.db")


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, path: str) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(path)
    made.open()
    yield made
    made.close()


# -- every store -------------------------------------------------------------------------------------------------------


def test_request_is_found_and_has_a_reply_in_the_end(store: Store) -> None:
    uuid = store.add(b"echo", [b"a", b""])
    assert is_uuid(uuid)
    assert store.find(uuid) == Found(None)
    assert store.find(NOBODY) is None
    store.commit()
    assert [(one.uuid, one.body) for one in store.pending(b"echo", 0, 10)] == [(uuid, [b"a", b""])]
    assert store.put_reply(uuid, [b"", b"b"]) is True
    assert store.put_reply(uuid, [b"another"]) is False
    assert store.put_reply(NOBODY, [b"x"]) is False
    assert store.find(uuid) == Found([b"", b"b"])
    assert store.pending(b"echo", 0, 10) == []
    assert store.count() == 1
    assert store.remove(uuid) is True
    assert store.remove(uuid) is False
    assert store.find(uuid) is None
    assert store.count() == 0


def test_requests_are_pending_in_order_once_they_were_committed(store: Store) -> None:
    uuids = [store.add(b"echo", [b"%d" % number]) for number in range(5)]
    other = store.add(b"other", [b"x"])
    assert store.pending(b"echo", 0, 10) == []
    store.commit()
    uncommitted = store.add(b"echo", [b"late"])
    first = store.pending(b"echo", 0, 3)
    rest = store.pending(b"echo", first[-1].number, 10)
    assert [one.uuid for one in (*first, *rest)] == uuids
    assert [one.uuid for one in store.pending(b"other", 0, 10)] == [other]
    store.commit()
    assert store.pending(b"echo", rest[-1].number, 10)[0].uuid == uncommitted


def test_number_of_a_request_that_was_removed_does_not_come_again(store: Store) -> None:
    first = store.add(b"echo", [b"x"])
    store.commit()
    (read,) = store.pending(b"echo", 0, 10)
    store.remove(first)
    store.commit()
    second = store.add(b"echo", [b"y"])
    store.commit()
    assert [one.uuid for one in store.pending(b"echo", read.number, 10)] == [second]


def test_changes_that_were_not_committed_are_taken_back_together(store: Store) -> None:
    kept, answered = store.add(b"echo", [b"x"]), store.add(b"echo", [b"y"])
    store.commit()
    store.rollback()
    added = store.add(b"echo", [b"z"])
    store.remove(kept)
    store.put_reply(answered, [b"reply"])
    store.rollback()
    assert store.find(added) is None
    assert (store.find(kept), store.find(answered)) == (Found(None), Found(None))
    assert [one.uuid for one in store.pending(b"echo", 0, 10)] == [kept, answered]


def test_only_old_replies_are_removed_and_no_more_than_the_limit(store: Store) -> None:
    uuids = [store.add(b"echo", [b"x"]) for _ in range(4)]
    for uuid in uuids[:3]:
        store.put_reply(uuid, [b"y"])
    assert store.remove_old(3600.0, 10) == 0
    assert store.remove_old(-1.0, 2) == 2
    assert store.remove_old(-1.0, 2) == 1
    assert [store.find(uuid) for uuid in uuids] == [None, None, None, Found(None)]


# -- the database ------------------------------------------------------------------------------------------------------


def test_import_of_pollbroker_does_not_load_the_database() -> None:
    assert run_apart("import sys, pollbroker.patterns.titanic.titanic; print('sqlite3' in sys.modules)") == "False\n"


@given(st.lists(st.binary(), min_size=1))
def test_message_as_one_value_is_the_same_message(frames: list[bytes]) -> None:
    assert unpack(pack(frames)) == frames


@settings(max_examples=50)
@given(st.binary(max_size=40))
def test_damaged_message_is_an_error_or_a_message(packed: bytes) -> None:
    """What was not made by `pack` never becomes something else in silence."""
    try:
        frames = unpack(packed)
    except StoreError:
        return
    assert pack(frames) == packed


def test_what_was_committed_is_in_the_file(path: str) -> None:
    store = SqliteStore(path)
    store.open()
    done, pending = store.add(b"echo", [b"1"]), store.add(b"echo", [b"2"])
    store.put_reply(done, [b"reply"])
    store.commit()
    lost = store.add(b"echo", [b"3"])
    store.close()
    store = SqliteStore(path)
    store.open()
    assert (store.find(done), store.find(pending), store.find(lost)) == (Found([b"reply"]), Found(None), None)
    assert [one.uuid for one in store.pending(b"echo", 0, 10)] == [pending]
    more = store.add(b"echo", [b"4"])
    store.commit()
    assert [one.uuid for one in store.pending(b"echo", 0, 10)] == [pending, more]
    store.close()


def test_damaged_requests_are_told_from_the_others(path: str) -> None:
    store = SqliteStore(path)
    store.open()
    bodies = [[b"%02d" % number * 400] for number in range(20)]
    uuids = [store.add(b"echo", body) for body in bodies]
    store.commit()
    assert store._connection is not None
    (page,) = store._connection.execute("PRAGMA page_size").fetchone()
    store.close()
    data = bytearray(Path(path).read_bytes())
    begin = data.index(bodies[10][0]) // page * page
    data[begin : begin + page] = bytes(range(256)) * (page // 256)
    Path(path).write_bytes(data)
    store.open()
    read = store.pending(b"echo", 0, 100)
    assert [one.number for one in read] == list(range(1, 21))
    whole = [one for one in read if one.body is not None]
    assert len(whole) in range(12, 20)  # a few of them are in one page
    assert all((one.uuid, one.body) == (uuids[one.number - 1], bodies[one.number - 1]) for one in whole)
    store.close()


def test_request_that_cannot_be_read_for_now_is_not_taken_for_damaged(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = SqliteStore(path)
    store.open()
    store.add(b"echo", [b"x"])
    store.commit()
    results: list[Any] = [DamagedError("a page"), [(1,)], StoreError("the disk is away")]

    def fetch(statement: str, *values: object) -> Any:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    monkeypatch.setattr(store, "_fetch", fetch)
    with pytest.raises(StoreError, match="the disk is away"):
        store.pending(b"echo", 0, 10)
    store.close()


def test_each_commit_waits_for_the_disk(path: str) -> None:
    store = SqliteStore(path)
    store.open()
    assert store._connection is not None
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_second_broker_is_refused(path: str) -> None:
    first, second = SqliteStore(path), SqliteStore(path)
    first.open()
    with pytest.raises(BehaviourError, match=r"^Titanic: path is '.*titanic\.db': another broker uses it$"):
        second.open()
    first.close()
    second.open()
    second.close()


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda path: path.write_bytes(b"garbage " * 1000), "file is not a database"),
        (lambda path: path.mkdir(), "unable to open database file"),
        (lambda path: make_other_database(path), "it is another kind of database; expected that of a Titanic broker"),
    ],
)
def test_file_that_is_not_a_database_of_titanic_is_refused_and_not_changed(
    tmp_path: Path, make: "object", expected: str
) -> None:
    path = tmp_path / "file"
    assert callable(make)
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(BehaviourError, match=f"Titanic: path is '{path}': {expected}"):
        SqliteStore(str(path)).open()
    assert (path.read_bytes() if path.is_file() else b"") == before


def make_other_database(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE mine(x)")
    connection.commit()
    connection.close()


def test_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "no" / "titanic.db")
    with pytest.raises(
        BehaviourError, match=f"Titanic: path is '{path}': expected a file in a directory that is there"
    ):
        SqliteStore(path).open()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(BehaviourError, match="unable to open database file"):
            SqliteStore(str(tmp_path / "titanic.db")).open()
    finally:
        tmp_path.chmod(0o700)


def test_full_database_fails_and_goes_on_when_there_is_room(path: str) -> None:
    store = SqliteStore(path)
    store.open()
    assert store._connection is not None
    kept = store.add(b"echo", [b"x"])
    store.commit()
    store._connection.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StoreError, match="database or disk is full"):
        store.add(b"echo", [bytes(1_000_000)])
    store.rollback()
    assert store.count() == 1
    store._connection.execute("PRAGMA max_page_count = 1000000")
    store.add(b"echo", [bytes(1_000_000)])
    store.commit()
    assert store.count() == 2
    assert store.find(kept) == Found(None)
    store.close()


@pytest.mark.parametrize("change", ["add", "put_reply", "remove", "remove_old", "commit"])
def test_changes_that_the_database_itself_has_taken_back_are_not_committed(path: str, change: str) -> None:
    store = SqliteStore(path)
    store.open()
    assert store._connection is not None
    kept = store.add(b"echo", [b"x"])
    store.commit()
    lost = store.add(b"echo", [b"y"])
    store._connection.execute("ROLLBACK")  # stands for what SQLite does when a statement finds the disk full or broken
    changes = {
        "add": lambda: store.add(b"echo", [b"z"]),
        "put_reply": lambda: store.put_reply(kept, [b"reply"]),
        "remove": lambda: store.remove(kept),
        "remove_old": lambda: store.remove_old(3600.0, 10),
        "commit": store.commit,
    }
    for _ in range(2):
        with pytest.raises(StoreError, match="the changes were taken back after an error"):
            changes[change]()
    assert (store.find(kept), store.find(lost)) == (Found(None), None)
    store.rollback()
    added = store.add(b"echo", [b"z"])
    store.commit()
    assert [one.uuid for one in store.pending(b"echo", 0, 10)] == [kept, added]
    store.close()


def test_database_without_changes_commits_nothing_and_does_not_fail(path: str) -> None:
    store = SqliteStore(path)
    store.open()
    store.add(b"echo", [b"x"])
    store.close()
    store.open()
    store.commit()
    assert store.count() == 0
    store.close()


class _Connection:
    """A connection at which the first times nothing can be taken back."""

    def __init__(self, connection: Any, times: int) -> None:
        self._connection = connection
        self._times = times

    def execute(self, statement: str, *values: Any) -> Any:
        if statement == "ROLLBACK" and self._times:
            self._times -= 1
            raise MemoryError if self._times else sqlite3.OperationalError("no")
        return self._connection.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def test_changes_that_cannot_be_taken_back_are_not_committed_later(path: str) -> None:
    store = SqliteStore(path)
    store.open()
    lost = store.add(b"echo", [b"x"])
    store._connection = _Connection(store._connection, 2)  # type: ignore[assignment]
    store.rollback()
    with pytest.raises(StoreError, match="cannot be taken back"):
        store.commit()
    kept = store.add(b"echo", [b"y"])
    store.commit()
    assert (store.find(lost), store.find(kept)) == (None, Found(None))
    store.close()


def test_database_that_has_no_memory_is_an_error_of_the_store(path: str) -> None:
    class Forgetful:
        in_transaction = False

        def execute(self, *_: object) -> None:
            raise MemoryError

        def close(self) -> None:
            pass

    store = SqliteStore(path)
    store._connection = Forgetful()  # type: ignore[assignment]
    with pytest.raises(StoreError, match="out of memory"):
        store.add(b"echo", [b"x"])
    with pytest.raises(StoreError, match="out of memory"):
        store.count()
    store.close()


@pytest.mark.parametrize(("page", "expected"), [(1, BehaviourError), (2, StoreError)])
def test_damaged_file_is_an_error(path: str, page: int, expected: type[Exception]) -> None:
    store = SqliteStore(path)
    store.open()
    for _ in range(100):
        uuid = store.add(b"echo", [bytes(1000)])
    store.commit()
    store.close()
    with Path(path).open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xff" * 4096)
    if expected is BehaviourError:
        with pytest.raises(BehaviourError, match="malformed"):
            store.open()
        return
    store.open()
    with pytest.raises(StoreError, match="malformed"):
        store.find(uuid)
    with pytest.raises(StoreError, match="malformed"):
        store.add(b"echo", [b"x"])
    store.rollback()
    store.close()


def test_store_that_was_closed_is_an_error(path: str) -> None:
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="the database is closed"):
        store.count()
    store.open()
    store.close()
    store.close()
    store.rollback()
    with pytest.raises(StoreError, match="the database is closed"):
        store.commit()
