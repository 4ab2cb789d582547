"""Consumers and clients that die or leave with messages unread: nothing of the others' is lost or doubled."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import zmq

from pollbroker import QUEUE, STREAMER, Device, Engine, Route
from tests.support.accounts import balanced, flow_of, stands_still
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import Threads
from tests.support.types import Connect
from tests.support.wire_ports import peer_count
from tests.wire.stalling import Office, accounts_are_watched, fill
from tests.wire.zmtp import Raw, RawPeer, message

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
