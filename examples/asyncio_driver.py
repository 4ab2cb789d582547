"""An engine in an asyncio program: asyncio waits for it, and no thread is needed.

python examples/asyncio_driver.py [QUESTIONS, by default 10]
"""

import asyncio
import sys
from contextlib import closing

import zmq
import zmq.asyncio

from pollbroker import QUEUE, Engine


class Driver:
    """Lets an asyncio loop make an engine's turns: when the engine's descriptor is readable, or one of its timers is
    due."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(engine.fileno(), self._turn)
        self._turn()

    def _turn(self) -> None:
        self._engine.step()
        if self._timer is not None:
            self._timer.cancel()
        next_s = self._engine.next_timer_s()
        self._timer = None if next_s is None else self._loop.call_later(next_s, self._turn)

    def stop(self) -> None:
        self._loop.remove_reader(self._engine.fileno())
        if self._timer is not None:
            self._timer.cancel()


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
    # Only the nested waiter has a descriptor. It is the default, unless POLLBROKER_WAITER says otherwise.
    with closing(Engine(waiter="nested")) as engine, zmq.asyncio.Context() as context:
        frontend, backend = engine.add(
            "questions", QUEUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*"
        ).ports.values()
        driver = Driver(engine)
        worker = asyncio.create_task(work(context, backend.endpoints[0]))
        await asyncio.gather(*(ask(context, frontend.endpoints[0], name, count) for name in ("Ada", "Ben")))
        worker.cancel()

        # The engine's timers and calls run in this thread, too, so they may use objects of asyncio.
        done = asyncio.Event()
        engine.call_later(0.01, done.set)
        await done.wait()
        print(f"{engine.statistics().brokers['questions'].flows['frontend'].sent} questions went through")
        driver.stop()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
