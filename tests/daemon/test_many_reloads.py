"""Many reloads under traffic: nobody who connects is refused, and nothing is lost."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import zmq

from tests.daemon.conftest import Write
from tests.support.commands import Command, Run
from tests.support.deadline import DEADLINE_MS, wait_until
from tests.support.types import Connect, Socket

TIMES = int(os.environ.get("POLLBROKER_RELOADS", "8"))

kinds = pytest.mark.parametrize("kind", ["libzmq", "wire"])


def broker(name: str, device: str, kind: str, more: str = "") -> str:
    return (
        f"[brokers.{name}]\ndevice = '{device}'\nfrontend = 'ipc://{name}.f'\nbackend = 'ipc://{name}.b'\n"
        f"transport = '{kind}'\n{more}\n"
    )


def variants(kind: str, name: str, device: str) -> tuple[str, str]:
    """Two files: in both are `same` and `queue`; a broker is there or not; one is changed, by its limit of frames."""
    head = "[engine]\ncontrol = 'ipc://control'\ndrain_timeout_s = 10\n" + broker("same", "streamer", kind)
    first = head + broker("coming", "streamer", kind) + broker(name, device, kind, "maxframes = 100")
    return first, head + broker(name, device, kind, "maxframes = 200")


class Reloads:
    """Has the file of a daemon read again, and waits until that is done."""

    def __init__(self, command: Command, write: Write, files: tuple[str, ...]) -> None:
        self._command, self._write, self._files = command, write, files
        self.made = 0

    def reload(self) -> None:
        self.made += 1
        self._write(self._files[self.made % len(self._files)])
        self._command.process.send_signal(signal.SIGHUP)
        coming = "0 added, 1 changed, 1 removed" if self.made % 2 else "1 added, 1 changed, 0 removed"
        expected = f"reloaded  {coming}, 1 unchanged"
        self._command.lines.clear()
        assert self._command.read_until("reloaded")[-1] == expected


@contextmanager
def in_threads(*calls: Callable[[], object]) -> Iterator[None]:
    """Calls in threads, which are waited for at the end. What they raise is raised then."""
    failures: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - it is raised again
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join()
    for failure in failures:
        raise failure


class Stream:
    """A PUSH that sends as fast as it is let, and a PULL that takes everything in order."""

    def __init__(self, pusher: Socket, puller: Socket) -> None:
        self._pusher, self._puller = pusher, puller
        self.sent = self.received = 0
        self.over = threading.Event()
        self._all_sent = threading.Event()

    def send(self) -> None:
        try:
            while not self.over.is_set():
                self._pusher.send(b"%d" % self.sent)
                self.sent += 1
        finally:
            self._all_sent.set()

    def receive(self) -> None:
        while not (self._all_sent.is_set() and self.received >= self.sent):
            if self._puller.poll(50):
                assert self._puller.recv() == b"%d" % self.received
                self.received += 1


def connecting(paths: tuple[str, ...], refused: list[OSError]) -> Callable[[threading.Event], None]:
    """Connects to sockets again and again, until the event is set."""

    def connect_on(over: threading.Event) -> None:
        while not over.is_set():
            for path in paths:
                try:
                    with socket.socket(socket.AF_UNIX) as one:
                        one.connect(path)
                except OSError as error:
                    refused.append(error)

    return connect_on


@pytest.mark.parametrize(("kind", "name"), [("libzmq", "same"), ("wire", "same"), ("wire", "changed")])
@pytest.mark.parametrize("times", [TIMES])
def test_broker_loses_nothing_and_nobody_is_refused(
    run: Run, write: Write, connect: Connect, kind: str, name: str, times: int
) -> None:
    """A PUSH at full rate through a broker that stays as it is, or is changed and keeps its connections, while others
    come, change and go."""
    files = variants(kind, "changed", "streamer")
    command = run("run", str(write(files[0])))
    command.read_until("ready")
    reloads = Reloads(command, write, files)
    stream = Stream(connect(zmq.PUSH, f"ipc://{name}.f"), connect(zmq.PULL, f"ipc://{name}.b"))
    refused: list[OSError] = []
    connect_on = connecting(("same.f", "changed.f", "changed.b"), refused)
    with in_threads(stream.send, stream.receive, lambda: connect_on(stream.over)):
        try:
            for _ in range(times):
                before = stream.received
                reloads.reload()
                wait_until(lambda: stream.received > before)  # noqa: B023 - it is called here
        finally:
            stream.over.set()
    assert refused == []
    assert stream.received == stream.sent
    check_end(command)
    print(f"{kind}, {name}: {times} reloads, {stream.sent} messages sent, {stream.received} received, 0 refused")


class Lockstep:
    """A client that asks one thing after the other, and asks again if no answer comes (a lazy pirate of the ZeroMQ
    guide)."""

    def __init__(self, client: Socket) -> None:
        self._client = client
        client.req_relaxed = client.req_correlate = True
        self.answered = self.retries = 0

    def ask(self, again_ms: int = 500) -> None:
        """Ask the next question until the answer to it comes."""
        question = b"%d" % self.answered
        self._client.send(question)
        waited_ms = 0
        while not self._client.poll(again_ms):
            waited_ms += again_ms
            assert waited_ms < DEADLINE_MS, f"no answer to {question!r}"
            self.retries += 1
            self._client.send(question)
        assert self._client.recv() == b"answer to " + question
        self.answered += 1


def answer_on(worker: Socket, over: threading.Event) -> None:
    """Answer what is asked, until the event is set."""
    while not over.is_set():
        while worker.poll(50):
            worker.send(b"answer to " + worker.recv())


@kinds
@pytest.mark.parametrize("times", [TIMES])
def test_clients_of_a_changed_queue_go_on(run: Run, write: Write, connect: Connect, kind: str, times: int) -> None:
    """Requests and replies, one after the other, through a queue that is replaced. Ports of the wire keep their
    connections. With libzmq a request that was under way to the old broker may have to be sent again, and a reply that
    comes to the new one is dropped by name."""
    files = variants(kind, "changed", "queue")
    command = run("run", str(write(files[0])))
    command.read_until("ready")
    reloads = Reloads(command, write, files)
    client, worker = Lockstep(connect(zmq.REQ, "ipc://changed.f")), connect(zmq.REP, "ipc://changed.b")
    asked, answered = threading.Event(), threading.Event()

    def ask_on() -> None:
        try:
            while not asked.is_set():
                client.ask()
        finally:
            answered.set()

    with in_threads(ask_on, lambda: answer_on(worker, answered)):
        try:
            for _ in range(times):
                before = client.answered
                reloads.reload()
                wait_until(lambda: client.answered > before)  # noqa: B023 - it is called here
        finally:
            asked.set()
    command.process.terminate()
    code, _, stderr = command.end()
    assert code == 0
    if kind == "wire":
        assert (client.retries, stderr) == (0, "")
    told = stderr.splitlines()  # each request that was lost with its connection, and each reply that came too late
    assert all("brokers.changed" in line and (": unroutable: " in line or "1 message lost" in line) for line in told)
    print(f"{kind}: {times} reloads, {client.answered} requests answered, {client.retries} sent again")


def check_end(command: Command) -> None:
    """End a daemon, which is to have nothing left, and to have had no reason to complain."""
    command.process.terminate()
    code, lines, stderr = command.end()
    assert (code, stderr) == (0, "")
    assert lines[-1].endswith(" 0 left")
