"""pollbroker, with one engine to which every call of `start` adds brokers while it runs."""

from __future__ import annotations

import zmq

from bench.peers.sockets import DEVICES
from bench.work import Deployment
from pollbroker import DEVICES as POLLBROKER_DEVICES
from pollbroker import Engine

_engines: dict[zmq.Context[zmq.Socket[bytes]], Engine] = {}
_names: list[str] = []


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Add a broker for every pair to the engine, which the first call starts."""
    ports, mark = DEVICES[deployment.device], deployment.high_water_mark
    engine = _engines.get(context)
    if engine is None:
        engine = _engines[context] = Engine(context)
        engine.start()
    frontends: list[str] = []
    backends: list[str] = []
    for frontend, backend in zip(deployment.frontends, deployment.backends, strict=True):
        _names.append(f"broker-{len(_names)}")
        broker = engine.add(
            _names[-1],
            POLLBROKER_DEVICES[deployment.device],
            frontend=frontend,
            backend=backend,
            frontend_options=dict.fromkeys(ports.frontend_marks, mark),
            backend_options=dict.fromkeys(ports.backend_marks, mark),
        )
        frontends += broker.frontend.endpoints
        backends += broker.backend.endpoints if broker.backend is not None else ()
    return tuple(frontends), tuple(backends)


def remove_last() -> None:
    """Remove the broker that was added last."""
    (engine,) = _engines.values()
    engine.remove(_names.pop())
