"""Clients and workers with brokers at work: what becomes of requests when a worker or the broker is gone."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import pollbroker.rpc
from pollbroker import MAJORDOMO, PARANOID_PIRATE, Broker, Engine
from pollbroker.rpc import RequestTimeout
from tests.rpc.ends import Ends
from tests.rpc.processes import HEARTBEAT_S
from tests.support.addresses import ANY_PORT
from tests.support.deadline import DEADLINE_S, wait_until
from tests.support.threads import in_thread
from tests.support.tree import TREE

STEADY_S = 60.0
"""The time between heartbeats where nobody is to be taken for dead, however busy the machine is."""

BRISK: Any = {"heartbeat_s": 0.1, "reconnect_s": 0.05, "reconnect_max_s": 0.1, "linger_s": 0.1}
"""For brokers that are lost. Here it does no harm if they seem to be lost when they are not."""


@dataclass(frozen=True)
class Kind:
    """One protocol: its broker, and how its ends are made."""

    name: str
    add: Callable[..., Broker]
    worker_port: str
    client: Callable[..., Any]
    worker: Callable[..., Any]
    expired: str
    """The counter of workers of which nothing was heard for too long."""

    def ask(self, client: Any, *frames: bytes) -> list[bytes]:
        service = () if self.name == "pirate" else ("echo",)
        reply: list[bytes] = client.request(*service, *frames)
        return reply


def add_pirate(engine: Engine, frontend: str = ANY_PORT, backend: str = ANY_PORT, **settings: Any) -> Broker:
    device = PARANOID_PIRATE.with_settings(**{"heartbeat_s": STEADY_S} | settings)
    return engine.add("a", device, frontend=frontend, backend=backend)


def add_majordomo(engine: Engine, frontend: str = ANY_PORT, **settings: Any) -> Broker:
    return engine.add("a", MAJORDOMO.with_settings(**{"heartbeat_s": STEADY_S} | settings), frontend=frontend)


PIRATE = Kind(
    "pirate",
    add_pirate,
    "backend",
    lambda ends, address, **more: ends.PirateClient(address, **more),
    lambda ends, address, **more: ends.PirateWorker(address, **{"heartbeat_s": STEADY_S} | more),
    "expired",
)
MAJORDOMO_1 = Kind(
    "majordomo",
    add_majordomo,
    "frontend",
    lambda ends, address, **more: ends.MajordomoClient(address, **more),
    lambda ends, address, **more: ends.MajordomoWorker(address, "echo", **{"heartbeat_s": STEADY_S} | more),
    "silent",
)


@pytest.fixture(params=[PIRATE, MAJORDOMO_1], ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


class WorkerProcess:
    """A worker in a process of its own. It answers with its name."""

    def __init__(self, kind: Kind, broker: Broker, name: str) -> None:
        command = [sys.executable, "-m", "tests.rpc.processes", kind.name, address(broker, kind.worker_port), name]
        environment = os.environ | {"PYTHONPATH": str(TREE)}
        self.name = name.encode()
        self.process = subprocess.Popen(
            command, cwd=TREE, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def wait_until_it_has_a_request(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "has\n"

    def let_go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=DEADLINE_S)


@pytest.fixture
def start() -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers in processes, which are killed in the end."""
    started: list[WorkerProcess] = []

    def start(*args: Any) -> WorkerProcess:
        started.append(WorkerProcess(*args))
        return started[-1]

    yield start
    for one in started:
        one.end()


def first_of(one: WorkerProcess, another: WorkerProcess) -> tuple[WorkerProcess, WorkerProcess]:
    """The worker that was given the request, and the other."""
    outputs: list[Any] = [process.process.stdout for process in (one, another)]
    ready, _, _ = select.select(outputs, [], [], DEADLINE_S)
    if outputs[0] not in ready:
        one, another = another, one
    one.wait_until_it_has_a_request()
    return one, another


def address(broker: Broker, port: str) -> str:
    (endpoint,) = broker.ports[port].endpoints
    return endpoint


def count(broker: Broker, name: str) -> int:
    return broker.statistics().counters.get(name, 0)


# -- nothing goes wrong ------------------------------------------------------------------------------------------------


def test_requests_are_answered(ends: Ends, running_engine: Engine, kind: Kind) -> None:
    broker = kind.add(running_engine)
    client = kind.client(ends, address(broker, "frontend"))
    workers = [kind.worker(ends, address(broker, kind.worker_port)) for _ in range(2)]
    served = [in_thread(lambda worker=worker: worker.serve(lambda frames: frames)) for worker in workers]  # type: ignore[misc]
    wait_until(lambda: count(broker, "ready") == 2)
    for number in range(20):
        assert kind.ask(client, b"%d" % number, b"") == [b"%d" % number, b""]
    for worker in workers:
        worker.stop()
    for one in served:
        one.result(DEADLINE_S)
    assert count(broker, "given_again") == 0


def test_request_waits_for_a_worker(ends: Ends, running_engine: Engine, kind: Kind) -> None:
    broker = kind.add(running_engine)
    client = kind.client(ends, address(broker, "frontend"), timeout_s=DEADLINE_S)
    reply = in_thread(lambda: kind.ask(client, b"question"))
    worker = kind.worker(ends, address(broker, kind.worker_port))
    served = in_thread(lambda: worker.serve(lambda frames: b"reply"))
    assert reply.result(DEADLINE_S) == [b"reply"]
    worker.stop()
    served.result(DEADLINE_S)


def test_nobody_answers(ends: Ends, running_engine: Engine, kind: Kind) -> None:
    broker = kind.add(running_engine)
    client = kind.client(ends, address(broker, "frontend"), timeout_s=0.02)
    with pytest.raises(RequestTimeout, match=r"\(3 tries\)$"):
        kind.ask(client, b"question")


# -- a worker is gone --------------------------------------------------------------------------------------------------


def test_request_of_a_worker_that_is_stopped_or_killed_is_answered_by_another(
    running_engine: Engine, kind: Kind, start: Callable[..., WorkerProcess]
) -> None:
    broker = kind.add(running_engine, heartbeat_s=HEARTBEAT_S)
    with contextlib.closing(kind.client(pollbroker.rpc, address(broker, "frontend"), timeout_s=DEADLINE_S)) as client:
        first, second = start(kind, broker, "first"), start(kind, broker, "second")
        wait_until(lambda: count(broker, "ready") == 2)
        reply = in_thread(lambda: kind.ask(client, b"hold"))
        one, another = first_of(first, second)

        one.signal(signal.SIGSTOP)
        another.wait_until_it_has_a_request()
        another.let_go()
        assert reply.result(DEADLINE_S) == [another.name]
        assert (count(broker, kind.expired), count(broker, "given_again")) == (1, 1)

        one.let_go()  # it answers, too late, and begins again
        one.signal(signal.SIGCONT)
        wait_until(lambda: count(broker, "ready") == 3)
        reply = in_thread(lambda: kind.ask(client, b"hold"))
        another.wait_until_it_has_a_request()  # which has been free for longest
        another.signal(signal.SIGKILL)
        one.wait_until_it_has_a_request()
        one.let_go()
        assert reply.result(DEADLINE_S) == [one.name]
        assert count(broker, "given_again") == 2


def test_request_is_asked_again_if_it_is_not_given_again(ends: Ends, running_engine: Engine, kind: Kind) -> None:
    broker = kind.add(running_engine, give_again=False, heartbeat_s=BRISK["heartbeat_s"])
    client = kind.client(ends, address(broker, "frontend"), timeout_s=0.2, retries=50)
    leaves = kind.worker(ends, address(broker, kind.worker_port), **BRISK)
    received = in_thread(leaves.receive)
    wait_until(lambda: count(broker, "ready") == 1)
    reply = in_thread(lambda: kind.ask(client, b"question"))
    assert received.result(DEADLINE_S).frames == [b"question"]
    leaves.close()
    stays = kind.worker(ends, address(broker, kind.worker_port), **BRISK)
    served = in_thread(lambda: stays.serve(lambda frames: b"reply"))
    assert reply.result(DEADLINE_S) == [b"reply"]
    assert count(broker, "given_again") == 0
    stays.stop()
    served.result(DEADLINE_S)


# -- the broker is gone ------------------------------------------------------------------------------------------------


def test_broker_that_is_started_again_is_found_again(ends: Ends, kind: Kind) -> None:
    with Engine() as engine:
        broker = kind.add(engine, heartbeat_s=BRISK["heartbeat_s"])
        at = {port: address(broker, port) for port in broker.ports}
        client = kind.client(ends, at["frontend"], timeout_s=0.3, retries=50)
        worker = kind.worker(ends, at[kind.worker_port], **BRISK)
        served = in_thread(lambda: worker.serve(lambda frames: frames))
        assert kind.ask(client, b"1") == [b"1"]
        engine.close(timeout_s=0)
    reply = in_thread(lambda: kind.ask(client, b"2"))
    with Engine() as engine:
        kind.add(engine, **at, heartbeat_s=BRISK["heartbeat_s"])
        assert reply.result(DEADLINE_S) == [b"2"]
        worker.stop()
        served.result(DEADLINE_S)
