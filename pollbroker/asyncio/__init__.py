"""The engine of an asyncio program: everything on the running loop, no thread, and what waits is awaited.

from pollbroker import QUEUE
from pollbroker.asyncio import Engine

async with Engine() as engine:
    orders = await engine.add("orders", QUEUE, frontend="tcp://*:5559", backend="tcp://*:5560")

As `zmq.asyncio` is to `zmq`: the same names, and coroutines where the others block. It stands on public methods of
`pollbroker.Engine`. Any loop that has `add_reader` will do, such as uvloop's.
"""

from pollbroker.asyncio.engine import Engine
from pollbroker.awaiting import Adoption, Broker

__all__ = ["Adoption", "Broker", "Engine"]
