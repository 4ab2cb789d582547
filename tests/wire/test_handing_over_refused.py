"""Hand overs that come to nothing, whatever the new process does: the brokers stay where they are, and go on."""

import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import zmq

from pollbroker import STREAMER, BrokerState, Engine, EngineError, HandOverError
from pollbroker.handing_over.channel import CLAIM, COMMIT, HELLO, MAGIC, READY, STATE, TAKEN, Refused
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import in_engine, peer_count
from tests.wire.moving import Leave, Side, check_refused, socket_pair
from tests.wire.zmtp import command, message

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
