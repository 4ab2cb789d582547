"""Consumers that do not come, or are slow: nothing is lost, doubled, or read too early."""

import fcntl
import struct
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Engine, Route
from pollbroker.wire.streams import NOT_SENT_MAX_BYTES
from tests.support.accounts import balanced, flow_of, stands_still
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.threads import Threads
from tests.support.turns import makes_no_turns
from tests.support.types import Connect, MakeEngine
from tests.support.wire_ports import ended_by, in_engine, peer_count, wire_port
from tests.wire.stalling import Office, accounts_are_watched, fill
from tests.wire.zmtp import Raw, command, message, ping

_SIOCOUTQNSD = 0x894B
"""How many bytes of a stream wait to be sent (linux/sockios.h)."""


# -- nobody takes anything ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 100_000])
def test_nothing_is_received_without_a_consumer(engine: Engine, connect: Connect, size: int) -> None:
    """The messages stay with the peers that sent them, who are held up in the end."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=10, sndbuf=50_000)
    sent = fill(push, size) if size > 1000 else 5
    if size < 1000:
        for number in range(sent):
            push.send_multipart([b"", b"%d" % number, bytes(size)])
    flow = stands_still(engine)
    assert (flow.received, flow.held) == (0, 0)
    assert flow.state == "stalled"
    assert makes_no_turns(engine)
    pull = connect(zmq.PULL, endpoint(broker.backend))
    assert [int(pull.recv_multipart()[1]) for _ in range(sent)] == list(range(sent))
    assert push.poll(DEADLINE_MS, zmq.POLLOUT)
    assert flow_of(engine, "a").received == sent


def test_requests_wait_at_the_clients_without_a_worker(engine: Engine, connect: Connect) -> None:
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    clients = [connect(zmq.REQ, endpoint(broker.frontend)) for _ in range(5)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    wait_until(lambda: peer_count(engine, broker) == 5)
    assert stands_still(engine, "q").received == 0
    assert makes_no_turns(engine)
    worker = connect(zmq.REP, endpoint(broker.backend))
    for _ in clients:
        worker.send(worker.recv())
    for number, client in enumerate(clients):
        assert client.recv() == b"%d" % number


def test_consumer_that_does_not_read_stops_the_source(engine: Engine, connect: Connect, raw: Raw) -> None:
    """What is under way is limited by the buffers of the kernel, and not by the memory of this process."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    consumer = raw(endpoint(broker.backend)).shake_hands("PULL")
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=10, sndbuf=50_000)
    with accounts_are_watched(engine):
        sent = fill(push, 10_000)
        flow = stands_still(engine)
    assert flow.received < sent
    assert flow.held == flow.received - flow.sent
    assert flow.held * 10_000 < 400_000  # 256 KiB in the queue, and the message that was the last
    assert flow.state == "stalled"
    assert makes_no_turns(engine)
    for number in range(sent):
        assert consumer.read_message()[1] == b"%d" % number
    assert push.poll(DEADLINE_MS, zmq.POLLOUT)
    wait_until(lambda: flow_of(engine, "a").sent == sent)


def test_kernel_is_given_no_more_than_can_soon_be_sent(engine: Engine, connect: Connect, raw: Raw) -> None:
    """With the kernel's own limit, megabytes would wait there for a peer that reads nothing."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    raw(endpoint(broker.backend)).shake_hands("PULL")
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=10, sndbuf=50_000)
    fill(push, 10_000)
    stands_still(engine)

    def unsent() -> int:
        ((descriptor, *_),) = wire_port(broker, "backend").peers()
        answer = fcntl.ioctl(descriptor, _SIOCOUTQNSD, struct.pack("i", 0))
        (count,) = struct.unpack("i", answer)
        assert isinstance(count, int)
        return count

    assert 0 < in_engine(engine, unsent) <= 2 * NOT_SENT_MAX_BYTES


# -- slow peers --------------------------------------------------------------------------------------------------------


def test_replies_to_a_slow_client_are_dropped_and_the_others_go_on(engine: Engine, connect: Connect, raw: Raw) -> None:
    office = Office(engine, connect, raw, "drop")
    with accounts_are_watched(engine):
        for number in range(2000):
            office.worker.send_multipart([b"slow", b"%d" % number, bytes(10_000)])
            if number % 100 == 0:
                office.worker.send_multipart([b"quick", b"%d" % number])
                assert office.quick.read_message() == [b"%d" % number]
        wait_until(lambda: office.flow().received == 2020)
    flow = office.flow()
    assert flow.slow_peer > 0
    assert flow.unroutable == 0
    kept = 2000 - flow.slow_peer
    received = [int(office.slow.read_message()[0]) for _ in range(kept)]
    assert received == sorted(set(received))
    wait_until(lambda: office.flow().held == 0)
    assert office.flow().sent == kept + 20


def test_burst_of_large_replies_is_no_sign_of_a_slow_client(engine: Engine, connect: Connect, raw: Raw) -> None:
    """libzmq keeps as many as `sndhwm` (1,000) for each client, whatever their size."""
    office = Office(engine, connect, raw, "drop")
    for number in range(20):
        office.worker.send_multipart([b"slow", b"%d" % number, bytes(300_000)])
    wait_until(lambda: office.flow().received == 20)
    assert office.flow().slow_peer == 0
    for number in range(20):
        assert office.slow.read_message() == [b"%d" % number, bytes(300_000)]


def test_replies_wait_for_a_slow_client_if_they_are_to(engine: Engine, connect: Connect, raw: Raw) -> None:
    office = Office(engine, connect, raw, "wait")
    with accounts_are_watched(engine):
        sent = fill(office.worker, 10_000, b"slow")
        flow = stands_still(engine, "q", "backend")
        assert flow.slow_peer == 0
        assert flow.received < sent
        for number in range(sent):
            assert office.slow.read_message()[0] == b"%d" % number
        office.worker.send_multipart([b"quick", b"at last"])
        assert office.quick.read_message() == [b"at last"]
    flow = office.flow()
    assert (flow.sent, flow.dropped) == (sent + 1, 0)


def test_client_that_is_waited_for_and_leaves_is_waited_for_no_more(engine: Engine, connect: Connect, raw: Raw) -> None:
    office = Office(engine, connect, raw, "wait")
    sent = fill(office.worker, 10_000, b"slow")
    stands_still(engine, "q", "backend")
    office.slow.close()
    office.worker.send_multipart([b"quick", b"at last"])
    assert office.quick.read_message() == [b"at last"]
    flow = office.flow()
    assert flow.received == sent + 1
    assert flow.held == 0
    assert balanced(flow)
    assert flow.interrupted <= 1
    assert flow.unroutable > 0


def test_high_water_mark_limits_the_queue_of_a_peer(engine: Engine, connect: Connect, raw: Raw) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, backend_options={"sndhwm": 3})
    consumer = raw(endpoint(broker.backend)).shake_hands("PULL")
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=10, sndbuf=50_000)
    sent = fill(push, 10_000)
    assert stands_still(engine).held == 3
    for number in range(sent):
        assert consumer.read_message()[1] == b"%d" % number


@pytest.mark.parametrize(
    "burst_messages",
    [1000, 2, 1],
)
def test_full_consumers_get_nothing_while_others_have_room(
    make_engine: MakeEngine, connect: Connect, raw: Raw, burst_messages: int
) -> None:
    engine = make_engine(burst_messages=burst_messages)
    engine.start()
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    slow = raw(endpoint(broker.backend)).shake_hands("PULL")
    pull = connect(zmq.PULL, endpoint(broker.backend), rcvtimeo=2000)
    wait_until(lambda: peer_count(engine, broker, "backend") == 2)
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0)
    for number in range(3000):
        push.send_multipart([b"%d" % number, bytes(10_000)])
    received: list[int] = []
    while len(received) < 1500 or pull.poll(200):
        received.append(int(pull.recv_multipart()[0]))
    assert received == sorted(received)
    rest = [int(slow.read_message()[0]) for _ in range(3000 - len(received))]
    assert rest == sorted(rest)
    assert sorted(received + rest) == list(range(3000))


# -- publishing --------------------------------------------------------------------------------------------------------


class News:
    """A FORWARDER with a publisher, a subscriber that does not read, and one that does."""

    def __init__(self, engine: Engine, raw: Raw, **options: Any) -> None:
        self.broker = engine.add("f", FORWARDER, frontend=ANY_PORT, backend=ANY_PORT, backend_options=options)
        self.publisher = raw(endpoint(self.broker.frontend)).shake_hands("PUB")
        self.slow, self.quick = (raw(endpoint(self.broker.backend)).shake_hands("SUB") for _ in range(2))
        for topic, subscriber in ((b"s", self.slow), (b"q", self.quick)):
            subscriber.send(command(b"SUBSCRIBE", topic))
            assert self.publisher.read_command() == b"\x09SUBSCRIBE" + topic


@pytest.mark.parametrize("options", [{}, {"sndhwm": 5}])
def test_publications_for_a_full_subscriber_are_dropped(engine: Engine, raw: Raw, options: dict[str, int]) -> None:
    news = News(engine, raw, **options)
    for number in range(2000):
        news.publisher.send_message(b"s%d" % number, bytes(10_000))
        if number % 100 == 0:
            news.publisher.send_message(b"q%d" % number)
            assert news.quick.read_message() == [b"q%d" % number]
    wait_until(lambda: flow_of(engine, "f").received == 2020)
    (dropped,) = (peer.dropped for peer in news.broker.peers() if peer.dropped)
    received = [int(news.slow.read_message()[0][1:]) for _ in range(2000 - dropped)]
    assert received == sorted(set(received))
    news.publisher.send_message(b"slow, are you there?")
    assert news.slow.read_message() == [b"slow, are you there?"]
    assert balanced(flow_of(engine, "f"))
    assert news.broker.statistics().ports["backend"].missed == dropped


def test_publications_wait_for_a_full_subscriber_with_nodrop(engine: Engine, raw: Raw) -> None:
    news = News(engine, raw, xpub_nodrop=1)
    count = 2000

    def publish() -> None:
        for number in range(count):
            news.publisher.send_message(b"s%d" % number, bytes(10_000))
            news.publisher.send_message(b"q%d" % number)

    with Threads() as threads, accounts_are_watched(engine):
        threads.submit(publish)
        flow = stands_still(engine, "f")
        assert 0 < flow.received < 2 * count
        assert flow.state in ("stalled", "retrying")
        reading = threads.submit(lambda: [news.quick.read_message() for _ in range(count)])
        for number in range(count):
            assert news.slow.read_message() == [b"s%d" % number, bytes(10_000)]
        assert reading.result(DEADLINE_S) == [[b"q%d" % number] for number in range(count)]
    assert not any(peer.dropped for peer in news.broker.peers())


@pytest.mark.parametrize("how", ["leaves", "cancels"])
def test_subscriber_that_is_waited_for_and_goes_is_waited_for_no_more(engine: Engine, raw: Raw, how: str) -> None:
    news = News(engine, raw, xpub_nodrop=1)

    def publish() -> None:
        for number in range(1000):
            news.publisher.send_message(b"s%d" % number, bytes(10_000))
        news.publisher.send_message(b"q")

    with Threads() as threads:
        threads.submit(publish)
        stands_still(engine, "f")
        if how == "leaves":
            news.slow.close()
        else:
            news.slow.send(command(b"CANCEL", b"s"))
        assert news.quick.read_message() == [b"q"]


# -- heartbeats under back-pressure ------------------------------------------------------------------------------------


def test_peers_of_a_stalled_broker_are_not_taken_for_silent(engine: Engine, connect: Connect, raw: Raw) -> None:
    """Nobody reads what they say, so that nobody can say that they were silent."""
    options = {"heartbeat_ivl": 20, "heartbeat_timeout": 40}
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, frontend_options=options)
    producer = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    producer.send_message(b"1")
    for _ in range(10):
        assert producer.read_command().startswith(b"\x04PING")
        producer.send(command(b"PONG"))
    assert not ended_by(engine, broker)
    pull = connect(zmq.PULL, endpoint(broker.backend))
    assert pull.recv() == b"1"


@pytest.mark.parametrize("why", ["stalled", "paused"])
def test_ping_is_answered_while_messages_wait(engine: Engine, connect: Connect, raw: Raw, why: str) -> None:
    """A client with heartbeats would take the broker for dead, and connect again and again; libzmq answers as long as
    its own queue is not full."""
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    client = raw(endpoint(broker.frontend)).shake_hands("DEALER")
    if why == "paused":
        connect(zmq.DEALER, endpoint(broker.backend))
        wait_until(lambda: peer_count(engine, broker, "backend") == 1)
        broker.pause()
    client.socket.settimeout(1)
    client.send(message(b"question") + ping(0, b"there?"))
    assert client.read_command() == b"\x04PONGthere?"


# -- routes of the engine that are not the wire's own ------------------------------------------------------------------


def test_route_with_a_handler_holds_one_message_and_stops_the_source(
    engine: Engine, connect: Connect, raw: Raw
) -> None:
    device = replace(STREAMER, name="handled", routes=(Route("frontend", "backend", via=lambda frames: frames),))
    broker = engine.add("a", device, frontend=ANY_PORT, backend=ANY_PORT)
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=10, sndbuf=50_000)
    sent = fill(push, 10_000)
    flow = stands_still(engine)
    assert flow.held <= 1
    assert makes_no_turns(engine)
    with accounts_are_watched(engine):
        consumer = raw(endpoint(broker.backend)).shake_hands("PULL")
        for number in range(sent):
            assert consumer.read_message()[1] == b"%d" % number


def test_small_messages_are_not_pushed_out_by_large_ones(engine: Engine, connect: Connect, raw: Raw) -> None:
    """Peers have their turns by bytes: who sends little is not kept waiting by who sends much."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    greedy = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0)
    modest = raw(endpoint(broker.frontend)).shake_hands("PUSH")
    for _ in range(200):
        greedy.send_multipart([b"greedy", bytes(30_000)])
    wait_until(lambda: peer_count(engine, broker) == 2)
    modest.send(b"".join(message(b"modest", b"%d" % number) for number in range(50)))
    consumer = raw(endpoint(broker.backend)).shake_hands("PULL")
    received = [consumer.read_message()[0] for _ in range(250)]
    place_of_the_last = max(place for place, who in enumerate(received) if who == b"modest")
    assert place_of_the_last < 50 + 20
