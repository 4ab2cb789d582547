"""The engine of an anyio program: that of `pollbroker.trio` or of `pollbroker.asyncio`, whichever anyio runs on.

from pollbroker import QUEUE
from pollbroker.anyio import Engine

async with Engine() as engine:
    orders = await engine.add("orders", QUEUE, frontend="tcp://*:5559", backend="tcp://*:5560")

Both have the same methods, and a scope of anyio cancels what is awaited on either, so there is nothing to adapt but the
choice.
"""

from typing import Any

import zmq

from pollbroker.awaiting import Adoption, AwaitedEngine, Broker
from pollbroker.calls import runs_trio

__all__ = ["Adoption", "Broker", "Engine"]


def Engine(
    context: zmq.Context[Any] | None = None,
    *,
    burst_messages: int = 1000,
    burst_bytes: int = 1 << 20,
    pump: str | None = None,
) -> AwaitedEngine:
    """Return an engine for the loop that runs: `pollbroker.trio.Engine` or `pollbroker.asyncio.Engine`, which see.

    To be called, as anyio's own functions, where a loop runs, and used as `async with Engine() as engine:`.
    """
    # Only the one that is needed is imported: trio need not be there.
    if runs_trio():
        from pollbroker.trio import Engine as chosen
    else:
        from pollbroker.asyncio import Engine as chosen  # type: ignore[assignment]
    return chosen(context, burst_messages=burst_messages, burst_bytes=burst_bytes, pump=pump)
