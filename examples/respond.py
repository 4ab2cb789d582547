"""A worker: answers what comes through a queue. Connects to the queue's backend; start as many as you like.

pollbroker queue tcp://127.0.0.1:5559 tcp://127.0.0.1:5560
python examples/respond.py tcp://127.0.0.1:5560 [COUNT, by default until Ctrl-C]
"""

import sys
from contextlib import suppress
from itertools import count, islice

import zmq


def main(endpoint: str, limit: int | None = None) -> None:
    with suppress(KeyboardInterrupt), zmq.Context() as context, context.socket(zmq.REP) as worker:
        worker.connect(endpoint)
        for _ in islice(count(), limit):
            question = worker.recv_string()
            # The queue put the client's address before the question. REP keeps it, and puts it before the reply.
            worker.send_string(f"the answer to {question}")
            print(f"answered {question}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
