"""The brokers of the ZeroMQ guide in Python, `lbbroker.py` and `mdbroker.py`, from a checkout of the guide, each in a
thread.

Nothing of the guide is changed or copied. Of `lbbroker.py` two constants are set to 0, how many clients and workers it
starts itself: its count of replies, after which it ends, is then never 0. It binds fixed names with `zmq.Context`, in
place of which it is given one whose sockets bind the endpoints of the deployment.
"""

from __future__ import annotations

import importlib
import queue
import sys
import threading
from types import SimpleNamespace
from typing import Any

import zmq

from bench.peers.need import guide_directory
from bench.work import Deployment

BIND_DEADLINE_S = 30.0


def start(_context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Start the broker of the one pair. It has a context of its own. Raises `ValueError` if it is not one pair, or if
    the guide has no such broker."""
    sys.path.insert(0, str(guide_directory() / "examples" / "Python"))
    if len(deployment.frontends) == 1 and deployment.device == "balancer":
        return _start_lbbroker(deployment.frontends[0], deployment.backends[0])
    if len(deployment.frontends) == 1 and deployment.device == "majordomo":
        return _start_mdbroker(deployment.frontends[0])
    raise ValueError(f"{len(deployment.frontends)} of {deployment.device}: expected one balancer, or one majordomo")


def _start_lbbroker(frontend: str, backend: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    places = {"ipc://frontend.ipc": frontend, "ipc://backend.ipc": backend}
    bound: queue.SimpleQueue[str] = queue.SimpleQueue()

    class Socket(zmq.Socket[bytes]):
        def bind(self, address: str) -> Any:
            context = super().bind(places[address])
            bound.put(self.get_string(zmq.LAST_ENDPOINT))
            return context

    class Context(zmq.Context[Socket]):
        _socket_class = Socket

    lbbroker: Any = importlib.import_module("lbbroker")
    lbbroker.NBR_CLIENTS = lbbroker.NBR_WORKERS = 0
    lbbroker.zmq = SimpleNamespace(**{**vars(zmq), "Context": Context})
    threading.Thread(target=lbbroker.main, daemon=True).start()
    # It binds the frontend first.
    return (bound.get(timeout=BIND_DEADLINE_S),), (bound.get(timeout=BIND_DEADLINE_S),)


def _start_mdbroker(endpoint: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    broker: Any = importlib.import_module("mdbroker").MajorDomoBroker(False)
    broker.bind(endpoint)
    bound: str = broker.socket.get_string(zmq.LAST_ENDPOINT)
    threading.Thread(target=broker.mediate, daemon=True).start()
    return (bound,), (bound,)
