"""An engine in a tornado program: its loop is asyncio's, so the engine is that of `pollbroker.asyncio`.

python examples/tornado_engine.py [QUESTIONS, by default 10]
"""

import asyncio
import sys

import zmq
import zmq.asyncio
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from pollbroker import QUEUE
from pollbroker.asyncio import Engine


class Ask(RequestHandler):
    """Asks the workers behind the queue, and answers with what they say."""

    def initialize(self, context: zmq.asyncio.Context, endpoint: str) -> None:
        self.context = context
        self.endpoint = endpoint

    async def get(self, question: str) -> None:
        with self.context.socket(zmq.REQ) as client:
            client.connect(self.endpoint)
            await client.send_string(question)
            self.finish(await client.recv())


async def work(context: zmq.asyncio.Context, endpoint: str) -> None:
    with context.socket(zmq.REP) as worker:
        worker.connect(endpoint)
        while True:
            await worker.send(b"reply to " + await worker.recv())


async def main(count: int = 10) -> None:
    async with Engine() as engine:
        with zmq.asyncio.Context() as context:
            queue = await engine.add("queue", QUEUE, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")
            worker = asyncio.create_task(work(context, queue.backend.endpoint))
            arguments = {"context": context, "endpoint": queue.frontend.endpoint}
            server = HTTPServer(Application([("/(.*)", Ask, arguments)]))
            sockets = bind_sockets(0, "127.0.0.1")
            server.add_sockets(sockets)
            url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
            client = AsyncHTTPClient()
            for reply in await asyncio.gather(*(client.fetch(f"{url}/{number}") for number in range(count))):
                print(reply.body.decode())
            print(f"{queue.statistics().flows['frontend'].sent} questions went through")
            client.close()
            server.stop()
            await server.close_all_connections()
            worker.cancel()
            await asyncio.wait([worker])


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
