"""What goes with a broker that is handed over, such as its addresses, limits and statistics, and what is left."""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.auth.thread import ThreadAuthenticator

from pollbroker import (
    BALANCER,
    QUEUE,
    STREAMER,
    Broker,
    BrokerState,
    ConfigError,
    Device,
    Engine,
    EngineError,
    HandOverError,
    Limits,
    Route,
)
from pollbroker.handing_over.state import MovedFlow
from pollbroker.statistics import Counters, FlowStatistics
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.turns import makes_no_turns
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import ended_by, peer_count, peers_alive
from tests.wire.moving import MOVES, OTHERS, MakeRelay, adds, hand_over, socket_pair
from tests.wire.places import PLACES, address_in
from tests.wire.zmtp import RawListener, RawPeer

# -- what goes with them -----------------------------------------------------------------------------------------------


def test_every_number_that_a_flow_counts_beside_its_pump_goes_with_it() -> None:
    own = {one.name for one in fields(FlowStatistics)} - {one.name for one in fields(Counters)}
    assert own - {"source", "sinks", "state", "unread"} <= {one.name for one in fields(MovedFlow)}


def test_generated_routing_ids_stay_and_are_not_given_again(make_relay: MakeRelay, connect: Connect, raw: Any) -> None:
    relay = make_relay(adds(QUEUE))
    first = [connect(zmq.DEALER, endpoint(relay.broker.frontend)) for _ in range(3)]
    wait_until(lambda: peer_count(relay.engine, relay.broker) == 3)
    ids = {peer.routing_id for peer in relay.broker.peers()}
    relay.move()
    assert {peer.routing_id for peer in relay.broker.peers()} == ids
    first += [connect(zmq.DEALER, endpoint(relay.broker.frontend)) for _ in range(3)]
    wait_until(lambda: peer_count(relay.engine, relay.broker) == 6)
    assert len({peer.routing_id for peer in relay.broker.peers()}) == 6


def test_statistics_of_peers_and_flows_go_on(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(STREAMER))
    push, pull = connect(zmq.PUSH, endpoint(relay.broker.frontend)), connect(zmq.PULL, endpoint(relay.broker.backend))
    for number in range(3):
        push.send(b"%d" % number)
        assert pull.recv() == b"%d" % number
        before = relay.broker.peers()
        relay.move()
        after = relay.broker.peers()
        assert [(peer.port, peer.address, peer.received, peer.sent) for peer in after] == [
            (peer.port, peer.address, peer.received, peer.sent) for peer in before
        ]
        assert all(new.connected_s >= old.connected_s for new, old in zip(after, before, strict=True))
        assert {peer.port: peer.received + peer.sent for peer in after} == {
            "frontend": number + 1,
            "backend": number + 1,
        }
    flow = flow_of(relay.engine, "a")
    assert (flow.received, flow.received_bytes, flow.sent, flow.sent_bytes) == (3, 3, 3, 3)


def test_every_number_of_a_paused_flow_is_the_same_after_a_move(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(STREAMER))
    connect(zmq.PUSH, endpoint(relay.broker.frontend)).send(b"1")
    wait_until(lambda: flow_of(relay.engine, "a").stalls)
    assert connect(zmq.PULL, endpoint(relay.broker.backend)).recv() == b"1"
    relay.broker.pause()
    before = flow_of(relay.engine, "a")
    assert (before.stalls, before.stalled_s > 0, before.waited_s > 0) == (1, True, True)
    relay.move()
    assert flow_of(relay.engine, "a") == before


def test_engine_that_nobody_runs_hands_over(make_engine: MakeEngine, new: Engine, connect: Connect) -> None:
    """The call makes the turns itself, so that a broker that is left goes on."""
    old = make_engine()
    adds(STREAMER)(old)
    left = adds(STREAMER, "left")(old)
    push, pull = connect(zmq.PUSH, endpoint(left.frontend)), connect(zmq.PULL, endpoint(left.backend))
    with socket_pair() as (ours, theirs):
        handed_over = in_thread(partial(old.hand_over, ours, freeze_s=DEADLINE_S))
        with new.adopt(theirs):
            push.send(b"1")
            assert pull.recv() == b"1"
            adds(STREAMER)(new)
        assert handed_over.result(DEADLINE_S).moved == ("a",)
    assert relays(new, connect)


def test_heartbeats_go_on(make_relay: MakeRelay, connect: Connect, raw: Any) -> None:
    options = {"heartbeat_ivl": 30, "heartbeat_timeout": 60}
    relay = make_relay(adds(STREAMER, frontend_options=options))
    pull = connect(zmq.PULL, endpoint(relay.broker.backend))
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend), heartbeat_ivl=30, heartbeat_timeout=2000)
    silent = raw(endpoint(relay.broker.frontend)).shake_hands("PUSH")
    for number in range(MOVES):
        relay.move()
        assert number or silent.read_command().startswith(b"\4PING")
        push.send(b"%d" % number)
        assert pull.recv() == b"%d" % number
    wait_until(lambda: ended_by(relay.engine, relay.broker).get("silent") == 1)
    assert peer_count(relay.engine, relay.broker) == 1


def test_handshake_that_takes_too_long_ends_in_the_new_engine(
    make_relay: MakeRelay, connect: Connect, raw: Any
) -> None:
    relay = make_relay(adds(STREAMER, frontend_options={"handshake_ivl": 100}))
    silent = raw(endpoint(relay.broker.frontend))
    wait_until(lambda: peers_alive(relay.engine) == 1)
    relay.move()
    silent.read_to_the_end()
    assert ended_by(relay.engine, relay.broker) == {"slow_handshake": 1}


def test_connection_that_was_made_moves_and_is_made_again_later(make_relay: MakeRelay, connect: Connect) -> None:
    with RawListener() as listener:
        add = adds(STREAMER, backend=f">{listener.address}", backend_options={"reconnect_ivl": 5})
        relay = make_relay(add)
        push = connect(zmq.PUSH, endpoint(relay.broker.frontend))
        with listener.accept() as consumer:
            consumer.shake_hands("PULL")
            for number in range(3):
                relay.move()
                push.send(b"%d" % number)
                assert consumer.read_message() == [b"%d" % number]
        relay.move()
        with listener.accept() as consumer:
            consumer.shake_hands("PULL")
            wait_until(lambda: peer_count(relay.engine, relay.broker, "backend") == 1)
            push.send(b"again")
            assert consumer.read_message() == [b"again"]
            assert ended_by(relay.engine, relay.broker, "backend") == {"left": 1}


def test_connection_that_is_never_made_again_stays_away(make_relay: MakeRelay) -> None:
    with RawListener() as listener:
        add = adds(STREAMER, backend=f">{listener.address}", backend_options={"reconnect_ivl": -1})
        relay = make_relay(add)
        listener.accept().close()
        wait_until(lambda: ended_by(relay.engine, relay.broker, "backend"))
        relay.move()
        relay.move()
        assert makes_no_turns(relay.engine)
        listener.socket.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_connection_that_is_waited_for_is_made_in_the_new_engine(
    make_relay: MakeRelay, connect: Connect, tmp_path: Path
) -> None:
    path = f"ipc://{tmp_path}/later"
    relay = make_relay(adds(STREAMER, backend=f">{path}", backend_options={"reconnect_ivl": 5}))
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend))
    push.send(b"waits")
    relay.move()
    pull = connect(zmq.PULL)
    pull.bind(path)
    assert pull.recv() == b"waits"


@pytest.mark.parametrize("place", sorted(PLACES))
def test_listeners_move_with_their_addresses(
    make_relay: MakeRelay, connect: Connect, place: str, tmp_path: Path
) -> None:
    add = adds(STREAMER, frontend=address_in(place, tmp_path), backend=address_in(place, tmp_path))
    relay = make_relay(add)
    addresses = relay.broker.frontend.endpoints, relay.broker.backend.endpoints
    for number in range(2):
        relay.move()
        assert (relay.broker.frontend.endpoints, relay.broker.backend.endpoints) == addresses
        push = connect(zmq.PUSH, endpoint(relay.broker.frontend).replace("0.0.0.0", "127.0.0.1"), ipv6=1)
        pull = connect(zmq.PULL, endpoint(relay.broker.backend).replace("0.0.0.0", "127.0.0.1"), ipv6=1)
        push.send(b"%d" % number)
        assert pull.recv() == b"%d" % number
        pull.close()
        wait_until(lambda: peer_count(relay.engine, relay.broker, "backend") == 0)


def test_socket_file_is_removed_by_the_last_engine(make_relay: MakeRelay, tmp_path: Path) -> None:
    relay = make_relay(adds(STREAMER, frontend=f"ipc://{tmp_path}/front", backend="ipc://*"))
    directory = Path(relay.broker.backend.endpoint.removeprefix("ipc://")).parent
    relay.move()
    assert (tmp_path / "front").exists()
    relay.broker.remove()
    assert not (tmp_path / "front").exists()
    assert not directory.exists()


def test_paused_broker_stays_paused(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(STREAMER))
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend))
    pull = connect(zmq.PULL, endpoint(relay.broker.backend))
    relay.broker.pause()
    push.send(b"1")
    relay.move()
    assert relay.broker.state is BrokerState.PAUSED
    assert not pull.poll(20)
    relay.broker.resume()
    assert pull.recv() == b"1"


TEE = Device(
    "tee",
    ports={"frontend": zmq.PULL, "backend": zmq.PUSH, "copies": zmq.PUSH},
    routes=(Route("frontend", ("backend", "copies")),),
)


def test_message_that_is_held_for_one_of_several_sinks_moves(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(TEE, copies=ANY_PORT))
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend))
    pull = connect(zmq.PULL, endpoint(relay.broker.backend))
    push.send_multipart([b"1", b"a"])
    assert pull.recv_multipart() == [b"1", b"a"]
    assert flow_of(relay.engine, "a").held == 1
    relay.move()
    flow = flow_of(relay.engine, "a")
    assert (flow.received, flow.added, flow.sent, flow.held) == (1, 1, 1, 1)
    copies = connect(zmq.PULL, endpoint(relay.broker.ports["copies"]))
    assert copies.recv_multipart() == [b"1", b"a"]
    push.send(b"2")
    assert pull.recv() == copies.recv() == b"2"
    assert balanced(flow_of(relay.engine, "a"))


def test_handler_is_that_of_the_new_engine(make_engine: MakeEngine, new: Engine, connect: Connect) -> None:
    def tagged(tag: bytes) -> Device:
        return replace(STREAMER, name="tagged", routes=(Route("frontend", "backend", via=lambda m: [tag, *m]),))

    old = make_engine()
    old.start()
    broker = adds(tagged(b"old"))(old)
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    pull = connect(zmq.PULL, endpoint(broker.backend))
    push.send(b"1")
    assert pull.recv_multipart() == [b"old", b"1"]
    hand_over(old, new, adds(tagged(b"new")))
    push.send(b"2")
    assert pull.recv_multipart() == [b"new", b"2"]
    assert flow_of(new, "a").sent == 2


def test_capture_moves(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(STREAMER, capture=ANY_PORT, capture_type=zmq.PUSH))
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend))
    pull = connect(zmq.PULL, endpoint(relay.broker.backend))
    copies = connect(zmq.PULL, endpoint(relay.broker.capture))
    wait_until(lambda: peer_count(relay.engine, relay.broker, "capture") == 1)
    for number in range(3):
        push.send(b"%d" % number)
        assert pull.recv() == copies.recv() == b"%d" % number
        relay.move()
    assert flow_of(relay.engine, "a").captured == 3


def test_options_are_those_of_the_new_engine(make_engine: MakeEngine, new: Engine, connect: Connect) -> None:
    subscribing = Device(
        "sub", ports={"frontend": zmq.SUB, "backend": zmq.PUSH}, routes=(Route("frontend", "backend"),)
    )
    old = make_engine()
    old.start()
    broker = adds(subscribing, frontend_options={"subscribe": [b"a", b"b"]})(old)
    publisher = connect(zmq.XPUB, endpoint(broker.frontend))
    pull = connect(zmq.PULL, endpoint(broker.backend))
    assert sorted(publisher.recv() for _ in range(2)) == [b"\1a", b"\1b"]
    hand_over(old, new, adds(subscribing, frontend_options={"subscribe": [b"b", b"c"]}))
    assert sorted(publisher.recv() for _ in range(2)) == [b"\0a", b"\1c"]
    for topic in (b"a", b"b", b"c"):
        publisher.send(topic)
    assert [pull.recv(), pull.recv()] == [b"b", b"c"]


# -- what is moved, and what is left -----------------------------------------------------------------------------------


def test_brokers_that_cannot_be_moved_are_left(engine: Engine, new: Engine, connect: Connect) -> None:
    adds(STREAMER)(engine)
    adds(STREAMER, "other")(engine)
    adds(STREAMER, "libzmq", transport="libzmq")(engine)
    adds(BALANCER, "behaviour")(engine)
    result = hand_over(engine, new, adds(STREAMER))
    assert result.moved == ("a",)
    assert result.left == {
        "other": "the other process has not added it",
        "libzmq": "its frontend is a socket of libzmq",
        "behaviour": "its behaviour has a state of its own",
    }
    assert set(engine.brokers) == {"other", "libzmq", "behaviour"}
    assert set(new.brokers) == {"a"}
    push = connect(zmq.PUSH, endpoint(engine.brokers["other"].frontend))
    pull = connect(zmq.PULL, endpoint(engine.brokers["other"].backend))
    push.send(b"1")
    assert pull.recv() == b"1"


def test_broker_that_is_named_and_cannot_be_moved_is_refused(engine: Engine, new: Engine) -> None:
    adds(STREAMER)(engine)
    adds(BALANCER, "behaviour")(engine)
    with socket_pair() as (ours, theirs):
        with pytest.raises(ConfigError, match=r"brokers\.behaviour: it cannot be handed over: its behaviour has a"):
            engine.hand_over(ours, ["a", "behaviour"])
        with pytest.raises(HandOverError, match="its behaviour has a state"), new.adopt(theirs):
            raise AssertionError
    assert not new.brokers
    assert engine.brokers["a"].state is BrokerState.RUNNING


def test_only_what_is_named_is_offered(engine: Engine, new: Engine) -> None:
    for name in ("a", "b", "c"):
        adds(STREAMER, name)(engine)
    assert hand_over(engine, new, adds(STREAMER, "b"), brokers=["b", engine.brokers["c"]]).left == {
        "c": "the other process has not added it"
    }
    assert set(engine.brokers) == {"a", "c"}


def test_drain_of_a_broker_that_is_taken_over_says_so(engine: Engine, new: Engine, connect: Connect) -> None:
    broker = adds(STREAMER)(engine)
    connect(zmq.PUSH, endpoint(broker.frontend)).send(b"unread")
    wait_until(lambda: peer_count(engine, broker) == 1)
    drained = engine.begin_drain(DEADLINE_S, broker=broker)
    hand_over(engine, new, adds(STREAMER))
    with pytest.raises(EngineError, match=r"brokers\.a: another process has taken it over meanwhile"):
        drained.result(DEADLINE_S)


def test_new_engine_opens_what_is_not_offered(engine: Engine, new: Engine, connect: Connect) -> None:
    adds(STREAMER)(engine)
    result = hand_over(engine, new, adds(STREAMER), adds(STREAMER, "fresh"))
    assert result.moved == ("a",)
    push = connect(zmq.PUSH, endpoint(new.brokers["fresh"].frontend))
    pull = connect(zmq.PULL, endpoint(new.brokers["fresh"].backend))
    push.send(b"1")
    assert pull.recv() == b"1"


@pytest.mark.parametrize(("other", "expected"), OTHERS.values(), ids=OTHERS)
def test_broker_that_is_another_is_refused(
    engine: Engine, new: Engine, connect: Connect, other: Callable[[Engine], Broker], expected: str
) -> None:
    adds(STREAMER)(engine)
    with socket_pair() as (ours, theirs):
        handed_over = in_thread(partial(engine.hand_over, ours))
        with pytest.raises(ConfigError, match=expected), new.adopt(theirs):
            other(new)
        with pytest.raises(HandOverError, match="ConfigError"):
            handed_over.result(DEADLINE_S)
    assert not new.brokers
    assert relays(engine, connect)


def relays(engine: Engine, connect: Connect, name: str = "a") -> bool:
    """True if a STREAMER does what it should."""
    broker = engine.brokers[name]
    push = connect(zmq.PUSH, endpoint(broker.frontend))
    pull = connect(zmq.PULL, endpoint(broker.backend))
    push.send(b"relayed")
    return bool(pull.recv() == b"relayed")


def test_error_in_the_block_leaves_all_where_it_was(engine: Engine, new: Engine, connect: Connect) -> None:
    adds(STREAMER)(engine)
    with socket_pair() as (ours, theirs):
        handed_over = in_thread(partial(engine.hand_over, ours))
        with pytest.raises(ZeroDivisionError), new.adopt(theirs):
            _raise_after(adds(STREAMER)(new))
        with pytest.raises(HandOverError, match="ZeroDivisionError: by the program"):
            handed_over.result(DEADLINE_S)
    assert not new.brokers
    assert relays(engine, connect)


def _raise_after(broker: Broker) -> None:
    assert broker.state is BrokerState.RUNNING
    raise ZeroDivisionError("by the program")


def test_calls_from_within_a_turn_are_refused(engine: Engine) -> None:
    with socket_pair() as (ours, theirs):
        for call in (lambda: engine.hand_over(ours), lambda: engine.adopt(theirs).__enter__()):
            future = in_thread(lambda call=call: _in_turn(engine, call))  # type: ignore[misc]
            with pytest.raises(EngineError, match="from within a turn of the loop"):
                future.result(DEADLINE_S)


def _in_turn(engine: Engine, call: Callable[[], object]) -> None:
    from tests.support.wire_ports import in_engine

    in_engine(engine, call)


# -- limits, distribution, and who a peer is ---------------------------------------------------------------------------


def test_connections_count_for_the_limits_after_a_move(make_relay: MakeRelay, raw: Callable[[str], RawPeer]) -> None:
    relay = make_relay(adds(QUEUE, limits=Limits(connections_per_address=2)))
    first = raw(endpoint(relay.broker.frontend)).shake_hands("DEALER")
    raw(endpoint(relay.broker.frontend)).shake_hands("DEALER")
    relay.move()
    raw(endpoint(relay.broker.frontend)).read_to_the_end()
    wait_until(lambda: ended_by(relay.engine, relay.broker) == {"connections": 1})
    first.close()
    wait_until(lambda: ended_by(relay.engine, relay.broker) == {"connections": 1, "left": 1})
    raw(endpoint(relay.broker.frontend)).shake_hands("DEALER")


def test_outstanding_requests_are_known_after_a_move(
    make_relay: MakeRelay, connect: Connect, raw: Callable[[str], RawPeer]
) -> None:
    relay = make_relay(adds(replace(QUEUE, distribution="least_outstanding")))
    client = connect(zmq.DEALER, endpoint(relay.broker.frontend))
    stuck = raw(endpoint(relay.broker.backend)).shake_hands("DEALER")
    wait_until(lambda: peer_count(relay.engine, relay.broker, "backend") == 1)
    client.send(b"stuck")
    assert stuck.read_message()[1:] == [b"stuck"]
    relay.move()
    worker = connect(zmq.DEALER, endpoint(relay.broker.backend))
    wait_until(lambda: peer_count(relay.engine, relay.broker, "backend") == 2)
    for number in range(5):
        client.send(b"%d" % number)
        worker.send_multipart(worker.recv_multipart())  # if it were in turn, the one that is stuck would have some
        assert client.recv() == b"%d" % number


def test_peers_are_still_known_by_their_user_ids_after_a_move(make_relay: MakeRelay, connect: Connect) -> None:
    options = {"plain_server": True, "zap_domain": "here"}
    relay = make_relay(adds(STREAMER, frontend_options=options))
    authenticator = ThreadAuthenticator(relay.engine.context)
    authenticator.start()
    try:
        authenticator.configure_plain("here", {"ada": "secret"})
        push = connect(
            zmq.PUSH,
            endpoint(relay.broker.frontend),
            plain_username=b"ada",
            plain_password=b"secret",
            sndtimeo=DEADLINE_MS,
        )
        pull = connect(zmq.PULL, endpoint(relay.broker.backend))
        push.send(b"before")
        assert pull.recv() == b"before"
    finally:
        authenticator.stop()
    relay.move()
    assert [peer.user_id for peer in relay.broker.peers() if peer.port == "frontend"] == ["ada"]
    push.send(b"after")
    assert pull.recv() == b"after"
