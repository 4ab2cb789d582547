"""The queue of the article: clients and workers that both connect, and a broker between them that is all that binds.

python examples/article/queue_device.py
"""

import threading

import zmq

from pollbroker import QUEUE, Engine

REQUESTS = 10


def work(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
    """Answer as many requests as there will be."""
    with context.socket(zmq.REP) as worker:
        worker.connect(endpoint)
        for _ in range(REQUESTS):
            worker.send(b"x-" + worker.recv())


def main() -> None:
    with zmq.Context() as context, Engine() as engine:
        broker = engine.add("queue", QUEUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        worker = threading.Thread(target=work, args=(context, broker.backend.endpoint))
        worker.start()
        with context.socket(zmq.REQ) as client:
            client.connect(broker.frontend.endpoint)
            for number in range(REQUESTS):
                client.send(b"%d" % number)
                print(client.recv().decode())
        worker.join()


if __name__ == "__main__":
    main()
