"""Hand overs that come to nothing, whatever the other side does: the brokers stay where they are, and go on."""

import socket
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, Broker, BrokerState, Engine, EngineError, HandOverError
from pollbroker.handing_over import arriving, leaving, moving
from pollbroker.handing_over.channel import (
    CLAIM,
    COMMIT,
    HELLO,
    MAGIC,
    OFFER,
    READY,
    STATE,
    TAKEN,
    Channel,
    Ended,
    Refused,
)
from tests.support.accounts import flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.descriptors import descriptors, opened_since
from tests.support.threads import in_thread
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import in_engine, peer_count
from tests.wire.moving import Side, socket_pair
from tests.wire.zmtp import command, message


@pytest.fixture
def relayed(engine: Engine, connect: Connect) -> Iterator[Callable[[], None]]:
    """A streamer `a` in the engine, and a function that checks that it does what it should, and has lost nothing. That
    is checked at the end of each test, too."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    count = 0

    def check() -> None:
        nonlocal count
        for _ in range(3):
            push.send(b"%d" % count)
            assert pull.recv() == b"%d" % count
            count += 1
        assert flow_of(engine, "a").sent == count

    check()
    yield check
    check()
    assert engine.brokers["a"].state is BrokerState.RUNNING


@pytest.fixture
def leave(engine: Engine, relayed: object) -> Iterator[Callable[..., tuple[Side, "Future[Any]"]]]:
    """Begins to hand `a` over to a side that the test plays."""
    sides: list[Side] = []

    def begin(**options: Any) -> tuple[Side, "Future[Any]"]:
        ours, theirs = socket.socketpair()
        with ours:
            kept = ours.dup()
        side = Side(theirs)
        sides.append(side)
        future = in_thread(lambda: _hand_over_and_close(engine, kept, options))
        return side, future

    yield begin
    for side in sides:
        side.close()


def _hand_over_and_close(engine: Engine, ours: socket.socket, options: dict[str, Any]) -> object:
    with ours:
        return engine.hand_over(ours, **({"freeze_s": DEADLINE_S} | options))


Leave = Callable[..., tuple[Side, "Future[Any]"]]


def check_refused(future: "Future[Any]", match: str) -> None:
    with pytest.raises(HandOverError, match=match):
        future.result(DEADLINE_S)


# -- the old side ------------------------------------------------------------------------------------------------------


def test_versions_that_do_not_agree(leave: Leave) -> None:
    side, future = leave()
    side.tell(HELLO, versions=[7, 8])
    reason = "no version suits both: this process can write 1, the other can read 7, 8"
    assert side.refusal() == reason
    check_refused(future, reason)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", r"the other process does not hand over brokers: it says b'GET / HTTP/1\.1"),
        (MAGIC + bytes([99]) + bytes(8), "does not hand over brokers"),
        (MAGIC + bytes([CLAIM]) + bytes(8), "the other process says CLAIM; expected HELLO"),
        (MAGIC + bytes([HELLO]) + bytes(8), "HELLO is not JSON"),
        (MAGIC + bytes([HELLO]) + struct.pack("<Q", 2) + b"[]", "HELLO is not an object"),
        (MAGIC + bytes([HELLO]) + struct.pack("<Q", 2) + b"{}", r"HELLO\.versions: None: expected list"),
        (MAGIC + bytes([HELLO]) + struct.pack("<Q", 1 << 60), "the other process says HELLO of 1152921504606846976"),
        (MAGIC + bytes([HELLO]) + struct.pack("<Q", 200_000) + b"[" * 200_000, "HELLO is not JSON"),
    ],
)
def test_garbage_is_refused(leave: Leave, said: bytes, match: str) -> None:
    side, future = leave()
    side.socket.sendall(said)
    check_refused(future, match)
    assert side.refusal()


def test_claim_of_what_was_not_offered(leave: Leave) -> None:
    side, future = leave()
    side.claim("b")
    assert side.refusal() == "CLAIM: 'b': it was not offered, or is claimed twice"
    check_refused(future, "it was not offered")


def test_broker_that_is_claimed_twice(leave: Leave) -> None:
    side, future = leave()
    side.claim("a", "a")
    check_refused(future, "it was not offered, or is claimed twice")


def test_nothing_is_claimed(leave: Leave, engine: Engine) -> None:
    side, future = leave()
    side.claim()
    result = future.result(DEADLINE_S)
    assert (result.moved, result.left) == ((), {"a": "the other process has not added it"})


def test_other_process_says_nothing(leave: Leave) -> None:
    _, future = leave(timeout_s=0.05)
    check_refused(future, "the other process did not say what it should in time")


@pytest.mark.parametrize("last", [STATE, READY, COMMIT])
def test_other_process_stops_while_the_connections_rest(leave: Leave, relayed: Callable[[], None], last: int) -> None:
    side, future = leave(freeze_s=0.3)
    side.claim("a")
    side.receive_state()
    if last != STATE:
        side.send(READY)
    if last == COMMIT:
        side.receive(COMMIT)
    check_refused(future, "the other process did not say what it should in time")
    relayed()
    if last == READY:
        side.receive(COMMIT)
    if last != STATE:  # it comes too late
        with pytest.raises(Refused, match="did not say what it should in time"):
            side.send(TAKEN)
    else:
        assert "in time" in side.refusal()


def test_other_process_refuses_the_state(leave: Leave, relayed: Callable[[], None]) -> None:
    side, future = leave()
    side.claim("a")
    side.receive_state()
    side._channel.refuse("no room")
    check_refused(future, "no room")


def test_state_that_nobody_reads_is_given_up(leave: Leave, engine: Engine, raw: Any) -> None:
    """It is larger than what the kernel keeps for a process that does not read."""
    broker = engine.add("b", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    sender = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    wait_until(lambda: peer_count(engine, broker) == 1)
    sender.send(message(bytes(2_000_000))[:-1])
    wait_until(lambda: broker.peers()[0].silent_s < 0.05)
    side, future = leave(brokers=["b"], freeze_s=0.1)
    side.claim("b")
    check_refused(future, "in time")
    pull = raw(endpoint(broker.backend)).shake_hands("PULL")
    sender.send(b"\0")
    assert pull.read_message() == [bytes(2_000_000)]


def test_broker_that_is_handed_over_cannot_be_steered(
    leave: Leave, engine: Engine, relayed: Callable[[], None]
) -> None:
    side, future = leave()
    side.claim("a")
    side.receive_state()
    broker = engine.brokers["a"]
    assert broker.state is BrokerState.HANDING_OVER
    for call in (broker.pause, broker.resume):
        with pytest.raises(EngineError, match="it is handing_over"):
            call()
    assert not broker.drain(0)
    assert broker.statistics().state == "handing_over"
    assert len(broker.peers()) == 2
    side.socket.shutdown(socket.SHUT_RDWR)
    check_refused(future, "has died")


def test_other_brokers_go_on_while_one_is_handed_over(leave: Leave, engine: Engine, connect: Connect) -> None:
    other = engine.add("b", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = connect(zmq.PUSH, endpoint(other.frontend)), connect(zmq.PULL, endpoint(other.backend))
    side, future = leave()
    side.claim("a")
    side.receive_state()
    for number in range(10):
        push.send(b"%d" % number)
        assert pull.recv() == b"%d" % number
    side._channel.refuse("enough")
    check_refused(future, "enough")


def test_what_happens_while_the_connections_rest_is_not_missed(
    leave: Leave, engine: Engine, connect: Connect, raw: Any
) -> None:
    """Input, new connections and their ends are found when the broker goes on."""
    broker = engine.add("b", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    leaver = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    talker = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    pull = connect(zmq.PULL, endpoint(broker.backend))
    wait_until(lambda: peer_count(engine, broker) == 2)
    side, future = leave(brokers=["b"])
    side.claim("b")
    side.receive_state()
    leaver.close()
    talker.send_message(b"said meanwhile")
    newcomer = connect(zmq.PUSH, endpoint(broker.frontend))
    newcomer.send(b"from the newcomer")
    assert not pull.poll(20)
    side._channel.refuse("enough")
    check_refused(future, "enough")
    assert {pull.recv(), pull.recv()} == {b"said meanwhile", b"from the newcomer"}
    wait_until(lambda: peer_count(engine, broker) == 2)


def test_heartbeats_rest_with_the_connections(leave: Leave, engine: Engine, raw: Any) -> None:
    broker = engine.add(
        "h", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, frontend_options={"heartbeat_ivl": 20, "handshake_ivl": 40}
    )
    peer = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    half = raw(endpoint(broker.frontend))
    wait_until(lambda: peer_count(engine, broker) == 1)
    side, future = leave(brokers=["h"], freeze_s=0.2)
    side.claim("h")
    side.receive_state()
    check_refused(future, "in time")
    half.read_to_the_end()  # its deadline has passed meanwhile
    peer.read_to_the_end()
    wait_until(lambda: peer_count(engine, broker) == 0)


def test_peer_is_not_taken_for_silent_while_the_connections_rest(leave: Leave, engine: Engine, raw: Any) -> None:
    broker = engine.add(
        "h", STREAMER, frontend=ANY_PORT, backend=ANY_PORT,
        frontend_options={"heartbeat_ivl": 100, "heartbeat_timeout": 1000},
    )  # fmt: skip
    peer = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    assert peer.read_command().startswith(b"\x04PING")
    peer.send(command(b"PONG"))
    wait_until(lambda: broker.peers()[0].silent_s < 0.05)
    side, future = leave(brokers=["h"], freeze_s=1.2)
    side.claim("h")
    side.receive_state()
    check_refused(future, "in time")
    for _ in range(2):
        assert peer.read_command().startswith(b"\x04PING")
        peer.send(command(b"PONG"))
    assert peer_count(engine, broker) == 1


# -- it is interrupted -------------------------------------------------------------------------------------------------


def test_removal_of_a_broker_that_is_handed_over(engine: Engine, leave: Leave) -> None:
    """The removal ends the hand over, and the broker is removed here. Another of its name can be added."""
    engine.add("b", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    side, future = leave(brokers=["b"])
    side.claim("b")
    side.receive_state()
    side.send(READY)
    side.receive(COMMIT)
    statistics = engine.remove("b")
    assert statistics.state is BrokerState.REMOVED
    check_refused(future, "given up here|has closed its end")
    with pytest.raises(HandOverError):
        side.send(TAKEN)
    assert "b" not in engine.brokers


def test_removal_comes_too_late(engine: Engine, leave: Leave, monkeypatch: pytest.MonkeyPatch) -> None:
    """TAKEN has come, and nobody has looked yet: the other process serves."""
    engine.add("b", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    side, future = leave(brokers=["b"])
    side.claim("b")
    side.receive_state()
    side.send(READY)
    side.receive(COMMIT)

    def take_and_remove() -> Any:
        side.send(TAKEN)
        return engine.remove("b")

    # Both are done in the thread of the loop, where the decision is made.
    assert in_engine(engine, take_and_remove).state is BrokerState.REMOVED
    assert future.result(DEADLINE_S).moved == ("b",)
    assert "b" not in engine.brokers


def test_close_of_an_engine_that_hands_over(make_engine: MakeEngine, connect: Connect) -> None:
    engine = make_engine()
    engine.start()
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    with socket_pair() as (ours, theirs):
        side = Side(theirs)
        future = in_thread(partial(engine.hand_over, ours, freeze_s=DEADLINE_S))
        side.claim("a")
        side.receive_state()
        engine.close(timeout_s=0)
        with pytest.raises((HandOverError, EngineError)):
            future.result(DEADLINE_S)
        side.close()
    assert broker.state is BrokerState.REMOVED


# -- the new side ------------------------------------------------------------------------------------------------------


@pytest.fixture
def new(make_engine: MakeEngine) -> Engine:
    """The engine that takes brokers over."""
    engine = make_engine()
    engine.start()
    return engine


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
        gone = in_thread(lambda: _hand_over_and_close(engine, ours, {"brokers": ["b"]}))
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
        gone = in_thread(lambda: _hand_over_and_close(engine, ours, {"brokers": ["b"]}))
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
