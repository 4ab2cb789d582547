"""An engine in an asyncio program: asyncio waits for it, and no thread is needed.

python examples/asyncio_engine.py [QUESTIONS, by default 10]
"""

import asyncio
import sys

import zmq
import zmq.asyncio

from pollbroker import QUEUE
from pollbroker.asyncio import Engine


async def work(context: zmq.asyncio.Context, endpoint: str) -> None:
    with context.socket(zmq.REP) as worker:
        worker.connect(endpoint)
        while True:
            await worker.send(b"reply to " + await worker.recv())


async def ask(context: zmq.asyncio.Context, endpoint: str, name: str, count: int) -> None:
    with context.socket(zmq.REQ) as client:
        client.connect(endpoint)
        for number in range(count):
            await client.send(f"{name}'s question {number}".encode())
            print((await client.recv()).decode())


async def main(count: int = 10) -> None:
    with zmq.asyncio.Context() as context:
        async with Engine() as engine:
            queue = await engine.add("questions", QUEUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
            worker = asyncio.create_task(work(context, queue.backend.endpoint))
            await asyncio.gather(*(ask(context, queue.frontend.endpoint, name, count) for name in ("Ada", "Ben")))
            worker.cancel()

            # The engine's timers run in this thread, too, so they may use objects of asyncio.
            done = asyncio.Event()
            engine.sync.call_later(0.01, done.set)
            await done.wait()
            print(f"{queue.statistics().flows['frontend'].sent} questions went through")


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
