"""A load balancer of your own: each request goes to the worker that has been free for longest.

One of the three workers takes a request and leaves without an answer. After a time limit its request is given to
another, so that every question is answered. docs/howto/behaviour.md explains how such a broker is made and tested.
"""

import threading
import time
from collections import deque
from collections.abc import Hashable

import zmq

from pollbroker import Behaviour, Device, Engine

QUESTIONS = 12
WORKERS = 3
LIMIT_S = 0.2


class Balancer(Behaviour):
    """Between clients and workers that are REQ sockets. A worker says READY once."""

    max_held = 100

    def __init__(self) -> None:
        self.free: deque[bytes] = deque()
        self.given: dict[bytes, list[bytes]] = {}  # the request of each busy worker

    @property
    def held(self) -> int:
        return len(self.given)

    def on_start(self) -> None:
        self.close("frontend")  # until a worker is free

    def on_message(self, port: str, frames: list[bytes]) -> None:
        if port == "frontend":
            self.give(frames)
            return
        worker, _, *reply = frames
        if reply == [b"READY"]:
            self.count("ready")
        elif self.given.pop(worker, None) is not None:
            self.cancel_timer(worker)
            self.send("frontend", reply)
        else:
            self.count("late")  # its request was given to another in the meantime
        self.free.append(worker)
        self.open("frontend")

    def give(self, request: list[bytes]) -> None:
        worker = self.free.popleft()
        self.given[worker] = request
        self.set_timer(worker, LIMIT_S)
        self.send("backend", [worker, b"", *request])
        if not self.free or self.held == self.max_held:
            self.close("frontend")

    def on_timer(self, key: Hashable) -> None:
        assert isinstance(key, bytes)
        if self.free:
            self.count("given again")
            self.give(self.given.pop(key))
        else:
            self.set_timer(key, LIMIT_S)  # when a worker is free again


BALANCER = Device(
    "balancer",
    ports={"frontend": zmq.ROUTER, "backend": zmq.ROUTER},
    behaviour=Balancer,
    options={"frontend": {"router_mandatory": 1}, "backend": {"router_mandatory": 1}},
)


def work(context: zmq.Context[zmq.Socket[bytes]], backend: str, name: str, leaves: bool) -> None:
    with context.socket(zmq.REQ) as worker:
        worker.connect(backend)
        worker.send(b"READY")
        while True:
            try:
                client, empty, question = worker.recv_multipart()
            except zmq.ContextTerminated:
                return
            if leaves:
                return
            worker.send_multipart([client, empty, question + b" is answered by " + name.encode()])


def main() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with Engine() as engine:
        broker = engine.add("tasks", BALANCER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        for number in range(WORKERS):
            arguments = (context, broker.ports["backend"].endpoint, f"worker {number}", number == 2)
            threading.Thread(target=work, args=arguments).start()
        while broker.statistics().counters.get("ready", 0) < WORKERS:
            time.sleep(0.01)  # so that each of them gets a request
        with context.socket(zmq.DEALER) as client:
            client.connect(broker.ports["frontend"].endpoint)
            for number in range(QUESTIONS):
                client.send_multipart([b"", f"question {number}".encode()])
            for _ in range(QUESTIONS):
                print(client.recv_multipart()[-1].decode())
        print(f"given again: {broker.statistics().counters.get('given again', 0)}")
        context.term()  # wakes the workers, and waits until they have closed their sockets


if __name__ == "__main__":
    main()
