"""A daemon that is ended under 10,000 messages a second delivers everything that it has."""

import os
import threading
import time

import pytest
import zmq

from tests.daemon.conftest import Write
from tests.support.commands import Run
from tests.support.deadline import wait_until
from tests.support.threads import running
from tests.support.types import Connect

RATE = 10_000
"""Messages a second."""

BATCH_S = 0.002


@pytest.mark.parametrize("kind", ["libzmq", "wire"])
@pytest.mark.parametrize("times", [int(os.environ.get("POLLBROKER_ENDS", "2"))])
def test_nothing_is_left(run: Run, write: Write, connect: Connect, kind: str, times: int) -> None:
    """The daemon is started again, and the PUSH goes on where it was: at ports of the wire nothing is lost at all. At
    libzmq's, what it had sent and libzmq had not read is lost with the connection, and nothing that was read."""
    path = write(
        "[brokers.a]\ndevice = 'streamer'\nfrontend = 'ipc://frontend'\nbackend = 'ipc://backend'\n"
        f"transport = '{kind}'\n"
    )
    pusher = connect(zmq.PUSH, "ipc://frontend", reconnect_ivl=10)
    puller = connect(zmq.PULL, "ipc://backend", reconnect_ivl=10, rcvhwm=0)
    over = threading.Event()
    sent = received = last = total = 0
    losses: list[int] = []

    def send_on() -> None:
        nonlocal sent
        next_s = time.monotonic()
        while not over.is_set():
            for _ in range(int(RATE * BATCH_S)):
                pusher.send(b"%d" % sent)
                sent += 1
            next_s = max(next_s + BATCH_S, time.monotonic() - 1)
            over.wait(next_s - time.monotonic())

    def receive(until: int) -> None:
        """Receive so many messages. Their numbers grow, and those of a port of the wire have no gap."""
        nonlocal received, last
        while received < until:
            number = int(puller.recv())
            assert number == last if kind == "wire" else number >= last
            losses.append(number - last)
            received, last = received + 1, number + 1

    with running(send_on):
        try:
            for _ in range(times):
                command = run("run", str(path))
                command.read_until("ready")
                receive(received + RATE // 2)
                command.process.terminate()
                code, lines, stderr = command.end()
                assert (code, stderr) == (0, "")
                words = lines[-1].replace(",", "").split()
                assert lines[-1] == f"ended  1 broker, {words[3]} received, {words[3]} sent, 0 left"
                total += int(words[3])
                receive(total)
        finally:
            over.set()
    command = run("run", str(path))
    command.read_until("ready")
    wait_until(lambda: puller.poll(0))
    if kind == "wire":
        receive(sent)
    command.process.terminate()
    assert command.end()[0] == 0
    print(f"{kind}: ended {times} times, {sent} messages sent, {received} received, {sum(losses)} lost on the way")
