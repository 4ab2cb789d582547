"""A pusher: hands out jobs through a streamer. Connects to the streamer's frontend; see pull.py.

pollbroker streamer tcp://127.0.0.1:5563 tcp://127.0.0.1:5564
python examples/push.py tcp://127.0.0.1:5563 [COUNT, by default 10]
"""

import sys
from contextlib import suppress

import zmq


def main(endpoint: str, count: int = 10) -> None:
    # Leaving the block waits until everything is sent, however long that takes. So the streamer may be started later.
    with suppress(KeyboardInterrupt), zmq.Context() as context, context.socket(zmq.PUSH) as pusher:
        pusher.connect(endpoint)
        for number in range(count):
            pusher.send_string(f"job {number}")
            print(f"pushed job {number}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1], *map(int, sys.argv[2:]))
