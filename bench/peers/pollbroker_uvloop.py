"""pollbroker on uvloop, an event loop for asyncio that is written in Cython."""

from __future__ import annotations

import uvloop
import zmq

from bench.peers.own_loop import Addresses, start_thread
from bench.peers.pollbroker_asyncio import TICKS, serve
from bench.work import Deployment

__all__ = ["TICKS", "start"]


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> Addresses:
    """Add a broker for every pair to one engine, on uvloop."""
    return start_thread(lambda bound: uvloop.run(serve(context, deployment, bound)))
