"""Kills a Titanic broker again and again at random moments, and looks for every request that it had accepted.

More rounds than the tests make, from another seed:

    python -m tests.support.killing 100 7
"""

import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack
from pathlib import Path

import zmq

from pollbroker.patterns.majordomo import mdp
from pollbroker.patterns.titanic import frames as titanic_frames
from tests.support.deadline import DEADLINE_S
from tests.support.types import Socket

_BROKER = """
import sys
from pollbroker import TITANIC, Engine

endpoint, path = sys.argv[1:3]
with Engine() as engine:
    engine.add("a", TITANIC.with_settings(path=path, heartbeat_s=0.1, liveness=100), frontend=endpoint)
    print("ready", flush=True)
    sys.stdin.read()
"""

_AT_A_TIME = 20
"""So many requests of the client wait to be accepted."""


class Life:
    """One life of the broker, with a client and a worker on sockets of their own."""

    def __init__(self, directory: Path, context: "zmq.Context[Socket]", traffic: "Traffic") -> None:
        endpoint = f"ipc://{directory}/broker"
        self._ends = ExitStack()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _BROKER, endpoint, str(directory / "titanic.db")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._ends.callback(self.process.communicate, timeout=DEADLINE_S)
        self._ends.callback(self.process.kill)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"
        self.client, self.worker = (self._connect(context, endpoint) for _ in range(2))
        self.worker.send_multipart(mdp.worker_ready(b"echo"))
        self.traffic = traffic
        self.waiting: deque[bytes] = deque()
        """The questions that were not accepted yet, in the order in which they were asked."""

    def _connect(self, context: "zmq.Context[Socket]", endpoint: str) -> Socket:
        socket = context.socket(zmq.DEALER)
        self._ends.callback(socket.close, linger=0)
        socket.connect(endpoint)
        return socket

    def ask(self, service: bytes, *body: bytes) -> None:
        self.client.send_multipart(mdp.client_request(service, body))

    def work(self, timeout_s: float) -> list[bytes] | None:
        """Let the worker answer what it is asked. Returns the next answer that the client is given."""
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0:
            ready = zmq.select([self.client, self.worker], [], [], left_s)[0]
            if self.worker in ready:
                message = mdp.parse_to_worker(self.worker.recv_multipart())
                assert message is not None
                if message.command is mdp.REQUEST:
                    self.worker.send_multipart(mdp.worker_reply(message.client, [b"answer to " + message.body[0]]))
            if self.client in ready:
                reply = mdp.parse_client_reply(self.client.recv_multipart())
                assert reply is not None
                return list(reply.body)
        return None

    def store(self, timeout_s: float) -> None:
        """Store requests, as many as the broker accepts in this time."""
        end_s = time.monotonic() + timeout_s
        while (left_s := end_s - time.monotonic()) > 0:
            while len(self.waiting) < _AT_A_TIME:
                self.waiting.append(self.traffic.question())
                self.ask(titanic_frames.REQUEST, b"echo", self.waiting[-1])
            body = self.work(left_s)
            if body is not None:
                status, uuid = body
                assert status == titanic_frames.OK
                self.traffic.accepted[uuid] = self.waiting.popleft()

    def kill(self) -> None:
        self._ends.close()


class Traffic:
    """What the client has asked, and what was accepted."""

    def __init__(self) -> None:
        self.asked = 0
        self.accepted: dict[bytes, bytes] = {}

    def question(self) -> bytes:
        self.asked += 1
        return b"%d" % self.asked


def kill_again_and_again(directory: Path, rounds: int, seed: int) -> int:
    """Kill a broker so many times while requests are stored and answered. Then look for the answer to each request that
    was accepted. Returns how many these were."""
    chance = random.Random(seed)
    traffic = Traffic()
    with zmq.Context() as context:
        for _ in range(rounds):
            life = Life(directory, context, traffic)
            try:
                life.store(chance.uniform(0.0, 0.3))
            finally:
                life.kill()
        life = Life(directory, context, traffic)
        try:
            for uuid, question in traffic.accepted.items():
                check_answer(life, uuid, question)
        finally:
            life.kill()
    return len(traffic.accepted)


def check_answer(life: Life, uuid: bytes, question: bytes) -> None:
    """Ask until there is an answer, and check that it is the right one."""
    end_s = time.monotonic() + DEADLINE_S
    while True:
        life.ask(titanic_frames.REPLY, uuid)
        body = life.work(DEADLINE_S)
        assert body is not None, "the broker is silent"
        if body != [titanic_frames.PENDING]:
            assert body == [titanic_frames.OK, b"answer to " + question]
            return
        assert time.monotonic() < end_s, f"request {question!r} has no answer"
        life.work(0.01)


def main() -> None:
    rounds, seed = (int(argument) for argument in sys.argv[1:3])
    with tempfile.TemporaryDirectory() as directory:
        accepted = kill_again_and_again(Path(directory), rounds, seed)
    print(f"{accepted} requests were accepted in {rounds} lives, and every one has its answer")


if __name__ == "__main__":
    main()
