"""A relay on `zmq.asyncio`: a task for each direction of each pair, whole messages, one event loop in one thread."""

from __future__ import annotations

import asyncio
import threading

import zmq
import zmq.asyncio

from bench.peers.sockets import DEVICES, addresses, bound_pairs
from bench.work import Deployment


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair and relay for all of them in one event loop."""
    pairs = bound_pairs(context, deployment)
    bound = addresses(pairs)  # read before another thread uses the sockets
    relays = _relay_all(pairs, two_way=DEVICES[deployment.device].two_way)
    threading.Thread(target=asyncio.run, args=(relays,), daemon=True).start()
    return bound


async def _relay_all(pairs: list[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]], *, two_way: bool) -> None:
    async with asyncio.TaskGroup() as tasks:
        for pair in pairs:
            frontend, backend = (zmq.asyncio.Socket.shadow(socket) for socket in pair)
            tasks.create_task(_relay(frontend, backend))
            if two_way:
                tasks.create_task(_relay(backend, frontend))


async def _relay(source: zmq.asyncio.Socket, sink: zmq.asyncio.Socket) -> None:
    while True:
        await sink.send_multipart(await source.recv_multipart())
