"""What the traffic of all programs shares: a process that runs a device, and what can be measured of it from outside.

The peers are plain pyzmq sockets in this one thread, which sends a burst and then receives it: nothing is dropped at a
high-water mark, and a process that has fallen behind is not hidden by queues.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, TypeAlias

import psutil
import zmq

Socket: TypeAlias = "zmq.Socket[bytes]"

BURSTS: Final = 4000
BURST_MESSAGES: Final = 50
"""Few enough for a PUB socket, which drops what is beyond its high-water mark of 1,000. libzmq tells it of what was
read only after 500 messages, and it looks for that only once in a millisecond."""
PAYLOAD: Final = b"x" * 100
WATCHED_S: Final = 2.0
"""How long a CPU is watched."""
SERVING: Final = "serving"
"""What the process of a device prints when it runs."""
DEADLINE_MS: Final = 20_000
"""How long a message, or the end of a process, is waited for."""
PATIENCE_S: Final = 5.0
"""A process that has not ended so long after a signal is said to ignore it, and is killed."""


@contextmanager
def running(*command: str, ready: str = "") -> Iterator[psutil.Popen]:
    """As a context: a process that runs a command, and has printed a line that begins with `ready`. In the end it is
    killed, with its children."""
    process = psutil.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if ready:
            assert any(line.startswith(ready) for line in process.stdout), f"it has ended before it was {ready!r}"
        yield process
    finally:
        family = family_of(process)
        for one in family:
            one.kill()
        psutil.wait_procs(family, timeout=DEADLINE_MS / 1000)
        process.stdin.close()
        process.stdout.close()


def server(program: str, *arguments: str) -> AbstractContextManager[psutil.Popen]:
    """As a context: the process of a program's traffic that runs its device."""
    return running(sys.executable, "-m", f"{__package__}.{program}", "serve", *arguments, ready=SERVING)


def serve_until_end_of_input() -> None:
    """In such a process: say that the device runs, and wait."""
    print(SERVING, flush=True)
    sys.stdin.read()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody used a moment ago."""
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        return [socket.bind_to_random_port("tcp://127.0.0.1") for _ in range(count)]


def tell(figures: dict[str, float | str]) -> None:
    """Print the figures."""
    print(json.dumps(figures), flush=True)


def family_of(process: psutil.Process) -> list[psutil.Process]:
    """A process and its children."""
    return [process, *process.children(recursive=True)] if process.is_running() else []


def count_threads(process: psutil.Process) -> int:
    """How many threads a process and its children have."""
    return sum(one.num_threads() for one in family_of(process))


def cpu_s(process: psutil.Process) -> float:
    """How much CPU time a process and its children have used."""
    return sum(sum(one.cpu_times()[:2]) for one in family_of(process))


def cpu_percent(process: psutil.Process) -> float:
    """How much of one core a process and its children take while nothing is sent."""
    before_s, begun_s = cpu_s(process), time.monotonic()
    time.sleep(WATCHED_S)
    return 100 * (cpu_s(process) - before_s) / (time.monotonic() - begun_s)


def throughput(
    process: psutil.Process, send: Callable[[], object], receive: Callable[[], object], bursts: int = BURSTS
) -> dict[str, float]:
    """Messages/s through a device, in bursts, and what one costs its process."""
    before_s, begun_s = cpu_s(process), time.monotonic()
    for _ in range(bursts):
        for _ in range(BURST_MESSAGES):
            send()
        for _ in range(BURST_MESSAGES):
            receive()
    elapsed_s, used_s, messages = time.monotonic() - begun_s, cpu_s(process) - before_s, bursts * BURST_MESSAGES
    return {"messages/s": messages / elapsed_s, "CPU of the device (µs a message)": 1e6 * used_s / messages}


def seconds_to_end(process: psutil.Process, number: signal.Signals) -> float | str:
    """How long a process takes to end after a signal."""
    begun_s = time.monotonic()
    process.send_signal(number)
    try:
        process.wait(PATIENCE_S)
    except psutil.TimeoutExpired:
        return f"does not end within {PATIENCE_S:.0f} s"
    return time.monotonic() - begun_s


class Peers:
    """Sockets of one context, which are closed at once in the end."""

    def __init__(self) -> None:
        self.context: zmq.Context[Socket] = zmq.Context()

    def __enter__(self) -> "Peers":
        return self

    def __exit__(self, *_: object) -> None:
        self.context.destroy(linger=0)

    def connect(self, socket_type: int, address: str, *, subscribe: bytes | None = None) -> Socket:
        """A socket that is connected, and that waits for a message no longer than the deadline."""
        socket: Socket = self.context.socket(socket_type)
        socket.setsockopt(zmq.RCVTIMEO, DEADLINE_MS)
        socket.setsockopt(zmq.SNDTIMEO, DEADLINE_MS)
        socket.setsockopt(zmq.LINGER, 0)
        if subscribe is not None:
            socket.setsockopt(zmq.SUBSCRIBE, subscribe)
        socket.connect(address)
        return socket

    def publish_until_received(self, publisher: Socket, subscriber: Socket) -> None:
        """Publish until a subscription has taken effect, and receive all of it."""
        deadline_s = time.monotonic() + DEADLINE_MS / 1000
        while not subscriber.poll(50):
            publisher.send(b"are you there?")
            assert time.monotonic() < deadline_s, "the subscriber received nothing"
        while subscriber.poll(200):
            subscriber.recv_multipart()


def send_until_full(socket: Socket, message: list[bytes]) -> None:
    """Send as many as fit, but no more than ten times libzmq's high-water mark: a program may have lifted it."""
    for _ in range(10_000):
        if not socket.poll(500, zmq.POLLOUT):
            return
        socket.send_multipart(message)


def round_trips(process: psutil.Process, client: Socket, worker: Socket) -> dict[str, float]:
    """Requests/s through a queue, from a DEALER client to a DEALER worker and back."""

    def answer() -> None:
        worker.send_multipart(worker.recv_multipart())
        client.recv_multipart()

    def ask() -> None:
        client.send_multipart([b"", PAYLOAD])

    rate_per_s, cost_us = throughput(process, ask, answer, BURSTS // 10).values()
    return {"round trips/s": rate_per_s, "CPU of the device (µs a round trip)": cost_us}


def serve_after_departure(peers: Peers, address: str, worker: Socket) -> str:
    """What becomes of the next client's request when a client has left before its reply."""
    leaving = peers.connect(zmq.DEALER, address)
    leaving.send_multipart([b"", b"leaves"])
    request = worker.recv_multipart()
    leaving.close()
    worker.send_multipart(request)
    staying = peers.connect(zmq.DEALER, address)
    staying.send_multipart([b"", b"stays"])
    worker.send_multipart(worker.recv_multipart())
    return "is served" if staying.recv_multipart()[-1] == b"stays" else "gets another's reply"
