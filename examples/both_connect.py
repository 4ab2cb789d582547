"""A client and a worker that both connect, while neither binds: only the queue between them has a fixed address.

pollbroker queue tcp://127.0.0.1:5559 tcp://127.0.0.1:5560
python examples/both_connect.py tcp://127.0.0.1:5559 tcp://127.0.0.1:5560

So either may come and go, on any machine, in any order. You may start this program before the queue: it waits.
"""

import sys
from contextlib import suppress

import zmq


def main(frontend: str, backend: str) -> None:
    with (
        suppress(KeyboardInterrupt),
        zmq.Context() as context,
        context.socket(zmq.REQ) as client,
        context.socket(zmq.REP) as worker,
    ):
        client.linger = 0  # Ctrl-C ends it at once, even with a question that nobody has taken yet
        client.connect(frontend)
        client.send_string("Is anybody there?")
        print("client: connected, and has asked; there is no worker yet")

        worker.connect(backend)
        print(f"worker: connected, and was asked {worker.recv_string()!r}")
        worker.send_string("Yes, since just now.")

        print(f"client: was answered {client.recv_string()!r}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
