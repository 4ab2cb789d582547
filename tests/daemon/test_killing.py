"""Processes are killed: the daemon, which is started again; workers and clients, at any moment; and a daemon whose
address another one has."""

import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from pollbroker.daemon import Daemon
from pollbroker.statistics import DROPS
from tests.daemon.conftest import StartDaemon, Write
from tests.support.accounts import balanced
from tests.support.addresses import ANY_PORT, free_address
from tests.support.commands import Run, invoke
from tests.support.deadline import DEADLINE_MS, DEADLINE_S, wait_until
from tests.support.threads import running
from tests.support.types import Connect, Socket

kinds = pytest.mark.parametrize("kind", ["libzmq", "wire"])


def free_addresses(transport: str) -> tuple[str, str]:
    """Two addresses that are free."""
    if transport == "ipc":
        return "ipc://frontend", "ipc://backend"
    return free_address(), free_address()


def queue(frontend: str, backend: str, kind: str, device: str = "queue") -> str:
    return f"[brokers.q]\ndevice = '{device}'\nfrontend = '{frontend}'\nbackend = '{backend}'\ntransport = '{kind}'\n"


# -- the daemon --------------------------------------------------------------------------------------------------------


def ask(client: Socket, question: bytes) -> int:
    """Ask until the answer comes, as a lazy pirate of the ZeroMQ guide. Return how often it was asked again."""
    again = 0
    client.send(question)
    while not client.poll(200):
        again += 1
        assert again * 200 < DEADLINE_MS, f"no answer to {question!r}"
        client.send(question)
    assert client.recv() == b"answer to " + question
    return again


@kinds
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
@pytest.mark.parametrize("times", [int(os.environ.get("POLLBROKER_KILLS", "2"))])
def test_clients_and_workers_go_on_when_a_killed_daemon_is_back(
    run: Run,
    write: Write,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    transport: str,
    times: int,
) -> None:
    """Its successor takes its addresses, the files that it has left, and its control endpoint, which is the default."""
    session = tmp_path / "session"
    session.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
    frontend, backend = free_addresses(transport)
    path = write("[engine]\ntakeover = 'takeover'\n" + queue(frontend, backend, kind))
    client = connect(zmq.REQ, frontend, req_relaxed=True, req_correlate=True, reconnect_ivl=10)
    worker = connect(zmq.REP, backend, reconnect_ivl=10)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            if worker.poll(50):
                worker.send(b"answer to " + worker.recv())

    again = asked = 0
    with running(work):
        try:
            for number in range(times + 1):
                command = run("run", str(path))
                command.read_until("ready")
                for _ in range(20):
                    again += ask(client, b"%d" % asked)
                    asked += 1
                assert invoke("ctl", "list").stdout == "q\n"
                if number < times:
                    command.kill()
        finally:
            over.set()
    command.process.terminate()
    code, _, stderr = command.end()
    assert (code, stderr) == (0, "")
    print(f"{kind} {transport}: killed {times} times, {asked} requests answered, {again} sent again")


@kinds
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_second_daemon_at_an_address_says_so_and_the_first_goes_on(
    run: Run, write: Write, connect: Connect, kind: str, transport: str
) -> None:
    frontend, backend = free_addresses(transport)
    first = run("run", str(write(queue(frontend, backend, kind, "streamer"))))
    first.read_until("ready")
    pusher, puller = connect(zmq.PUSH, frontend), connect(zmq.PULL, backend)
    pusher.send(b"before")
    assert puller.recv() == b"before"
    second = run("run", "brokers.toml")
    assert second.end() == (
        1,
        [],
        f"brokers.toml:3: brokers.q.frontend: @{frontend}: cannot bind: Address already in use\n"
        f"brokers.toml:4: brokers.q.backend: @{backend}: cannot bind: Address already in use\n",
    )
    for sender, receiver in ((pusher, puller), (connect(zmq.PUSH, frontend), puller)):
        sender.send(b"after")
        assert receiver.recv() == b"after"
    first.process.terminate()
    assert first.end()[0] == 0


# -- peers -------------------------------------------------------------------------------------------------------------

PEER = """
import sys
import zmq

kind, address = sys.argv[1:]
with zmq.Context() as context, context.socket(getattr(zmq, kind)) as peer:
    peer.linger = 0
    if kind == "REQ":
        peer.req_relaxed = peer.req_correlate = True
    peer.connect(address)
    number = 0
    while True:
        if kind == "REQ":
            peer.send(b"question")
            while not peer.poll(100):
                peer.send(b"question")
            assert peer.recv() == b"question"
        elif kind == "REP":
            peer.send(peer.recv())
        elif kind == "PUSH":
            peer.send(b"%d" % number)
            number += 1
        else:
            peer.recv()
"""


class Peers:
    """Peers of one kind, in processes of their own, of which one at a time is killed and replaced."""

    def __init__(self, kind: str, address: str, number: int) -> None:
        self._arguments = (kind, address)
        self._alive = [self._start() for _ in range(number)]

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-c", PEER, *self._arguments],
            stderr=subprocess.DEVNULL,
        )

    def kill_one(self, chance: random.Random) -> None:
        at = chance.randrange(len(self._alive))
        self._end(self._alive[at])
        self._alive[at] = self._start()

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        process.kill()
        process.communicate(timeout=DEADLINE_S)

    def kill_all(self) -> None:
        while self._alive:
            self._end(self._alive.pop())


@pytest.fixture
def peers() -> Iterator[list[Peers]]:
    """Peers that are killed at the end of the test."""
    made: list[Peers] = []
    yield made
    for several in made:
        several.kill_all()


@kinds
@pytest.mark.slow
@pytest.mark.parametrize(("device", "client", "worker"), [("queue", "REQ", "REP"), ("streamer", "PUSH", "PULL")])
@pytest.mark.parametrize("times", [int(os.environ.get("POLLBROKER_KILLS", "3"))])
def test_peers_that_are_killed_spoil_no_account_and_the_others_are_served(
    write: Write,
    start_daemon: StartDaemon,
    connect: Connect,
    peers: list[Peers],
    kind: str,
    device: str,
    client: str,
    worker: str,
    times: int,
) -> None:
    """At each moment: received + added = sent + held + dropped, and each drop has a name."""
    daemon = start_daemon(write(queue(ANY_PORT, ANY_PORT, kind, device)))
    ports = daemon.engine.brokers["q"].ports
    peers += [Peers(client, ports["frontend"].endpoint, 2), Peers(worker, ports["backend"].endpoint, 2)]
    chance = random.Random(times)
    for _ in range(times):
        for several in peers:
            wait_until_more_passes(daemon, 20)
            several.kill_one(chance)
            check_account(daemon)
    wait_until_more_passes(daemon, 100)
    for several in peers:
        several.kill_all()
    check_account(daemon)
    statistics = daemon.engine.broker_statistics("q")
    print(kind, device, times, {source: vars_of(flow) for source, flow in statistics.flows.items()})


def wait_until_more_passes(daemon: Daemon, number: int) -> None:
    """Wait until the sinks have taken so many more messages."""
    sent = sum(flow.sent for flow in daemon.engine.broker_statistics("q").flows.values())
    wait_until(lambda: sum(flow.sent for flow in daemon.engine.broker_statistics("q").flows.values()) >= sent + number)


def check_account(daemon: Daemon) -> None:
    for source, flow in daemon.engine.broker_statistics("q").flows.items():
        assert balanced(flow), f"{source}: {flow}"
        assert flow.dropped == sum(getattr(flow, rule) for rule in DROPS), f"{source}: {flow}"


def vars_of(flow: Any) -> dict[str, int]:
    names = ("received", "sent", "held", "added", "dropped", *DROPS)
    return {name: getattr(flow, name) for name in names if getattr(flow, name)}
