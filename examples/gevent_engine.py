"""A broker, its producers and consumers, and a web server: greenlets of one process, in one thread.

python examples/gevent_engine.py [JOBS, by default 10]
"""

import json
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import gevent
import gevent.socket
import zmq.green
from gevent.pywsgi import WSGIServer

from pollbroker import STREAMER
from pollbroker.gevent import Engine

Context: TypeAlias = "zmq.green.Context[Any]"


def push(context: Context, endpoint: str, name: str, count: int) -> None:
    with context.socket(zmq.PUSH) as socket:
        socket.connect(endpoint)
        for number in range(count):
            socket.send(f"{name}'s job {number}".encode())


def pull(context: Context, endpoint: str, done: list[str]) -> None:
    with context.socket(zmq.PULL) as socket:
        socket.connect(endpoint)
        while True:
            done.append(socket.recv().decode())


def main(count: int = 10) -> None:
    done: list[str] = []
    with Engine() as engine, zmq.green.Context() as context:
        jobs = engine.add("jobs", STREAMER, frontend="tcp://127.0.0.1:*", backend="tcp://127.0.0.1:*")

        def page(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            start_response("200 OK", [("Content-Type", "application/json")])
            flow = jobs.statistics().flows["frontend"]
            return [json.dumps({"passed on": flow.sent, "done": len(done)}).encode()]

        server = WSGIServer(("127.0.0.1", 0), page, log=None)
        server.start()
        pullers = [gevent.spawn(pull, context, jobs.backend.endpoint, done) for _ in range(2)]
        gevent.joinall(
            [gevent.spawn(push, context, jobs.frontend.endpoint, name, count) for name in ("Ada", "Ben")],
            raise_error=True,
        )
        while len(done) < 2 * count:
            gevent.sleep(0.001)
        print(f"{len(done)} jobs done in {threading.active_count()} thread")
        print(fetch(server.server_port))
        gevent.killall(pullers)
        server.stop()


def fetch(port: int | None) -> str:
    """What the server's page says, asked for by a greenlet."""
    with gevent.socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.makefile("r").read().splitlines()[-1]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
