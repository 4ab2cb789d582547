"""A daemon that is ended under 10,000 messages a second delivers everything that it has."""

import os
import re
import threading
from contextlib import suppress

import pytest
import zmq

from tests.daemon.conftest import Write
from tests.support.addresses import free_address
from tests.support.commands import Run
from tests.support.threads import running
from tests.support.types import Connect

RATE = 10_000
"""Messages a second."""

BATCH_S = 0.002


@pytest.mark.parametrize("kind", ["libzmq", "wire"])
@pytest.mark.parametrize("times", [int(os.environ.get("POLLBROKER_ENDS", "2"))])
def test_nothing_is_left(run: Run, write: Write, connect: Connect, kind: str, times: int) -> None:
    """The daemon is started again, and the PUSH goes on where it was: at ports of the wire nothing is lost at all. At
    libzmq's, what was on its way when the broker had just come to rest is told as left, or is lost with the connection,
    and nothing that was read."""
    frontend = free_address()
    path = write(
        f"[brokers.a]\ndevice = 'streamer'\nfrontend = '{frontend}'\nbackend = 'ipc://backend'\ntransport = '{kind}'\n"
    )
    pusher = connect(zmq.PUSH, frontend, reconnect_ivl=10)
    puller = connect(zmq.PULL, "ipc://backend", reconnect_ivl=10, rcvhwm=0)
    over = threading.Event()
    sent = received = last = total = 0
    losses: list[int] = []

    def send_on() -> None:
        nonlocal sent
        while not over.wait(BATCH_S):  # at most so many: what could not be written whole would be lost
            with suppress(zmq.Again):  # it waits for a daemon
                for _ in range(int(RATE * BATCH_S)):
                    pusher.send(b"%d" % sent, zmq.DONTWAIT)
                    sent += 1

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
                moved, *_ = map(int, re.findall(r"(\d+) received", lines[-1]))
                assert lines[-1].startswith(f"ended  1 broker, {moved} received, {moved} sent, ")
                if kind == "wire":
                    assert (code, stderr) == (0, "")
                    assert lines[-1].endswith(", 0 left")
                total += moved
                receive(total)
        finally:
            over.set()
    command = run("run", str(path))
    command.read_until("ready")
    receive(sent if kind == "wire" else received + 1)
    command.process.terminate()
    assert kind == "libzmq" or command.end()[0] == 0
    print(f"{kind}: ended {times} times, {sent} messages sent, {received} received, {sum(losses)} lost on the way")
