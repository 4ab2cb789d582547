"""Several workers for one client: the queue shares out the requests, and passes each reply back as soon as it comes.

pollbroker queue tcp://127.0.0.1:5559 tcp://127.0.0.1:5560
python examples/many_workers.py tcp://127.0.0.1:5559 tcp://127.0.0.1:5560 [COUNT, by default 12]

The workers are threads here. They could as well be processes, each on another machine: start respond.py several times.
"""

import sys
import threading
from contextlib import suppress

import zmq

WORKERS = 3


def work(context: zmq.Context[zmq.Socket[bytes]], backend: str, name: str, answered: dict[str, int]) -> None:
    with context.socket(zmq.REP) as worker:
        worker.connect(backend)
        while True:
            try:
                question = worker.recv_string()
            except zmq.ContextTerminated:
                return
            answered[name] += 1
            worker.send_string(f"{name} answers {question}")


def ask(client: zmq.Socket[bytes], first: int) -> None:
    """Ask as many questions at once as there are workers, and print the replies in the order in which they come."""
    for number in range(first, first + WORKERS):
        # Unlike a REQ, a DEALER can have many requests on the way. It must add the empty frame, which a REQ adds
        # itself.
        client.send_multipart([b"", f"question {number}".encode()])
    for _ in range(WORKERS):
        _, reply = client.recv_multipart()
        print(reply.decode())


def main(frontend: str, backend: str, count: int = 12) -> None:
    answered = {f"worker {number}": 0 for number in range(WORKERS)}
    context = zmq.Context()
    for name in answered:
        threading.Thread(target=work, args=(context, backend, name, answered)).start()
    try:
        with suppress(KeyboardInterrupt), context.socket(zmq.DEALER) as client:
            client.linger = 0  # Ctrl-C ends it at once, even with questions that nobody has taken yet
            client.connect(frontend)
            asked = 0
            while asked < count or 0 in answered.values():  # go on until each worker has connected and answered
                ask(client, asked)
                asked += WORKERS
    finally:
        context.term()  # wakes the workers with ContextTerminated, and waits until they have closed their sockets
    for name, answers in answered.items():
        print(f"{name}: {answers} answers")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))
