"""Peers of MDP and of Titanic on real sockets: raw frames, in this process or in one of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.majordomo.mdp import ClientReply, Command, Version, WorkerMessage
from pollbroker.patterns.titanic import frames as titanic_frames
from tests.support.deadline import DEADLINE_S
from tests.support.types import Socket

_WORKER = """
import sys
import zmq
from pollbroker.patterns.majordomo import mdp

endpoint, service, answers, heartbeat_s = sys.argv[1:5]
context = zmq.Context()
while True:  # a new socket for each connection
    worker = context.socket(zmq.DEALER)
    worker.linger = 0
    worker.connect(endpoint)
    worker.send_multipart(mdp.worker_ready(service.encode()))
    print("ready", flush=True)
    while True:
        if not worker.poll(float(heartbeat_s) * 1000):
            worker.send_multipart(mdp.worker_heartbeat())
            continue
        message = mdp.parse_to_worker(worker.recv_multipart())
        if message.command is mdp.DISCONNECT:
            break
        if message.command is mdp.REQUEST:
            print("request", flush=True)
            if answers == "yes":
                worker.send_multipart(mdp.worker_reply(message.client, [b"answer to " + message.body[0]]))
    worker.close()
"""


@contextmanager
def worker_process(
    endpoint: str, service: str = "echo", *, answers: bool = True, heartbeat_s: float = 0.05
) -> Iterator["subprocess.Popen[str]"]:
    """A worker in a process of its own. It says `ready` whenever it has registered, and `request` for each request."""
    arguments = [endpoint, service, "yes" if answers else "no", str(heartbeat_s)]
    process = subprocess.Popen([sys.executable, "-c", _WORKER, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_S)


def expect(process: "subprocess.Popen[str]", line: str) -> None:
    """Wait until a worker's process says this."""
    assert process.stdout is not None
    assert process.stdout.readline().strip() == line


def ask(client: Socket, service: bytes, *body: bytes, version: Version = 1) -> None:
    """Send a request from a DEALER."""
    client.send_multipart(mdp.client_request(service, body, version))


def answer(client: Socket) -> ClientReply:
    """The next answer at a DEALER."""
    reply = mdp.parse_client_reply(client.recv_multipart())
    assert reply is not None
    return reply


def call(client: Socket, service: bytes, *body: bytes) -> list[bytes]:
    """Ask a service, and return the body of its answer."""
    ask(client, service, *body)
    return answer(client).body


def store(client: Socket, service: bytes, *body: bytes) -> bytes:
    """Store a request, and return its UUID."""
    status, uuid = call(client, titanic_frames.REQUEST, service, *body)
    assert status == titanic_frames.OK
    return uuid


def ready(worker: Socket, service: bytes = b"echo", version: Version = 1) -> None:
    """Register a DEALER as a worker."""
    worker.send_multipart(mdp.worker_ready(service, version))


def next_of(worker: Socket, command: Command) -> WorkerMessage:
    """The next message of this kind at a worker; heartbeats before it are passed over."""
    while True:
        message = mdp.parse_to_worker(worker.recv_multipart())
        assert message is not None
        if message.command is command:
            return message
        assert message.command is mdp.HEARTBEAT


def work(worker: Socket, version: Version = 1) -> bytes:
    """Answer the next request. Returns what was asked."""
    message = next_of(worker, mdp.REQUEST)
    worker.send_multipart(mdp.worker_reply(message.client, [b"answer to " + message.body[0]], version))
    return message.body[0]
