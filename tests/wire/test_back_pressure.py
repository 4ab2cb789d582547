"""Consumers that do not come, are slow, or die: nothing is lost, doubled, or read too early."""

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import zmq

from pollbroker import FORWARDER, QUEUE, STREAMER, Device, Engine, Route
from pollbroker.statistics import FlowStatistics
from pollbroker.wire.streams import NOT_SENT_MAX_BYTES
from tests.support.accounts import balanced, flow_of, stands_still
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.threads import Threads
from tests.support.turns import makes_no_turns
from tests.support.types import Connect, MakeEngine, Socket
from tests.support.wire_ports import ended_by, in_engine, peer_count, wire_port
from tests.wire.zmtp import Ended, RawPeer, command, message, ping

Raw = Callable[[str], RawPeer]

_SIOCOUTQNSD = 0x894B
"""How many bytes of a stream wait to be sent (linux/sockios.h)."""


def read_all(peer: RawPeer) -> list[list[bytes]]:
    """All whole messages that come until the other side closes the connection."""
    received = []
    with suppress(Ended):
        while True:
            received.append(peer.read_message())
    return received


def fill(push: Socket, size: int, prefix: bytes = b"") -> int:
    """Send until a socket of libzmq's has no room, and stays so; how many messages."""
    sent = 0
    while push.poll(200, zmq.POLLOUT):
        push.send_multipart([prefix, b"%d" % sent, bytes(size)], zmq.NOBLOCK)
        sent += 1
    return sent


@contextmanager
def accounts_are_watched(engine: Engine) -> Iterator[None]:
    """Look at every flow again and again: each snapshot has to balance."""
    over = threading.Event()
    wrong: list[FlowStatistics] = []
    looked = 0

    def look() -> None:
        nonlocal looked
        while not over.is_set():
            for broker in engine.statistics().brokers.values():
                wrong.extend(flow for flow in broker.flows.values() if not balanced(flow))
            looked += 1

    with Threads() as threads:
        threads.submit(look)
        try:
            yield
        finally:
            over.set()
    assert looked
    assert not wrong


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


class Office:
    """A QUEUE with a client that asks and does not read, one that reads, and a worker."""

    def __init__(
        self, engine: Engine, connect: Connect, raw: Raw, slow_peer: Any, *, backend: str = ANY_PORT, **options: Any
    ) -> None:
        device = replace(QUEUE, name="office", slow_peer=slow_peer)
        self.broker = engine.add("q", device, frontend=ANY_PORT, backend=backend, frontend_options=options)
        self.engine = engine
        self.slow = raw(endpoint(self.broker.frontend)).shake_hands("DEALER", b"slow")
        self.quick = raw(endpoint(self.broker.frontend)).shake_hands("DEALER", b"quick")
        self.worker = connect(zmq.DEALER, endpoint(self.broker.backend), sndhwm=10, sndbuf=50_000)
        for client in (self.slow, self.quick):
            client.send_message(b"question")
            self.worker.recv_multipart()

    def flow(self) -> FlowStatistics:
        return flow_of(self.engine, "q", "backend")


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


# -- consumers that are killed -----------------------------------------------------------------------------------------


_CONSUMER = """
import sys, zmq
context = zmq.Context()
socket = context.socket(getattr(zmq, sys.argv[1]))
socket.rcvhwm = 1
socket.rcvbuf = 4096
socket.connect(sys.argv[2])
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def consumer_in_a_process(kind: str, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """A consumer that takes nothing, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CONSUMER, kind, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


@pytest.mark.parametrize("other", ["waits", "comes later"])
@pytest.mark.parametrize("device", [STREAMER, QUEUE], ids=lambda device: device.name)
def test_messages_of_a_consumer_that_is_killed_go_to_another(
    engine: Engine, connect: Connect, device: Device, other: str
) -> None:
    """Those that the kernel had taken for it are gone with it. Of all others each arrives once."""
    broker = engine.add("a", device, frontend=ANY_PORT, backend=ANY_PORT)
    sender, receiver = (zmq.PUSH, zmq.PULL) if device is STREAMER else (zmq.DEALER, zmq.DEALER)
    with consumer_in_a_process(zmq.SocketType(receiver).name, endpoint(broker.backend)) as process:
        wait_until(lambda: peer_count(engine, broker, "backend") == 1)
        push = connect(sender, endpoint(broker.frontend), sndhwm=10, sndbuf=50_000)
        with accounts_are_watched(engine):
            count = fill(push, 20_000)
            before = stands_still(engine)
            assert before.held > 1
            if other == "waits":
                survivor = connect(receiver, endpoint(broker.backend))
            os.kill(process.pid, signal.SIGKILL)
            process.wait(DEADLINE_S)
            if other == "comes later":
                wait_until(lambda: peer_count(engine, broker, "backend") == 0)
                survivor = connect(receiver, endpoint(broker.backend))
            wait_until(lambda: flow_of(engine, "a").received == count and flow_of(engine, "a").held == 0)
            push.send_multipart([b"the last", b""])
            received = []
            while (taken := survivor.recv_multipart())[-2] != b"the last":
                assert len(taken[-1]) == 20_000
                received.append(int(taken[-2]))
    flow = flow_of(engine, "a")
    assert flow.interrupted <= 1  # it was written in part
    assert flow.dropped == flow.interrupted
    assert flow.sent + flow.interrupted == count + 1
    # A part of the queue of which some was written is counted as sent when all of it is.
    assert len(received) >= count - before.sent - 5
    # The survivor has all that the dead one was not sent. If it was there already, what came later went to it first.
    assert sorted(received) == list(range(count - len(received), count))
    assert other == "waits" or received == sorted(received)


@pytest.mark.parametrize("handled", [False, True])
@pytest.mark.parametrize("captured", [False, True])
def test_what_was_queued_for_a_leaver_is_written_to_another_at_once(
    engine: Engine, connect: Connect, raw: Raw, handled: bool, captured: bool
) -> None:
    """Also if nothing else moves: the source is empty, and the other one says nothing."""
    handler = (lambda frames: frames) if handled else None
    routes = (Route("frontend", "backend", via=handler), Route("backend", "frontend"))
    device, capture = replace(QUEUE, routes=routes), ANY_PORT if captured else None
    broker = engine.add("a", device, frontend=ANY_PORT, backend=ANY_PORT, capture=capture)
    stuck = raw(endpoint(broker.backend)).shake_hands("DEALER")
    client = connect(zmq.DEALER, endpoint(broker.frontend))
    count = 0
    while flow_of(engine, "a").held < 3:
        client.send_multipart([b"%d" % count, bytes(20_000)])
        count += 1
        wait_until(lambda count=count: flow_of(engine, "a").received == count)  # type: ignore[misc]
    held = stands_still(engine).held
    other = raw(endpoint(broker.backend)).shake_hands("DEALER")
    wait_until(lambda: peer_count(engine, broker, "backend") == 2)
    stuck.reset()
    numbers = [int(other.read_message()[1]) for _ in range(held - 1)]  # one may have been written in part
    assert numbers == list(range(count - held + 1, count))
    wait_until(lambda: flow_of(engine, "a").held == 0)


def test_replies_of_a_client_that_is_killed_are_counted(engine: Engine, connect: Connect, raw: Raw) -> None:
    office = Office(engine, connect, raw, "drop")
    for number in range(200):
        office.worker.send_multipart([b"slow", b"%d" % number, bytes(10_000)])
    wait_until(lambda: office.flow().received == 200)
    assert office.flow().held
    office.slow.reset()
    wait_until(lambda: not office.flow().held)
    flow = office.flow()
    assert flow.unroutable
    assert flow.interrupted <= 1
    assert balanced(flow)


def test_consumers_that_come_and_go_lose_and_double_nothing_of_others(
    engine: Engine, connect: Connect, raw: Raw
) -> None:
    """One consumer stays, and others are torn away from it again and again: whatever arrives does so once, whole."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    pull = connect(zmq.PULL, endpoint(broker.backend), rcvhwm=0)
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0)
    count = 3000
    taken: list[int] = []
    with Threads() as threads, accounts_are_watched(engine):

        def come_and_go() -> None:
            for number in range(30):
                guest = raw(endpoint(broker.backend)).shake_hands("PULL")
                for _ in range(number % 3):
                    taken.append(int(guest.read_message()[0]))
                guest.reset()

        coming = threads.submit(come_and_go)
        number = 0
        while not coming.done() or number < count:
            push.send_multipart([b"%d" % number, b"", bytes(number * 7 % 9000)])
            number += 1
        push.send_multipart([b"-1", b"", b""])
        received = []
        while (message_ := pull.recv_multipart())[0] != b"-1":
            assert [len(frame) for frame in message_[1:]] == [0, int(message_[0]) * 7 % 9000]
            received.append(int(message_[0]))
    assert len(set(received + taken)) == len(received + taken)
    wait_until(lambda: flow_of(engine, "a").held == 0)
    flow = flow_of(engine, "a")
    assert flow.received == number + 1
    assert flow.sent + flow.interrupted == number + 1
    # The kernel may have taken a few messages for each guest that it has not read.
    assert len(received) + len(taken) <= flow.sent


def reply_until_blocked(office: Office, worker: RawPeer) -> int:
    """Send replies to the slow client until nothing more is taken; and how many were sent. The last one is torn."""
    worker.socket.setblocking(False)
    number = 0
    while True:
        left = message(b"slow", b"%d" % number, bytes(10_000))
        while left:
            try:
                left = left[worker.socket.send(left) :]
            except BlockingIOError:
                stands_still(office.engine, "q", "backend")
                if not select.select((), (worker.socket,), (), 0)[1]:
                    return number
        number += 1


def test_worker_that_left_much_unread_is_given_no_more_requests(engine: Engine, connect: Connect, raw: Raw) -> None:
    """Its replies wait for a client that does not read, and are read one day; but nobody is there to be asked. (Over
    tcp the end of a stream is told only when there is room for what was sent before it.)"""
    office = Office(engine, connect, raw, "wait", backend="ipc://*")
    office.worker.close()
    wait_until(lambda: peer_count(engine, office.broker, "backend") == 0)
    leaving = raw(endpoint(office.broker.backend)).shake_hands("DEALER")
    sent = reply_until_blocked(office, leaving)
    leaving.close()
    wait_until(lambda: peer_count(engine, office.broker, "backend") == 0)
    assert office.flow().received < sent
    worker = raw(endpoint(office.broker.backend)).shake_hands("DEALER")
    for number in range(6):
        office.quick.send_message(b"%d" % number)
        assert worker.read_message() == [b"quick", b"%d" % number]
    for number in range(sent):
        assert office.slow.read_message()[0] == b"%d" % number


# -- removal, pause and drain ------------------------------------------------------------------------------------------


def held_up(engine: Engine, connect: Connect, raw: Raw) -> tuple[RawPeer, int]:
    """A STREAMER whose one consumer does not read; and how many messages were sent to it."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    consumer = raw(endpoint(broker.backend)).shake_hands("PULL")
    sent = fill(connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=10, sndbuf=50_000), 10_000)
    assert stands_still(engine).held
    return consumer, sent


def test_removal_waits_until_what_was_held_is_written(engine: Engine, connect: Connect, raw: Raw) -> None:
    consumer, sent = held_up(engine, connect, raw)
    received = flow_of(engine, "a").received
    removal = engine.begin_removal("a", timeout_s=DEADLINE_S)
    assert not removal.done()
    read = [consumer.read_message()[1] for _ in range(received)]
    assert read == [b"%d" % number for number in range(received)]
    assert consumer.read_to_the_end() == b""
    flow = removal.result(DEADLINE_S).flows["frontend"]
    assert (flow.received, flow.sent, flow.held, flow.dropped) == (received, received, 0, 0)
    assert 0 < flow.unread <= sent - received


def test_removal_that_may_not_wait_says_what_was_held(engine: Engine, connect: Connect, raw: Raw) -> None:
    consumer, _ = held_up(engine, connect, raw)
    before = flow_of(engine, "a")
    flow = engine.remove("a", timeout_s=0.05).flows["frontend"]
    assert flow.received == before.received
    assert 0 < flow.held <= before.held
    assert flow.interrupted <= 1
    assert balanced(flow)
    for number in range(flow.sent):
        assert consumer.read_message()[1] == b"%d" % number


def test_what_was_held_was_not_written(engine: Engine, connect: Connect, raw: Raw) -> None:
    """Otherwise a program that sends again what was held would send some of it twice."""
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT, backend_options={"sndhwm": 0})
    consumer = raw(endpoint(broker.backend)).shake_hands("PULL")
    push = connect(zmq.PUSH, endpoint(broker.frontend), sndhwm=0, sndbuf=50_000)
    for number in range(50_000):
        push.send_multipart([b"", b"%d" % number, bytes(100)])
    assert stands_still(engine).held
    flow = engine.remove("a", timeout_s=0).flows["frontend"]
    assert len(read_all(consumer)) == flow.sent


def test_removal_in_which_the_consumer_leaves_goes_to_another(engine: Engine, connect: Connect, raw: Raw) -> None:
    consumer, _ = held_up(engine, connect, raw)
    before = flow_of(engine, "a")
    removal = engine.begin_removal("a", timeout_s=DEADLINE_S)
    address = endpoint(engine.brokers["a"].backend)
    consumer.reset()
    other = raw(address).shake_hands("PULL")
    numbers = [int(frames[1]) for frames in read_all(other)]
    flow = removal.result(DEADLINE_S).flows["frontend"]
    assert flow.held == 0
    assert flow.received - before.received <= 1
    assert flow.sent + flow.interrupted == flow.received
    assert len(numbers) >= before.held - 8
    assert numbers == list(range(flow.received - len(numbers), flow.received))


@pytest.mark.parametrize("paused", [False, True])
def test_removal_of_a_broker_at_rest_is_at_once(engine: Engine, connect: Connect, raw: Raw, paused: bool) -> None:
    broker = engine.add("q", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    peer = raw(endpoint(broker.frontend)).shake_hands("DEALER")
    if paused:
        broker.pause()
    final = broker.remove(timeout_s=DEADLINE_S)
    assert final.state == "removed"
    assert peer.read_to_the_end() == b""


def test_paused_broker_moves_nothing_until_it_is_resumed(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", STREAMER, frontend=ANY_PORT, backend=ANY_PORT)
    push, pull = connect(zmq.PUSH, endpoint(broker.frontend)), connect(zmq.PULL, endpoint(broker.backend))
    push.send(b"before")
    assert pull.recv() == b"before"
    for round_number in range(3):
        broker.pause()
        received = flow_of(engine, "a").received
        for number in range(100):
            push.send(b"%d %d" % (round_number, number))
        late = connect(zmq.PUSH, endpoint(broker.frontend))
        late.send(b"late")
        wait_until(lambda: peer_count(engine, broker) == 2)
        assert not pull.poll(50)
        assert flow_of(engine, "a").received == received
        assert makes_no_turns(engine)
        broker.resume()
        taken = [pull.recv() for _ in range(101)]
        taken.remove(b"late")
        assert taken == [b"%d %d" % (round_number, number) for number in range(100)]
        late.close()
        wait_until(lambda: peer_count(engine, broker) == 1)


def test_drain_waits_until_nothing_is_held_or_unread(engine: Engine, connect: Connect, raw: Raw) -> None:
    consumer, sent = held_up(engine, connect, raw)
    assert engine.drain(timeout_s=0.05) == ("a",)
    with Threads() as threads:
        draining = threads.submit(engine.drain, DEADLINE_S)
        for number in range(sent):
            assert consumer.read_message()[1] == b"%d" % number
        assert draining.result(DEADLINE_S) == ()
    flow = flow_of(engine, "a")
    assert (flow.received, flow.sent, flow.held) == (sent, sent, 0)


def test_engine_that_is_closed_in_full_traffic_leaves_nothing(engine: Engine, connect: Connect) -> None:
    broker = engine.add("a", QUEUE, frontend=ANY_PORT, backend=ANY_PORT)
    clients = [connect(zmq.DEALER, endpoint(broker.frontend), sndhwm=0) for _ in range(5)]
    workers = [connect(zmq.DEALER, endpoint(broker.backend), sndhwm=0) for _ in range(3)]
    for number in range(500):
        for client in clients:
            client.send_multipart([b"%d" % number, bytes(number * 10)])
    for worker in workers:
        for _ in range(20):
            worker.send_multipart(worker.recv_multipart())
    final = broker.remove(timeout_s=0)
    assert all(balanced(flow) for flow in final.flows.values())
    engine.close(timeout_s=0)


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
