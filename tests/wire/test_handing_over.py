"""Brokers that are handed over with their connections: nothing is lost, doubled or reordered, and no peer notices."""

import itertools
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.auth.thread import ThreadAuthenticator

from pollbroker import (
    BALANCER,
    FORWARDER,
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
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.threads import Threads, in_thread
from tests.support.turns import makes_no_turns
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import ended_by, peer_count, peers_alive
from tests.wire.moving import Add, Receiving, Relay, ReplacedRelay, Sending, hand_over, socket_pair
from tests.wire.places import PLACES, address_in
from tests.wire.zmtp import RawListener, RawPeer, frame, greeting, message, ready

MOVES = 8
"""How often a broker moves in the tests that are not marked as slow."""


def adds(device: Device | str, name: str = "a", **more: Any) -> Add:
    """A function that adds a broker to an engine, always the same one."""
    endpoints = {"frontend": ANY_PORT, "backend": ANY_PORT} | more
    return lambda engine, **replacing: engine.add(name, device, **endpoints, **replacing)


MakeRelay = Callable[[Add], Relay]


@pytest.fixture(params=[Relay, ReplacedRelay], ids=["to_another_engine", "in_one_engine"])
def make_relay(request: pytest.FixtureRequest, make_engine: MakeEngine) -> MakeRelay:
    """Makes a broker that moves, in each of the two ways."""
    return partial(request.param, make_engine)


@pytest.fixture
def new(make_engine: MakeEngine) -> Engine:
    """Another engine, which takes brokers over."""
    engine = make_engine()
    engine.start()
    return engine


def check_streams(received: dict[bytes, list[int]], sent: dict[bytes, int]) -> None:
    """Each message that was sent has come once, and those of each sender in order."""
    for name, count in sent.items():
        assert received.get(name, []) == list(range(count)), name


# -- under traffic -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET], ids=["stream", "seqpacket"])
def test_streamer_moves_under_traffic(make_relay: MakeRelay, connect: Connect, kind: int) -> None:
    relay = make_relay(adds(STREAMER))
    pushes = [connect(zmq.PUSH, endpoint(relay.broker.frontend)) for _ in range(3)]
    with Receiving(connect(zmq.PULL, endpoint(relay.broker.backend))) as receiving:
        sendings = {
            b"%d" % number: Sending(push, b"%d" % number, receiving=receiving) for number, push in enumerate(pushes)
        }
        for _ in range(MOVES):
            before = receiving.count
            relay.move(kind=kind)
            wait_until(lambda count=before: receiving.count > count + 10)  # type: ignore[misc]
        sent = {name: sending.stop() for name, sending in sendings.items()}
        wait_until(lambda: receiving.count == sum(sent.values()))
    check_streams(receiving.messages, sent)
    flow = flow_of(relay.engine, "a")
    assert (flow.received, flow.sent, flow.held, flow.dropped) == (sum(sent.values()), sum(sent.values()), 0, 0)
    assert ended_by(relay.engine, relay.broker) == ended_by(relay.engine, relay.broker, "backend") == {}


@pytest.mark.parametrize("size", [3000, 50_000, 1_000_000])
def test_streamer_of_large_messages_moves_under_traffic(make_relay: MakeRelay, connect: Connect, size: int) -> None:
    relay = make_relay(adds(STREAMER))
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend), sndhwm=4)
    with Receiving(connect(zmq.PULL, endpoint(relay.broker.backend), rcvhwm=4)) as receiving:
        sending = Sending(push, b"large", size=size)
        for _ in range(MOVES):
            before = receiving.count
            relay.move()
            wait_until(lambda count=before: receiving.count > count + 1)  # type: ignore[misc]
        sent = sending.stop()
        wait_until(lambda: receiving.count == sent)
    check_streams(receiving.messages, {b"large": sent})


def test_several_consumers_share_what_comes_across_moves(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(STREAMER, backend_options={"sndhwm": 5}))
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend))
    receivings = [Receiving(connect(zmq.PULL, endpoint(relay.broker.backend), rcvhwm=5)) for _ in range(3)]
    sending = Sending(push, b"all")
    for _ in range(MOVES):
        before = sum(receiving.count for receiving in receivings)
        relay.move()
        wait_until(lambda count=before: sum(one.count for one in receivings) > count + 10)  # type: ignore[misc]
    sent = sending.stop()
    wait_until(lambda: sum(receiving.count for receiving in receivings) == sent)
    received = [receiving.stop().get(b"all", []) for receiving in receivings]
    assert all(numbers == sorted(numbers) for numbers in received)
    assert sorted(itertools.chain(*received)) == list(range(sent))


def ask(client: zmq.Socket[bytes], count: int) -> None:
    for number in range(count):
        client.send(b"%d" % number)
        assert client.recv() == b"answer %d" % number


def test_queue_moves_with_requests_in_flight(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(QUEUE))
    clients = [connect(zmq.REQ, endpoint(relay.broker.frontend)) for _ in range(4)]
    workers = [connect(zmq.REP, endpoint(relay.broker.backend)) for _ in range(2)]
    stopped: list[bool] = []

    def work(worker: zmq.Socket[bytes]) -> None:
        while not stopped:
            if worker.poll(10):
                worker.send(b"answer " + worker.recv())

    with Threads() as threads:
        working = [threads.submit(work, worker) for worker in workers]
        asking = [threads.submit(ask, client, 300) for client in clients]
        moves = 0
        while not all(done.done() for done in asking):
            relay.move()
            moves += 1
        for done in asking:
            done.result(DEADLINE_S)
        stopped.append(True)
        for done in working:
            done.result(DEADLINE_S)
    assert moves > 2
    flows = relay.engine.statistics().brokers["a"].flows
    assert [(flow.received, flow.sent, flow.dropped) for flow in flows.values()] == [(1200, 1200, 0)] * 2


def test_pipelined_requests_of_a_dealer_are_answered_across_moves(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(QUEUE))
    client = connect(zmq.DEALER, endpoint(relay.broker.frontend), sndhwm=0, rcvhwm=0, routing_id=b"the client")
    worker = connect(zmq.ROUTER, endpoint(relay.broker.backend), sndhwm=0, rcvhwm=0)
    for number in range(2000):
        client.send_multipart([b"", b"%d" % number])
    for number in range(2000):
        if number % 200 == 0:
            relay.move()
        worker.send_multipart(worker.recv_multipart())
    assert [client.recv_multipart()[1] for _ in range(2000)] == [b"%d" % number for number in range(2000)]
    assert {peer.routing_id for peer in relay.broker.peers() if peer.port == "frontend"} == {b"the client"}


def test_forwarder_keeps_its_subscriptions(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(FORWARDER))
    publisher = connect(zmq.XPUB, endpoint(relay.broker.frontend), sndhwm=0)
    subscribers = [connect(zmq.SUB, endpoint(relay.broker.backend), rcvhwm=0) for _ in range(2)]
    for subscriber, topics in zip(subscribers, ([b"a", b"both"], [b"b"]), strict=True):
        for topic in topics:
            subscriber.subscribe(topic)
    assert sorted(publisher.recv() for _ in range(3)) == [b"\1a", b"\1b", b"\1both"]
    for number in range(MOVES):
        relay.move()
        for topic in (b"a", b"b", b"both", b"c"):
            publisher.send(topic + b" %d" % number)
        assert [subscribers[0].recv() for _ in range(2)] == [b"a %d" % number, b"both %d" % number]
        assert [subscribers[1].recv() for _ in range(2)] == [b"b %d" % number, b"both %d" % number]
    assert not publisher.poll(0), "a subscription was told again"
    subscribers[0].unsubscribe(b"a")
    assert publisher.recv() == b"\0a"
    late = connect(zmq.SUB, endpoint(relay.broker.backend))
    late.subscribe(b"late")
    assert publisher.recv() == b"\1late"
    subscribers[1].close()
    assert publisher.recv() == b"\0b"


def test_publisher_that_comes_later_is_told_of_all_subscriptions(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(FORWARDER))
    subscriber = connect(zmq.SUB, endpoint(relay.broker.backend))
    subscriber.subscribe(b"x")
    first = connect(zmq.XPUB, endpoint(relay.broker.frontend))
    assert first.recv() == b"\1x"
    relay.move()
    second = connect(zmq.XPUB, endpoint(relay.broker.frontend))
    assert second.recv() == b"\1x"
    second.send(b"x 1")
    assert subscriber.recv() == b"x 1"


def test_forwarder_moves_under_traffic(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(FORWARDER, backend_options={"sndhwm": 0}))
    publisher = connect(zmq.XPUB, endpoint(relay.broker.frontend), sndhwm=0, xpub_nodrop=1)
    subscriber = connect(zmq.SUB, endpoint(relay.broker.backend), rcvhwm=0)
    subscriber.subscribe(b"")
    assert publisher.recv() == b"\1"
    with Receiving(subscriber) as receiving:
        sending = Sending(publisher, b"topic", size=100, receiving=receiving)
        for _ in range(MOVES):
            before = receiving.count
            relay.move()
            wait_until(lambda count=before: receiving.count > count + 10)  # type: ignore[misc]
        sent = sending.stop()
        wait_until(lambda: receiving.count == sent)
    check_streams(receiving.messages, {b"topic": sent})


REP_REQ = Device(
    "rep-req",
    ports={"frontend": zmq.REP, "backend": zmq.REQ},
    routes=(Route("frontend", "backend"), Route("backend", "frontend")),
)


def test_rep_and_req_ports_remember_whom_they_answer_and_ask(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(REP_REQ))
    clients = [connect(zmq.REQ, endpoint(relay.broker.frontend)) for _ in range(2)]
    workers = [connect(zmq.REP, endpoint(relay.broker.backend)) for _ in range(2)]
    wait_until(lambda: peer_count(relay.engine, relay.broker, "backend") == 2)
    for number in range(6):
        client = clients[number % 2]
        client.send(b"%d" % number)
        relay.move()
        (worker,) = _first_readable(workers)
        request = worker.recv()
        relay.move()
        worker.send(b"answer " + request)
        assert client.recv() == b"answer %d" % number


def _first_readable(sockets: list[Any]) -> list[Any]:
    poller = zmq.Poller()
    for one in sockets:
        poller.register(one, zmq.POLLIN)
    return [one for one, _ in poller.poll(DEADLINE_MS)]


def test_peers_come_and_go_and_are_reset_while_brokers_move(
    make_relay: MakeRelay, connect: Connect, context: zmq.Context[Any]
) -> None:
    relay = make_relay(adds(STREAMER))
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend))
    frontend = endpoint(relay.broker.frontend)
    host, port = frontend.removeprefix("tcp://").split(":")
    stopped: list[bool] = []

    def come_and_go() -> int:
        count = 0
        while not stopped:
            with RawPeer(socket.create_connection((host, int(port)))) as peer:
                if count % 3:
                    peer.shake_hands("PUSH", b"") if count % 3 == 1 else peer.send(greeting()[: count % 64])
                    peer.send(message(b"cut", b"x" * 100)[: count % 50])
                if count % 2:
                    peer.reset()
            count += 1
        return count

    with Receiving(connect(zmq.PULL, endpoint(relay.broker.backend))) as receiving, Threads() as threads:
        visitors = threads.submit(come_and_go)
        sending = Sending(push, b"steady", receiving=receiving)
        for _ in range(2 * MOVES):
            before = receiving.count
            relay.move()
            wait_until(lambda count=before: receiving.count > count + 10)  # type: ignore[misc]
        stopped.append(True)
        assert visitors.result(DEADLINE_S) > MOVES
        sent = sending.stop()
        wait_until(lambda: receiving.count >= sent)
    check_streams(receiving.messages, {b"steady": sent})


@pytest.mark.slow
def test_a_hundred_moves_under_traffic(make_relay: MakeRelay, connect: Connect) -> None:
    relay = make_relay(adds(STREAMER))
    pushes = [connect(zmq.PUSH, endpoint(relay.broker.frontend), sndhwm=100) for _ in range(2)]
    with Receiving(connect(zmq.PULL, endpoint(relay.broker.backend), rcvhwm=100)) as receiving:
        sendings = {
            b"%d" % number: Sending(push, b"%d" % number, receiving=receiving) for number, push in enumerate(pushes)
        }
        for _ in range(100):
            relay.move()
        sent = {name: sending.stop() for name, sending in sendings.items()}
        wait_until(lambda: receiving.count == sum(sent.values()))
    check_streams(receiving.messages, sent)
    assert flow_of(relay.engine, "a").received == sum(sent.values())


# -- what is half done -------------------------------------------------------------------------------------------------


def test_message_that_is_read_in_part_is_read_to_its_end(make_relay: MakeRelay, connect: Connect, raw: Any) -> None:
    relay = make_relay(adds(STREAMER))
    pull = connect(zmq.PULL, endpoint(relay.broker.backend))
    sender = raw(endpoint(relay.broker.frontend)).shake_hands("PUSH")
    whole = message(b"first", bytes(range(256)) * 1000, b"last")
    places = [1, 6, 7, 9, 15, 200, 100_000, 255_000, len(whole) - 3]
    for begin, end in zip([0, *places], [*places, len(whole)], strict=True):
        sender.send(whole[begin:end])
        wait_until(lambda count=end: _read_of(relay, "frontend") >= min(count, 1))  # type: ignore[misc]
        relay.move()
    assert pull.recv_multipart() == [b"first", bytes(range(256)) * 1000, b"last"]
    sender.send_message(b"next")
    assert pull.recv() == b"next"


def _read_of(relay: Relay, port: str) -> int:
    return len([peer for peer in relay.broker.peers() if peer.port == port])


def test_message_that_is_written_in_part_is_written_to_its_end(
    make_relay: MakeRelay, connect: Connect, raw: Any
) -> None:
    relay = make_relay(adds(STREAMER))
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend), sndhwm=0)
    reader = raw(endpoint(relay.broker.backend)).shake_hands("PULL")
    body = bytes(range(256)) * 40_000
    for number in range(3):
        push.send_multipart([b"%d" % number, body])
    wait_until(lambda: flow_of(relay.engine, "a").held and peer_queue(relay, "backend"))
    for number in range(3):
        relay.move()
        assert reader.read_frame().body == b"%d" % number
        relay.move()
        assert reader.read_frame().body == body
    wait_until(lambda: flow_of(relay.engine, "a").sent == 3)
    assert balanced(flow_of(relay.engine, "a"))


def peer_queue(relay: Relay, port: str) -> int:
    """Bytes that wait to be written at a port."""
    return sum(peer.queued_bytes for peer in relay.broker.peers() if peer.port == port)


def test_handshake_goes_on_where_it_was(make_relay: MakeRelay, connect: Connect, raw: Any) -> None:
    relay = make_relay(adds(STREAMER))
    pull = connect(zmq.PULL, endpoint(relay.broker.backend))
    peer = raw(endpoint(relay.broker.frontend))
    whole = greeting() + ready("PUSH") + message(b"hello")
    for begin, end in ((0, 5), (5, 10), (10, 11), (11, 40), (40, 64), (64, 70), (70, len(whole) - 2)):
        peer.send(whole[begin:end])
        relay.move()
    peer.send(whole[-2:])
    assert pull.recv() == b"hello"
    assert peer.read(64) == greeting()
    assert peer.read_frame().body.startswith(b"\x05READY")


def test_rest_of_a_message_of_too_many_frames_is_dropped_behind_the_move(
    make_relay: MakeRelay, connect: Connect, raw: Any
) -> None:
    relay = make_relay(adds(replace(STREAMER, maxframes=3)))
    pull = connect(zmq.PULL, endpoint(relay.broker.backend))
    sender = raw(endpoint(relay.broker.frontend)).shake_hands("PUSH")
    sender.send(b"".join(frame(b"%d" % number, 1) for number in range(6)))
    wait_until(lambda: flow_of(relay.engine, "a").too_many_frames == 1)
    relay.move()
    sender.send(frame(b"6", 1) + frame(b"7"))
    sender.send_message(b"next")
    assert pull.recv_multipart() == [b"next"]
    flow = flow_of(relay.engine, "a")
    assert (flow.received, flow.too_many_frames, flow.received_frames) == (2, 1, 9)


def test_what_a_peer_sent_before_it_left_is_not_lost(make_relay: MakeRelay, connect: Connect, raw: Any) -> None:
    relay = make_relay(adds(STREAMER))
    sender = raw(endpoint(relay.broker.frontend)).shake_hands("PUSH")
    sender.send(b"".join(message(b"%d" % number) for number in range(10)))
    sender.close()
    wait_until(lambda: peer_count(relay.engine, relay.broker) == 0 and peers_alive(relay.engine) == 1)
    relay.move()
    pull = connect(zmq.PULL, endpoint(relay.broker.backend))
    assert [pull.recv() for _ in range(10)] == [b"%d" % number for number in range(10)]


def test_messages_of_a_consumer_that_left_wait_for_another(make_relay: MakeRelay, connect: Connect, raw: Any) -> None:
    relay = make_relay(adds(STREAMER))
    reader = raw(endpoint(relay.broker.backend)).shake_hands("PULL")
    reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    push = connect(zmq.PUSH, endpoint(relay.broker.frontend), sndhwm=0)
    for number in range(3000):
        push.send_multipart([b"%d" % number, bytes(5000)])
    wait_until(lambda: peer_queue(relay, "backend") > 100_000)
    reader.reset()
    wait_until(lambda: peer_count(relay.engine, relay.broker, "backend") == 0)
    held = flow_of(relay.engine, "a").held
    assert held
    relay.move()
    assert flow_of(relay.engine, "a").held == held
    lost = flow_of(relay.engine, "a")
    pull = connect(zmq.PULL, endpoint(relay.broker.backend), rcvhwm=0)
    numbers = [int(pull.recv_multipart()[0]) for _ in range(3000 - lost.sent - lost.dropped)]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 2999
    assert balanced(flow_of(relay.engine, "a"))


# -- what else goes with them ------------------------------------------------------------------------------------------


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


OTHERS = {
    "types": (adds(QUEUE), r"brokers\.a\.frontend: a PULL is handed over; expected that in the place of ROUTER"),
    "endpoints": (
        adds(STREAMER, backend="tcp://127.0.0.1:1"),
        r"brokers\.a\.backend: @tcp://127.0.0.1:\* is handed over",
    ),
    "transport": (adds(STREAMER, transport="libzmq"), r"here libzmq serves it; expected transport='wire'"),
    "ports": (adds(STREAMER, capture=ANY_PORT), r"brokers\.a\.capture: it is not handed over with the others"),
    "routes": (
        adds(replace(STREAMER, routes=(Route("frontend", "backend", via=lambda m: m),))),
        r"brokers\.a: its routes are handed over as frontend -> backend; expected these in the place of",
    ),
}
"""Brokers that cannot have the connections of a STREAMER, and what the error says."""


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
