"""Brokers that are taken over from a side that is mistaken, dies, or changes its mind: one side serves them then."""

import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Broker, Engine, EngineError, HandOverError
from pollbroker.handing_over import arriving, leaving, moving
from pollbroker.handing_over.channel import CLAIM, HELLO, OFFER, STATE, TAKEN, Channel, Ended
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.descriptors import descriptors, opened_since
from tests.support.threads import in_thread
from tests.support.types import Connect
from tests.support.wire_ports import in_engine
from tests.wire.moving import Leave, Side, check_refused, hand_over_and_close, socket_pair


def state_of(engine: Engine, leave: Leave) -> bytes:
    side, future = leave()
    side.claim("a")
    state = side.receive_state()
    side._channel.refuse("it was only looked at")
    check_refused(future, "only looked at")
    return state


def adopt(new: Engine, play: Callable[[Side], object], device: Any = STREAMER) -> None:
    """Adopt `a` from a side that the test plays."""
    with socket_pair() as (ours, theirs):
        side = Side(ours)
        playing = in_thread(lambda: play(side))
        try:
            with new.adopt(theirs, timeout_s=DEADLINE_S):
                new.add("a", device, frontend=ANY_PORT, backend=ANY_PORT)
        finally:
            playing.result(DEADLINE_S)
            side.close()


OFFERED = {
    "name": "a",
    "device": "streamer",
    "ports": [
        {"name": name, "type": kind, "asked_for": [f"@{ANY_PORT}"], "endpoints": []}
        for name, kind in (("frontend", "PULL"), ("backend", "PUSH"))
    ],
    "routes": ["frontend -> backend"],
}


def offer(side: Side) -> None:
    side.receive(HELLO)
    side.tell(OFFER, version=1, brokers=[OFFERED])
    side.receive(CLAIM)


@pytest.mark.parametrize(
    ("state", "match"),
    [
        (b"", "STATE is cut"),
        (b"\xff" * 8, "STATE is cut"),
        (struct.pack("<Q", 2) + b"{}", r"STATE\.brokers: None: expected list"),
        (struct.pack("<Q", 14) + b'{"brokers":[]}', "it is not about the brokers that were claimed"),
        (struct.pack("<Q", 14) + b'{"brokers":[]}x', "STATE has 1 bytes behind its end"),
    ],
)
def test_state_that_is_malformed_is_refused(new: Engine, state: bytes, match: str) -> None:
    def play(side: Side) -> None:
        offer(side)
        side.send(STATE, state)
        assert side.refusal()

    with pytest.raises(HandOverError, match=match):
        adopt(new, play)
    assert not new.brokers


def test_version_that_cannot_be_read_is_refused(new: Engine) -> None:
    def play(side: Side) -> None:
        side.receive(HELLO)
        side.tell(OFFER, version=2, brokers=[])
        assert side.refusal()

    with pytest.raises(HandOverError, match=r"OFFER\.version: 2: this process cannot read it"):
        adopt(new, play)


def test_descriptors_are_missing(new: Engine, engine: Engine, leave: Leave) -> None:
    state = state_of(engine, leave)

    def play(side: Side) -> None:
        offer(side)
        side.send(STATE, state)
        assert "descriptors are missing" in side.refusal()

    with pytest.raises(HandOverError, match="descriptors are missing"):
        adopt(new, play)
    assert not new.brokers


def test_descriptors_that_belong_to_nothing_are_closed(new: Engine) -> None:
    new.add("first", STREAMER, frontend=ANY_PORT, backend=ANY_PORT).remove()  # it opens what the engine has once
    before = descriptors()

    def play(side: Side) -> None:
        offer(side)
        with socket_pair() as pair:
            side._channel.send_descriptors([one.fileno() for one in pair] * 300, deadline_s=float("inf"))
            side.send(STATE, struct.pack("<Q", 14) + b'{"brokers":[]}')
            assert side.refusal()

    with pytest.raises(HandOverError, match="not about the brokers"):
        adopt(new, play)
    wait_until(lambda: not opened_since(before))


def test_old_process_dies_before_commit(
    engine: Engine, new: Engine, monkeypatch: pytest.MonkeyPatch, leave: Leave
) -> None:
    def play(side: Side) -> None:
        offer(side)
        side.socket.shutdown(socket.SHUT_RDWR)

    with pytest.raises(Ended, match="has closed its end, or has died"):
        adopt(new, play)
    assert not new.brokers


class _Dead(Exception):
    """The old process has died."""


@pytest.mark.parametrize("says_so", [False, True], ids=["dies", "changes its mind"])
def test_old_side_is_gone_when_the_new_one_says_taken(
    engine: Engine, new: Engine, connect: Connect, leave: Leave, says_so: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it has died nobody else serves, so that the new one does. If it has changed its mind, it serves."""
    broker = engine.add("b", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    push.send(b"1")
    assert pull.recv() == b"1"
    receive = Channel.receive

    def receiving(self: Channel, *kinds: int, deadline_s: float) -> tuple[int, bytes]:
        if kinds == (TAKEN,):
            assert not self.was_taken()
            if says_so:
                raise HandOverError("another mind")
            raise _Dead  # without a word: see below
        return receive(self, *kinds, deadline_s=deadline_s)

    refuse = Channel.refuse
    monkeypatch.setattr(Channel, "receive", receiving)
    monkeypatch.setattr(Channel, "refuse", lambda self, reason: None if reason == "" else refuse(self, reason))
    if not says_so:  # what a process does that dies: it touches nothing any more
        monkeypatch.setattr(leaving.Departure, "_decide", lambda self: False)
    send_now = Channel.send_now

    def sending(self: Channel, kind: int) -> None:
        wait_until(gone.done)
        send_now(self, kind)

    monkeypatch.setattr(Channel, "send_now", sending)
    with socket_pair() as (ours, theirs):
        gone = in_thread(lambda: hand_over_and_close(engine, ours, {"brokers": ["b"]}))
        adopted = in_thread(lambda: _adopt_b(new, theirs))
        if says_so:
            with pytest.raises(HandOverError, match="another mind"):
                adopted.result(DEADLINE_S)
        else:
            adopted.result(DEADLINE_S)
        with pytest.raises(HandOverError if says_so else _Dead):
            gone.result(DEADLINE_S)
    push.send(b"2")
    assert pull.recv() == b"2"
    assert flow_of(engine if says_so else new, "b").sent == 2
    assert set(new.brokers) == (set() if says_so else {"b"})
    if not says_so:
        monkeypatch.undo()
        in_engine(engine, lambda: moving.let_go(_working(broker), engine._table))


def test_new_side_touches_no_connection_after_it_was_refused(
    engine: Engine, new: Engine, connect: Connect, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had made the connections its own by then, and its loop makes turns. The old one serves."""
    broker = engine.add("b", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    producer = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    pull = connect(zmq.PULL, endpoint(broker.backend))
    producer.send_message(b"1")
    assert pull.recv() == b"1"

    def disagree(self: arriving.Adoption) -> None:
        producer.send_message(b"2")
        raise HandOverError("it took too long")

    refuse = Channel.refuse

    def refuse_later(self: Channel, reason: str) -> None:
        for _ in range(3):
            in_engine(new, lambda: None)
        refuse(self, reason)

    monkeypatch.setattr(arriving.Adoption, "_agree", disagree)
    monkeypatch.setattr(Channel, "refuse", refuse_later)
    with socket_pair() as (ours, theirs):
        gone = in_thread(lambda: hand_over_and_close(engine, ours, {"brokers": ["b"]}))
        with pytest.raises(HandOverError, match="it took too long"):
            _adopt_b(new, theirs)
        check_refused(gone, "it took too long")
    assert pull.recv() == b"2"
    assert flow_of(engine, "b").sent == 2


def _adopt_b(new: Engine, theirs: socket.socket) -> None:
    with new.adopt(theirs):
        new.add("b", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)


def _working(broker: Broker) -> Any:
    from pollbroker.broker import working_broker

    return working_broker(broker)


def test_two_adoptions_at_the_same_time_are_refused(engine: Engine, new: Engine, relayed: Callable[[], None]) -> None:
    with socket_pair() as (ours, theirs), socket_pair() as (ours_2, theirs_2):
        first = in_thread(partial(engine.hand_over, ours))
        second = in_thread(partial(engine.hand_over, ours_2))
        with new.adopt(theirs) as adoption:
            assert adoption.offered == ("a",)
            with pytest.raises(EngineError, match="takes over brokers already"):
                new.adopt(theirs_2).__enter__()
        assert first.result(DEADLINE_S).moved == ()
        check_refused(second, "takes over brokers already")


def test_broker_that_was_removed_in_the_block(engine: Engine, new: Engine, relayed: Callable[[], None]) -> None:
    with socket_pair() as (ours, theirs):
        future = in_thread(partial(engine.hand_over, ours, freeze_s=DEADLINE_S))
        with (
            pytest.raises(HandOverError, match=r"brokers\.a: it is removed; it was to be taken over"),
            new.adopt(theirs),
        ):
            new.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT).remove()
        check_refused(future, "it is removed")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, None])
def test_socket_of_another_kind_is_refused(engine: Engine, kind: int | None) -> None:
    if kind is None:
        with socket.socket() as tcp, pytest.raises(HandOverError, match="expected a connected socket of the family"):
            engine.hand_over(tcp)
        with socket.socket(socket.AF_UNIX) as alone, pytest.raises(HandOverError, match="it is not connected"):
            engine.adopt(alone)
        return
    with socket_pair(kind) as (ours, _), pytest.raises(HandOverError, match="expected a socket of the type"):
        engine.hand_over(ours)


def test_socket_may_be_closed_after_the_call_has_begun(
    engine: Engine, new: Engine, relayed: Callable[[], None]
) -> None:
    with socket_pair() as (ours, theirs):
        future = in_thread(partial(engine.hand_over, ours, freeze_s=DEADLINE_S))
        with new.adopt(theirs) as adoption:
            ours.close()
            theirs.close()
        assert adoption.moved == ()
        assert future.result(DEADLINE_S).moved == ()
