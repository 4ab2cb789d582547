"""A program for each environment: what one may write there, run as a process of its own.

It adds a broker, prints where that is reached, and runs until something ends it. Then it prints what came up at its
outermost call, and what is left.
"""

import textwrap
from typing import Final

_HEAD: Final = """
    import asyncio, sys, threading
    from dataclasses import replace
    import pollbroker, pollbroker.asyncio
    from pollbroker import STREAMER, Route

    def handle(frames):
        if frames == [b"exit"]:
            raise SystemExit(7)
        return frames

    DEVICE = replace(STREAMER, name="handled", routes=[Route("frontend", "backend", via=handle)])
    PORTS = {"frontend": "tcp://127.0.0.1:*", "backend": "tcp://127.0.0.1:*"}

    def tell(broker):
        print(broker.frontend.endpoint, broker.backend.endpoint, flush=True)

    def report(main):
        try:
            main()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}")
"""

_TAIL: Final = """
    report(main)
    print("closed" if engine.closed else "open", *(broker.state for broker in engine.brokers.values()))
    print([thread.name for thread in threading.enumerate() if thread.name.startswith("pollbroker")])
"""

_ASYNCIO: Final = """
    engine = None

    async def serve():
        global engine
        async with pollbroker.asyncio.Engine() as engine:
            tell(await engine.add("a", DEVICE, **PORTS))
            await engine.wait_stopped()

    def main():
        with asyncio.Runner(loop_factory={new_loop}) as runner:
            runner.run(serve())
"""

_SCOPED: Final = """
    import {runner}, pollbroker.{adapter}
    engine = None

    async def serve():
        global engine
        async with pollbroker.{adapter}.Engine() as engine:
            tell(await engine.add("a", DEVICE, **PORTS))
            await engine.wait_stopped()

    def main():
        {runner}.run(serve{more})
"""

_GEVENT: Final = """
    {patch}
    import gevent, pollbroker.gevent
    engine = pollbroker.gevent.Engine()

    def main():
        with engine:
            tell(engine.add("a", DEVICE, **PORTS))
            while True:
                gevent.sleep(3600)
"""

_PROGRAMS: Final = {
    "thread": """
    engine = pollbroker.Engine()

    def main():
        with engine:
            tell(engine.add("a", DEVICE, **PORTS))
            while engine.running:
                threading.Event().wait(0.01)
    """,
    "run": """
    engine = pollbroker.Engine()

    def main():
        try:
            tell(engine.add("a", DEVICE, **PORTS))
            engine.run()
        finally:
            engine.close()
    """,
    "asyncio": _ASYNCIO.format(new_loop="asyncio.new_event_loop"),
    "gevent": _GEVENT.format(patch=""),
    "trio": _SCOPED.format(runner="trio", adapter="trio", more=""),
    "anyio-trio": _SCOPED.format(runner="anyio", adapter="anyio", more=', backend="trio"'),
    "anyio-asyncio": _SCOPED.format(runner="anyio", adapter="anyio", more=""),
    "uvloop": "\n    import uvloop\n" + _ASYNCIO.format(new_loop="uvloop.new_event_loop"),
}


def program(name: str) -> str:
    """The source of the program for the environment of this name."""
    return "".join(textwrap.dedent(part) for part in (_HEAD, _PROGRAMS[name], _TAIL))
