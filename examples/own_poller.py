"""An engine in a program that has a `zmq.Poller` loop of its own, which also polls the engine's descriptor.

python examples/own_poller.py [JOBS, by default 10]
"""

import math
import sys
from contextlib import closing

import zmq

from pollbroker import STREAMER, Engine


def main(count: int = 10) -> None:
    # Only the nested waiter has a descriptor. It is the default, unless POLLBROKER_WAITER says otherwise.
    with (
        zmq.Context() as context,
        context.socket(zmq.PUSH) as pusher,
        context.socket(zmq.PULL) as puller,
        closing(Engine(waiter="nested")) as engine,
    ):
        jobs = engine.add("jobs", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
        pusher.connect(jobs.frontend.endpoint)
        puller.connect(jobs.backend.endpoint)
        for number in range(count):
            pusher.send(f"job {number}".encode())

        poller = zmq.Poller()
        poller.register(engine.fileno(), zmq.POLLIN)
        poller.register(puller, zmq.POLLIN)
        left = count
        while left:
            next_s = engine.next_timer_s()
            ready = dict(poller.poll(None if next_s is None else math.ceil(1000 * next_s)))
            if puller in ready:
                print(puller.recv().decode())
                left -= 1
            engine.step()
        print(f"{jobs.statistics().flows['frontend'].sent} jobs went through")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
