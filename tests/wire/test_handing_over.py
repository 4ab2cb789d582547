"""Brokers that are handed over with their connections: nothing is lost, doubled or reordered, and no peer notices."""

import itertools
import socket
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Device, Route
from tests.support.accounts import balanced, flow_of
from tests.support.addresses import endpoint
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.threads import Threads
from tests.support.types import Connect
from tests.support.wire_ports import ended_by, peer_count, peers_alive
from tests.wire.moving import MOVES, MakeRelay, Receiving, Relay, Sending, adds
from tests.wire.zmtp import RawPeer, frame, greeting, message, ready


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
