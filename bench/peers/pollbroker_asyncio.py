"""pollbroker on the loop of asyncio: each pair is a broker of one `pollbroker.asyncio.Engine`."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import zmq

from bench.peers.own_loop import Addresses, start_thread
from bench.peers.pollbroker_engine import add_all
from bench.ticks import Ticks
from bench.work import Deployment
from pollbroker import DEVICES
from pollbroker.asyncio import Engine

TICKS = Ticks()


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> Addresses:
    """Add a broker for every pair to one engine, on asyncio's own loop."""
    return start_thread(lambda bound: asyncio.run(serve(context, deployment, bound)))


async def serve(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment, bound: Future[Addresses]) -> None:
    """Run the engine on the loop that runs this."""
    async with Engine(context, **deployment.engine) as engine:
        bound.set_result(add_all(engine.sync, deployment, DEVICES[deployment.device]))
        if deployment.ticking:
            await TICKS.run(asyncio.sleep)
        await engine.wait_stopped()
