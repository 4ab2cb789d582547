"""Majordomo on real sockets: peers that come and go, are killed, stopped and continued, and a broker that is killed."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker import MAJORDOMO, Broker, Device, Engine, Majordomo
from pollbroker.patterns.majordomo import mdp
from tests.support.accounts import balanced
from tests.support.addresses import ANY_PORT
from tests.support.commands import Command
from tests.support.deadline import wait_until
from tests.support.mdp_sockets import answer, ask, call, expect, next_of, ready, work, worker_process
from tests.support.types import Connect, Socket

SOON_S = 0.05
"""A heartbeat's interval that a test can wait for."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    """One engine: which pump and which waiter is at work is of no concern to a behaviour."""
    with Engine() as engine:
        yield engine


def add(engine: Engine, **settings: Any) -> tuple[Broker, str]:
    broker = engine.add("a", MAJORDOMO.with_settings(**settings), frontend=ANY_PORT)
    return broker, broker.ports["frontend"].endpoint


def counters(broker: Broker) -> dict[str, int]:
    return dict(broker.statistics().counters)


def is_balanced(broker: Broker) -> bool:
    return balanced(broker.statistics().flows["behaviour"])


def test_clients_and_workers_of_both_versions_at_one_port(engine: Engine, connect: Connect) -> None:
    broker, endpoint = add(engine)
    workers = [connect(zmq.DEALER, endpoint) for _ in range(2)]
    for worker, version in zip(workers, (1, 2), strict=True):
        ready(worker, b"v%d" % version, version)  # type: ignore[arg-type]
    first, second = connect(zmq.REQ, endpoint), connect(zmq.DEALER, endpoint)
    for worker, version in zip(workers, (1, 2), strict=True):
        first.send_multipart(mdp.client_request(b"v%d" % version, [b"a"])[1:])
        work(worker, version)  # type: ignore[arg-type]
        assert first.recv_multipart() == [b"MDPC01", b"v%d" % version, b"answer to a"]
        ask(second, b"v%d" % version, b"b", version=2)
        work(worker, version)  # type: ignore[arg-type]
        assert answer(second) == (2, mdp.FINAL, b"v%d" % version, [b"answer to b"])
    assert call(second, b"mmi.service", b"v1") == [b"200"]
    assert call(second, b"mmi.service", b"v3") == [b"404"]
    assert is_balanced(broker)


def test_clients_wait_at_a_port_of_their_own_while_too_many_requests_are_held(engine: Engine, connect: Connect) -> None:
    apart = Device("apart", ports=dict.fromkeys(["frontend", "backend"], zmq.ROUTER), behaviour=Majordomo)
    broker = engine.add("a", apart.with_settings(max_requests=5), frontend=ANY_PORT, backend=ANY_PORT)
    worker = connect(zmq.DEALER, broker.ports["backend"].endpoint)
    ready(worker)
    wait_until(lambda: counters(broker) == {"ready": 1})
    client = connect(zmq.DEALER, broker.ports["frontend"].endpoint)
    for number in range(50):
        ask(client, b"echo", b"%d" % number)
    assert [work(worker) for _ in range(50)] == [b"%d" % number for number in range(50)]
    assert [answer(client).body for _ in range(50)] == [[b"answer to %d" % number] for number in range(50)]
    assert counters(broker) == {"ready": 1}
    wait_until(lambda: is_balanced(broker) and broker.statistics().flows["behaviour"].held == 0)


def test_request_of_a_worker_that_is_killed_goes_to_another(engine: Engine, connect: Connect) -> None:
    broker, endpoint = add(engine, heartbeat_s=SOON_S, liveness=200)
    client = connect(zmq.DEALER, endpoint)
    with worker_process(endpoint, answers=False) as first, worker_process(endpoint, "other") as other:
        expect(first, "ready")
        expect(other, "ready")
        ask(client, b"echo", b"x")
        expect(first, "request")
        first.kill()
        wait_until(lambda: counters(broker).get("gone") == 1)
        second = connect(zmq.DEALER, endpoint)
        ready(second)
        assert work(second) == b"x"
        assert answer(client).body == [b"answer to x"]
    assert counters(broker)["given_again"] == 1
    assert is_balanced(broker)


def test_worker_that_was_stopped_too_long_begins_again(engine: Engine, connect: Connect) -> None:
    broker, endpoint = add(engine, heartbeat_s=SOON_S, liveness=10)
    client = connect(zmq.DEALER, endpoint)
    with worker_process(endpoint) as worker:
        expect(worker, "ready")
        wait_until(lambda: counters(broker).get("ready") == 1)
        os.kill(worker.pid, signal.SIGSTOP)
        ask(client, b"echo", b"x")
        wait_until(lambda: counters(broker).get("silent") == 1)
        assert broker.statistics().flows["behaviour"].held == 1
        os.kill(worker.pid, signal.SIGCONT)
        expect(worker, "request")  # what it was given before; its answer is late, and it is sent DISCONNECT
        expect(worker, "ready")
        assert answer(client).body == [b"answer to x"]
        assert call(client, b"echo", b"y") == [b"answer to y"]
    wait_until(lambda: counters(broker).get("late") == 1)
    assert counters(broker)["given_again"] == 1


@contextmanager
def broker_process(endpoint: str) -> Iterator[Command]:
    command = Command("majordomo", endpoint, "--heartbeat-s", str(SOON_S), "--liveness", "200")
    try:
        command.read_until("ready")
        yield command
    finally:
        command.kill()


def test_workers_and_clients_go_on_when_a_broker_was_killed_and_began_again(tmp_path: Path, connect: Connect) -> None:
    endpoint = f"ipc://{tmp_path}/broker"
    with broker_process(endpoint) as first, worker_process(endpoint) as worker:
        expect(worker, "ready")
        client = connect(zmq.DEALER, endpoint)
        assert call(client, b"echo", b"x") == [b"answer to x"]
        expect(worker, "request")
        first.process.kill()
        first.process.wait()
        with broker_process(endpoint):
            expect(worker, "ready")  # it was sent DISCONNECT, since the new broker does not know it
            assert call(client, b"echo", b"y") == [b"answer to y"]


def test_workers_are_told_when_the_broker_is_removed(engine: Engine, connect: Connect) -> None:
    broker, endpoint = add(engine)
    workers = [connect(zmq.DEALER, endpoint) for _ in range(3)]
    for worker in workers:
        ready(worker)
    wait_until(lambda: counters(broker).get("ready") == 3)
    broker.remove()
    for worker in workers:
        next_of(worker, mdp.DISCONNECT)


def test_flood_of_names_and_garbage_leaves_the_broker_at_work(engine: Engine, connect: Connect) -> None:
    broker, endpoint = add(engine, max_requests=100, max_services=10)
    worker, client, flood = (connect(zmq.DEALER, endpoint) for _ in range(3))
    for number in range(200):
        ask(flood, b"name %d" % number, b"x")
        flood.send_multipart([b"", b"MDPC01"])
    ready(worker)
    ask(client, b"echo", b"x")
    assert work(worker) == b"x"
    assert answer(client).body == [b"answer to x"]
    wait_until(lambda: counters(broker).get("malformed") == 200)
    assert counters(broker)["refused"] == 190
    assert broker.statistics().flows["behaviour"].held == 10
    assert is_balanced(broker)


def test_heartbeats_go_both_ways_and_a_worker_without_them_is_forgotten(engine: Engine, connect: Connect) -> None:
    broker, endpoint = add(engine, heartbeat_s=SOON_S, liveness=10)
    worker: Socket = connect(zmq.DEALER, endpoint)
    ready(worker, version=2)
    for _ in range(15):
        next_of(worker, mdp.HEARTBEAT)
        worker.send_multipart(mdp.worker_heartbeat(2))
    assert counters(broker) == {"ready": 1}
    wait_until(lambda: counters(broker).get("silent") == 1)
