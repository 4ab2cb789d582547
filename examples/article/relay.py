"""The article's own relay copies frames in two threads for each pair of sockets, and never ends. Here three pairs are
handed to one engine: whole messages, one thread, and it can be stopped.

python examples/article/relay.py
"""

import threading

import zmq

from pollbroker import Engine

PAIRS = 3


def ask(context: zmq.Context[zmq.Socket[bytes]], pair: int) -> bytes:
    """Send one request through a pair, answer it at the other end, and return the reply."""
    with context.socket(zmq.REQ) as client, context.socket(zmq.REP) as worker:
        client.connect(f"inproc://frontend-{pair}")
        worker.connect(f"inproc://backend-{pair}")
        client.send_multipart([b"question", b"%d" % pair])
        worker.send_multipart([b"answer", *worker.recv_multipart()])
        return b" ".join(client.recv_multipart())


def main() -> None:
    with zmq.Context() as context:
        with Engine() as engine:
            for pair in range(PAIRS):
                router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
                router.router_mandatory = 1
                router.bind(f"inproc://frontend-{pair}")
                dealer.bind(f"inproc://backend-{pair}")
                engine.register(router, dealer)  # the device is the one that fits the two types of sockets: a queue
            print(f"{threading.active_count() - 1} thread for {PAIRS} pairs of sockets")
            for pair in range(PAIRS):
                print(ask(context, pair).decode())
        context.destroy()  # the sockets are this program's, so it closes them


if __name__ == "__main__":
    main()
