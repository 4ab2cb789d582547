"""Faults on real sockets: workers that are killed or stopped, clients that leave, garbage, and shards that are full."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from pollbroker import BALANCER, Broker, Engine, sharder
from tests.support.accounts import balanced
from tests.support.addresses import ANY_PORT, endpoint
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.types import Connect, Socket

WORKER = """
import sys, zmq
with zmq.Context() as context, context.socket(zmq.REQ) as worker:
    worker.linger = 0
    worker.connect(sys.argv[1])
    worker.send(b"READY")
    while True:
        client, empty, question = worker.recv_multipart()
        print(question.decode(), flush=True)
        sys.stdin.readline()
        worker.send_multipart([client, empty, b"answer of the process"])
"""


class WorkerProcess:
    """A worker that answers each request when it is told to."""

    def __init__(self, backend: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, backend], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def wait_for_request(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def let_answer(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One engine, as it comes: what a behaviour does differs neither with the pump nor with the waiter."""
    with Engine() as engine:
        yield engine


@pytest.fixture
def worker_process() -> Iterator[Any]:
    made: list[WorkerProcess] = []

    def make(broker: Broker) -> WorkerProcess:
        made.append(WorkerProcess(endpoint(broker.ports["backend"])))
        wait_for(broker, ready=1)
        return made[-1]

    yield make
    for one in made:
        one.end()


def add(engine: Engine, **settings: Any) -> Broker:
    return engine.add("tasks", BALANCER.with_settings(**settings), frontend=ANY_PORT, backend=ANY_PORT)


def wait_for(broker: Broker, **counters: int) -> None:
    """Wait until these counters of a broker have these values."""

    def has_come() -> bool:
        found = broker.statistics().counters or {}
        return all(found.get(name, 0) == value for name, value in counters.items())

    wait_until(has_come)


def add_client(broker: Broker, connect: Connect) -> Socket:
    return connect(zmq.REQ, endpoint(broker.ports["frontend"]))


def add_worker(broker: Broker, connect: Connect, *, ready: int) -> Socket:
    """A worker in this process, when the broker knows it. `ready` is how often it has heard READY by then."""
    worker = connect(zmq.REQ, endpoint(broker.ports["backend"]))
    worker.send(b"READY")
    wait_for(broker, ready=ready)
    return worker


def reply(worker: Socket, text: bytes) -> bytes:
    """Answer the request that a worker has. Return the question."""
    client, empty, question = worker.recv_multipart()
    worker.send_multipart([client, empty, text])
    assert isinstance(question, bytes)
    return question


def check_account(broker: Broker) -> None:
    assert balanced(broker.statistics().flows["behaviour"])


def test_request_of_a_worker_that_is_killed_is_given_to_another(
    engine: Engine, connect: Connect, worker_process: Any
) -> None:
    broker = add(engine, time_limit_s=0.2, give_again=True)
    process = worker_process(broker)
    client = add_client(broker, connect)
    client.send(b"question")
    assert process.wait_for_request() == "question"
    other = add_worker(broker, connect, ready=2)
    process.process.send_signal(signal.SIGKILL)
    assert reply(other, b"answer") == b"question"
    assert client.recv() == b"answer"
    wait_for(broker, overdue=1, given_again=1)
    assert broker.drain(DEADLINE_S) is True
    check_account(broker)


def test_worker_that_is_stopped_and_continued_answers_late_and_then_works_again(
    engine: Engine, connect: Connect, worker_process: Any
) -> None:
    broker = add(engine, time_limit_s=0.2, give_again=True)
    process = worker_process(broker)
    client = add_client(broker, connect)
    client.send(b"question")
    assert process.wait_for_request() == "question"
    process.process.send_signal(signal.SIGSTOP)
    other = add_worker(broker, connect, ready=2)
    assert reply(other, b"answer") == b"question"
    assert client.recv() == b"answer"
    process.process.send_signal(signal.SIGCONT)
    process.let_answer()
    wait_for(broker, late=1)
    client.send(b"to the other")
    assert reply(other, b"answer") == b"to the other"
    assert client.recv() == b"answer"
    client.send(b"to the process")
    assert process.wait_for_request() == "to the process"
    process.let_answer()
    assert client.recv() == b"answer of the process"
    check_account(broker)


def test_request_for_a_worker_that_left_while_it_was_free_goes_to_the_next(engine: Engine, connect: Connect) -> None:
    broker = add(engine)
    other = add_worker(broker, connect, ready=1)
    attempts = 0

    def goes_to_the_next() -> bool:
        nonlocal attempts
        attempts += 1
        add_worker(broker, connect, ready=1 + attempts).close(linger=0)
        client = add_client(broker, connect)
        client.send(b"first")  # for the other; in the meantime libzmq learns that the worker has left
        assert reply(other, b"answer") == b"first"
        assert client.recv() == b"answer"
        client.send(b"second")
        return other.poll(500) > 0 and reply(other, b"answer") == b"second" and client.recv() == b"answer"

    wait_until(goes_to_the_next)
    wait_for(broker, gone=1, undelivered=1)
    check_account(broker)


def test_worker_goes_on_when_its_client_has_left(engine: Engine, connect: Connect) -> None:
    broker = add(engine)
    worker = add_worker(broker, connect, ready=1)

    def is_unroutable() -> bool:  # that a client has left takes libzmq a moment
        leaving = add_client(broker, connect)
        leaving.send(b"question")
        client, empty, _ = worker.recv_multipart()
        leaving.close(linger=0)
        before = broker.statistics().flows["behaviour"].received
        worker.send_multipart([client, empty, b"answer"])
        wait_until(lambda: broker.statistics().flows["behaviour"].received == before + 1)
        return broker.statistics().flows["behaviour"].unroutable > 0

    wait_until(is_unroutable)
    staying = add_client(broker, connect)
    staying.send(b"question")
    assert reply(worker, b"answer") == b"question"
    assert staying.recv() == b"answer"
    assert broker.statistics().counters == {"ready": 1}
    check_account(broker)


def test_garbage_in_every_frame_harms_nobody(engine: Engine, connect: Connect) -> None:
    broker = add(engine)
    worker = add_worker(broker, connect, ready=1)
    stranger = connect(zmq.DEALER, endpoint(broker.ports["backend"]))
    garbage = [
        [b""],
        [b"\xff" * 300],
        [b"", b""],
        [b"", b"READY", b"0"],
        [b"", b"READY", b"9" * 100],
        [b"", b"\xff", b"", b"x"],
        [b""] * 50,
    ]
    for frames in garbage:
        stranger.send_multipart(frames)
    wait_until(lambda: broker.statistics().flows["behaviour"].received == 1 + len(garbage))
    client = connect(zmq.DEALER, endpoint(broker.ports["frontend"]))
    for frames in ([b""], [b"\xff" * 300], [b""] * 50):
        client.send_multipart(frames)
        worker.send_multipart([worker.recv_multipart()[0], b"", b"reply"])
        assert client.recv_multipart() == [b"", b"reply"]
    counters = broker.statistics().counters
    assert counters == {"ready": 1, "malformed": 5, "unknown_worker": 2}
    assert broker.statistics().flows["behaviour"].failed == 0
    check_account(broker)


def test_dealer_that_says_ready_twice_has_one_request_at_a_time(engine: Engine, connect: Connect) -> None:
    broker = add(engine)
    worker = connect(zmq.DEALER, endpoint(broker.ports["backend"]))
    for _ in range(2):
        worker.send_multipart([b"", b"READY"])
    wait_for(broker, ready=2)
    client = connect(zmq.DEALER, endpoint(broker.ports["frontend"]))
    for number in range(3):
        client.send_multipart([b"", b"%d" % number])
    for number in range(3):
        empty, address, delimiter, question = worker.recv_multipart()
        assert question == b"%d" % number
        assert not worker.poll(5)
        worker.send_multipart([empty, address, delimiter, b"answer"])
        assert client.recv_multipart() == [b"", b"answer"]
    check_account(broker)


def test_workers_that_say_ready_again_serve_a_broker_that_began_again(engine: Engine, connect: Connect) -> None:
    broker = add(engine)
    where: Any = {name: endpoint(broker.ports[name]) for name in ("frontend", "backend")}
    add_worker(broker, connect, ready=1)
    broker.remove()
    broker = engine.add("tasks", BALANCER, **where)
    client = add_client(broker, connect)  # libzmq may lose what a client sends before it knows that its broker has gone
    client.send(b"question")
    worker = add_worker(broker, connect, ready=1)
    assert reply(worker, b"answer") == b"question"
    assert client.recv() == b"answer"


def test_full_shard_holds_up_no_other_on_real_sockets(engine: Engine, connect: Connect) -> None:
    device = sharder(("a", "b"), function=lambda frames: frames[-1][:1].decode(), max_waiting=5000)
    options = {name: {"sndhwm": 10} for name in ("a", "b")}
    broker = engine.add("shards", device, frontend=ANY_PORT, a=ANY_PORT, b=ANY_PORT, options=options)
    client = connect(zmq.DEALER, endpoint(broker.ports["frontend"]), sndhwm=0)
    for number in range(300):
        client.send_multipart([b"", b"a%d" % number])
    client.send_multipart([b"", b"b"])
    fast = connect(zmq.REP, endpoint(broker.ports["b"]))
    assert fast.recv() == b"b"
    fast.send(b"reply")
    assert client.recv_multipart() == [b"", b"reply"]
    assert broker.statistics().flows["behaviour"].held == 300  # nobody has connected to the other shard
    slow = connect(zmq.DEALER, endpoint(broker.ports["a"]), rcvhwm=10)
    assert [slow.recv_multipart()[-1] for _ in range(300)] == [b"a%d" % number for number in range(300)]
    assert broker.drain(DEADLINE_S) is True
    assert broker.statistics().flows["behaviour"].sent == 302
    check_account(broker)


def test_no_request_is_read_while_a_shard_is_full_if_that_was_asked_for(engine: Engine, connect: Connect) -> None:
    device = sharder(("a", "b"), function=lambda frames: frames[-1][:1].decode(), max_waiting=100, when_full="wait")
    broker = engine.add("shards", device, frontend=ANY_PORT, a=ANY_PORT, b=ANY_PORT)
    client = connect(zmq.DEALER, endpoint(broker.ports["frontend"]), sndhwm=0)
    fast = connect(zmq.REP, endpoint(broker.ports["b"]))
    for number in range(300):
        client.send_multipart([b"", b"a%d" % number])
    client.send_multipart([b"", b"b"])
    wait_until(lambda: broker.statistics().flows["behaviour"].held == 100)
    slow = connect(zmq.DEALER, endpoint(broker.ports["a"]))
    assert [slow.recv_multipart()[-1] for _ in range(300)] == [b"a%d" % number for number in range(300)]
    assert fast.recv() == b"b"
    assert not broker.statistics().counters
    check_account(broker)
