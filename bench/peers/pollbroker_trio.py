"""pollbroker in a task of trio: each pair is a broker of one `pollbroker.trio.Engine`."""

from __future__ import annotations

from concurrent.futures import Future

import trio
import zmq

from bench.peers.own_loop import Addresses, start_thread
from bench.peers.pollbroker_engine import add_all
from bench.ticks import Ticks
from bench.work import Deployment
from pollbroker import DEVICES
from pollbroker.trio import Engine

TICKS = Ticks()


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> Addresses:
    """Add a broker for every pair to one engine, in a task of trio."""

    async def serve(bound: Future[Addresses]) -> None:
        async with Engine(context, **deployment.engine) as engine:
            bound.set_result(add_all(engine.sync, deployment, DEVICES[deployment.device]))
            if deployment.ticking:
                await TICKS.run(trio.sleep)
            await engine.wait_stopped()

    return start_thread(lambda bound: trio.run(serve, bound))
