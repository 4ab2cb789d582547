"""The server of RFC 12/CHP without sockets."""

import pytest

from pollbroker import Clone
from pollbroker.patterns.clone import snapshots
from pollbroker.patterns.clone.chp import HUGZ, ICANHAZ, KTHXBAI, as_frame
from pollbroker.patterns.clone.snapshots import PORTION, REQUESTS_OF_A_CLIENT, RETRY_S
from pollbroker.testing import Driver, Send, drive
from tests.patterns.turns import turn
from tests.support.accounts import balanced

PORTS = ("snapshot", "publisher", "collector")
UUID = bytes(range(16))
NONE = bytes(8)


def serve(behaviour: Clone | None = None, **entries: bytes) -> Driver:
    """A server whose map has these entries; `a_b="1"` is at `/a/b`."""
    server = drive(behaviour or Clone(hugz_s=1000.0), PORTS)
    for name, value in entries.items():
        put(server, b"/" + name.replace("_", "/").encode(), value)
    return server


def put(server: Driver, key: bytes, value: bytes, properties: bytes = b"") -> list[Send]:
    return server.message("collector", key, NONE, UUID, properties, value)


def snapshot(server: Driver, subtree: bytes = b"", client: bytes = b"client") -> list[list[bytes]]:
    """What a client is sent that asks for a snapshot, without its routing id."""
    assert server.message("snapshot", client, ICANHAZ, subtree) == []
    sends = server.advance(0)
    assert {(send.port, send.frames[0]) for send in sends} == {("snapshot", client)}
    assert balanced(server.account)
    return [frames[1:] for _, frames in sends]


def kvsync(key: bytes, number: int, value: bytes) -> list[bytes]:
    return [key, as_frame(number), b"", b"", value]


def kthxbai(number: int, subtree: bytes = b"") -> list[bytes]:
    return [KTHXBAI, as_frame(number), b"", b"", subtree]


# -- updates -----------------------------------------------------------------------------------------------------------


def test_update_is_published_with_the_next_number() -> None:
    server = serve()
    assert put(server, b"a", b"1", b"x=y\n") == [Send("publisher", [b"a", as_frame(1), UUID, b"x=y\n", b"1"])]
    assert server.message("collector", b"b", as_frame(99), b"", b"", b"2") == [
        Send("publisher", [b"b", as_frame(2), b"", b"", b"2"])
    ]
    assert snapshot(server) == [kvsync(b"a", 2, b"1"), kvsync(b"b", 2, b"2"), kthxbai(2)]
    account = server.account
    assert (account.received, account.sent, account.added, account.filtered) == (3, 5, 2, 0)
    assert server.counters == {"updates": 2, "snapshots": 1}


def test_empty_value_deletes_the_key_and_is_published_in_any_case() -> None:
    server = serve(a=b"1")
    assert put(server, b"/a", b"") == [Send("publisher", [b"/a", as_frame(2), UUID, b"", b""])]
    assert put(server, b"/a", b"") == [Send("publisher", [b"/a", as_frame(3), UUID, b"", b""])]
    assert snapshot(server) == [kthxbai(3)]


def test_update_without_room_is_refused_and_not_published() -> None:
    server = serve(Clone(max_keys=1), a=b"1")
    assert put(server, b"b", b"1") == []
    assert put(server, b"/a", b"2") == [Send("publisher", [b"/a", as_frame(2), UUID, b"", b"2"])]
    assert server.counters == {"updates": 2, "refused": 1}
    assert server.account.filtered == 1


def test_numbers_begin_where_they_are_told_to() -> None:
    server = serve(Clone(first_number=1000))
    assert snapshot(server) == [kthxbai(1000)]
    assert put(server, b"a", b"1")[0].frames[1] == as_frame(1001)


@pytest.mark.parametrize(
    ("port", "frames"),
    [
        ("collector", [b"x"]),
        ("collector", [b"k", NONE, UUID, b"ttl=soon\n", b"v"]),
        ("collector", [KTHXBAI, NONE, UUID, b"", b"v"]),
        ("snapshot", [b"client"]),
        ("snapshot", [b"client", ICANHAZ]),
        ("snapshot", [b"client", b"", ICANHAZ, b""]),
        ("snapshot", [b"client", b"ICANHAZ", b""]),
        ("snapshot", [b"client", ICANHAZ, bytes(4097)]),
    ],
)
def test_garbage_is_counted(port: str, frames: list[bytes]) -> None:
    server = serve()
    assert server.message(port, *frames) == []
    assert server.advance(1) == []
    assert server.counters == {"malformed": 1}
    assert server.account.filtered == 1


# -- times to live -----------------------------------------------------------------------------------------------------


def test_entry_expires_when_its_time_to_live_is_over() -> None:
    server = serve()
    put(server, b"a", b"1", b"ttl=5\n")
    put(server, b"b", b"1", b"ttl=2.5\n")
    put(server, b"c", b"1", b"ttl=0\n")
    assert server.advance(2.4) == []
    assert server.advance(0.1) == [Send("publisher", [b"b", as_frame(4), b"", b"", b""])]
    assert server.advance(100) == [Send("publisher", [b"a", as_frame(5), b"", b"", b""])]
    assert snapshot(server) == [kvsync(b"c", 5, b"1"), kthxbai(5)]
    assert server.counters["expired"] == 2
    assert balanced(server.account)


@pytest.mark.parametrize("properties", [b"", b"ttl=10\n"])
def test_time_to_live_is_that_of_the_last_update(properties: bytes) -> None:
    server = serve()
    put(server, b"a", b"1", b"ttl=5\n")
    server.advance(1)
    put(server, b"a", b"2", properties)
    assert server.advance(9.9) == []
    assert len(server.advance(0.1)) == (properties != b"")


def test_entry_that_was_deleted_does_not_expire() -> None:
    server = serve()
    put(server, b"a", b"1", b"ttl=5\n")
    put(server, b"a", b"")
    assert server.advance(10) == []


def test_many_entries_that_expire_at_once_are_deleted_in_portions() -> None:
    server = serve()
    for number in range(PORTION + 10):
        put(server, b"%d" % number, b"1", b"ttl=1\n")
    server._now_s = 1.0
    assert [len(turn(server)) for _ in range(3)] == [PORTION, 10, 0]


# -- snapshots ---------------------------------------------------------------------------------------------------------


def test_snapshot_of_a_subtree_has_its_keys_alone() -> None:
    server = serve(a=b"1", b_x=b"2", b_y=b"3", bc=b"4")
    assert snapshot(server, b"/b/") == [kvsync(b"/b/x", 4, b"2"), kvsync(b"/b/y", 4, b"3"), kthxbai(4, b"/b/")]
    assert snapshot(server, b"/nothing/") == [kthxbai(4, b"/nothing/")]


def test_large_snapshots_take_turns_and_updates_go_on_meanwhile() -> None:
    server = serve()
    keys = [b"%04d" % number for number in range(PORTION + 10)]
    for key in keys:
        put(server, key, b"1")
    for client in (b"x", b"y"):
        server.message("snapshot", client, ICANHAZ, b"")
    assert server.account.held == 2
    turns = [turn(server) for _ in range(2)]
    assert [{send.frames[0] for send in sends} for sends in turns] == [{b"x"}, {b"y"}]
    assert put(server, keys[0], b"2")[0].frames[1] == as_frame(PORTION + 11)
    assert put(server, keys[-1], b"2")[0].frames[1] == as_frame(PORTION + 12)
    assert put(server, keys[-2], b"")[0].frames[1] == as_frame(PORTION + 13)
    rest = turn(server)
    assert [send.frames[1:] for send in rest] == [
        kvsync(key, PORTION + 10, b"2" if key == keys[-1] else b"1") for key in (*keys[PORTION:-2], keys[-1])
    ]
    assert len(turn(server)) == 9
    assert [send.frames for send in turn(server)] == [[b"x", *kthxbai(PORTION + 10)]]
    assert [send.frames for send in turn(server)] == [[b"y", *kthxbai(PORTION + 10)]]
    assert turn(server) == []
    assert server.account.held == 0
    assert balanced(server.account)


def test_portion_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "PORTION_BYTES", 20)
    server = serve(a=bytes(10), b=bytes(10), c=bytes(10), d=bytes(10), e=bytes(10))
    server.message("snapshot", b"x", ICANHAZ, b"")
    assert [len(turn(server)) for _ in range(5)] == [2, 2, 1, 1, 0]


def test_snapshots_of_one_client_are_sent_one_after_the_other() -> None:
    server = serve(a=b"1", b=b"1")
    for subtree in (b"/a", b"/b", b"/a"):
        server.message("snapshot", b"x", ICANHAZ, subtree)
    keys = [send.frames[1] for send in server.advance(0)]
    assert keys == [b"/a", KTHXBAI, b"/b", KTHXBAI, b"/a", KTHXBAI]


def test_client_may_ask_for_ten_snapshots_at_a_time() -> None:
    server = serve()
    for _ in range(REQUESTS_OF_A_CLIENT + 1):
        server.message("snapshot", b"x", ICANHAZ, b"")
    assert len(server.advance(0)) == REQUESTS_OF_A_CLIENT
    assert server.counters == {"refused": 1, "snapshots": REQUESTS_OF_A_CLIENT}
    assert balanced(server.account)


def test_no_more_requests_are_read_than_snapshots_may_be_on_the_way() -> None:
    server = serve(Clone(max_snapshots=2))
    server.message("snapshot", b"x", ICANHAZ, b"")
    assert server.is_open("snapshot")
    server.message("snapshot", b"y", ICANHAZ, b"")
    assert not server.is_open("snapshot")
    turn(server)
    turn(server)
    assert len(turn(server)) == 1
    assert server.is_open("snapshot")


# -- clients that are slow, and clients that are gone ------------------------------------------------------------------


def test_what_a_slow_client_was_not_sent_is_sent_again() -> None:
    server = serve(a=b"1", b=b"2")
    server.message("snapshot", b"x", ICANHAZ, b"")
    server.leave("snapshot", b"x")
    assert server.advance(1) == []
    put(server, b"/b", b"3")
    put(server, b"/a", b"")
    server.come_back("snapshot", b"x")
    assert [send.frames[1:] for send in server.advance(1)] == [kvsync(b"/b", 2, b"3"), kthxbai(2)]
    assert server.account.held == 0
    assert balanced(server.account)


# KTHXBAI may reach a client whose queue was full before, and then it would miss what was dropped.
def test_snapshot_does_not_end_before_everything_was_sent() -> None:
    server = serve(a=b"1", b=b"2")
    server.message("snapshot", b"x", ICANHAZ, b"")
    server.leave("snapshot", b"x")
    assert turn(server) == []
    server.come_back("snapshot", b"x")
    assert turn(server) == []
    assert [send.frames[1] for send in server.advance(1)] == [b"/a", b"/b", KTHXBAI]


def test_kthxbai_that_was_dropped_is_sent_again() -> None:
    server = serve(Clone(max_snapshots=1), a=b"1")
    server.message("snapshot", b"x", ICANHAZ, b"")
    assert len(turn(server)) == 1
    server.leave("snapshot", b"x")
    assert turn(server) == []
    assert server.account.held == 1
    assert not server.is_open("snapshot")
    assert server.counters["snapshots"] == 0
    server.come_back("snapshot", b"x")
    assert [send.frames[1:] for send in server.advance(RETRY_S)] == [kthxbai(1)]
    assert server.counters["snapshots"] == 1
    assert server.is_open("snapshot")
    assert balanced(server.account)


@pytest.mark.parametrize("turns", [0, 1])
def test_client_that_takes_nothing_is_given_up(turns: int) -> None:
    server = serve(Clone(hugz_s=1000, stalled_s=2.0, max_snapshots=3), a=b"1", b=b"1")
    for _ in range(3):
        server.message("snapshot", b"x", ICANHAZ, b"")
    assert not server.is_open("snapshot")
    for _ in range(turns):
        turn(server)
    server.leave("snapshot", b"x")
    assert server.advance(1.9) == []
    assert server.account.held == 3
    assert server.account.unroutable < 2 / RETRY_S + 3  # one message each time is enough to find out
    server.advance(0.2)
    assert server.account.held == 0
    assert server.counters["abandoned"] == 3
    assert server.is_open("snapshot")
    server.come_back("snapshot", b"x")
    assert len(snapshot(server, client=b"x")) == 3
    assert balanced(server.account)


def test_client_that_takes_something_now_and_then_is_not_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "PORTION", 1)
    server = serve(Clone(hugz_s=1000, stalled_s=2.0), a=b"1", b=b"1", c=b"1", d=b"1")
    server.message("snapshot", b"x", ICANHAZ, b"")
    for key in (b"/a", b"/b", b"/c", b"/d", KTHXBAI):
        while not (came := turn(server)):
            server._now_s += RETRY_S
        assert [send.frames[1] for send in came] == [key]
        server.leave("snapshot", b"x")
        assert server.advance(1.8) == []
        server.come_back("snapshot", b"x")
    assert server.counters == {"updates": 4, "snapshots": 1}


def test_other_clients_are_served_while_one_takes_nothing() -> None:
    server = serve(a=b"1")
    server.message("snapshot", b"gone", ICANHAZ, b"")
    server.leave("snapshot", b"gone")
    server.advance(0)
    assert len(snapshot(server)) == 2


# With `slow_peer="wait"` a ROUTER refuses what is for a client that is full.
def test_message_that_the_port_refuses_is_sent_again() -> None:
    server = serve(a=b"1", b=b"1")
    server.message("snapshot", b"x", ICANHAZ, b"")
    server.fill("snapshot")
    assert server.advance(1) == []
    assert put(server, b"/c", b"1") != []
    assert server.empty("snapshot") == []
    assert [send.frames[1] for send in server.advance(RETRY_S)] == [b"/a", b"/b", b"/c", KTHXBAI]
    assert balanced(server.account)


# -- heartbeats --------------------------------------------------------------------------------------------------------


def test_heartbeat_is_published_at_regular_intervals() -> None:
    server = serve(Clone(hugz_s=0.5))
    hugz = Send("publisher", [HUGZ, NONE, b"", b"", b""])
    assert server.advance(0.4) == []
    put(server, b"a", b"1")  # a client that follows another subtree does not see it
    assert server.advance(1.2) == [hugz] * 3
    assert server.account.added == 3
    assert balanced(server.account)
