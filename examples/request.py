"""A client: asks through a queue, and prints each reply. Connects to the queue's frontend; see respond.py.

pollbroker queue tcp://127.0.0.1:5559 tcp://127.0.0.1:5560
python examples/request.py tcp://127.0.0.1:5559 [COUNT, by default 10]
"""

import sys
from contextlib import suppress

import zmq


def main(endpoint: str, count: int = 10) -> None:
    with suppress(KeyboardInterrupt), zmq.Context() as context, context.socket(zmq.REQ) as client:
        client.linger = 0  # Ctrl-C ends it at once, even with a question that nobody has taken yet
        client.connect(endpoint)
        for number in range(count):
            # A REQ socket sends a request and then waits for the reply. One socket can make any number of requests.
            client.send_string(f"question {number}")
            print(f"question {number}: {client.recv_string()}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
