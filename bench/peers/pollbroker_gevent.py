"""pollbroker in gevent's hub: each pair is a broker of one `pollbroker.gevent.Engine`."""

from __future__ import annotations

from concurrent.futures import Future

import gevent
import zmq

from bench.peers.own_loop import Addresses, start_thread
from bench.peers.pollbroker_engine import add_all
from bench.ticks import Ticks
from bench.work import Deployment
from pollbroker import DEVICES
from pollbroker.gevent import Engine

TICKS = Ticks()


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> Addresses:
    """Add a broker for every pair to one engine, which runs in a greenlet."""

    def serve(bound: Future[Addresses]) -> None:
        with Engine(context, **deployment.engine) as engine:
            bound.set_result(add_all(engine, deployment, DEVICES[deployment.device]))
            if deployment.ticking:
                TICKS.run_blocking(gevent.sleep)
            engine.wait_stopped()

    return start_thread(serve)
