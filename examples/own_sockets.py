"""Instead of `zmq.proxy(frontend, backend)`: the program opens the sockets, and the engine moves the messages.

python examples/own_sockets.py tcp://127.0.0.1:5559 tcp://127.0.0.1:5560

Clients and workers are request.py and respond.py. The sockets stay the program's: the engine sets no option on them and
does not close them. Ctrl-C or SIGTERM ends it.
"""

import signal
import sys
from contextlib import closing

import zmq

from pollbroker import QUEUE, Engine


def main(frontend_endpoint: str, backend_endpoint: str) -> None:
    with (
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as frontend,
        context.socket(zmq.DEALER) as backend,
        closing(Engine()) as engine,
    ):
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, lambda *_: engine.stop())
        # Without this option a ROUTER drops a reply that it cannot deliver, and it is not counted.
        frontend.router_mandatory = 1
        frontend.bind(frontend_endpoint)
        backend.bind(backend_endpoint)
        engine.register(frontend, backend, QUEUE)  # and more pairs, if there are more
        engine.run()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
