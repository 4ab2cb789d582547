"""pollbroker: every pair a broker of one engine, in one thread. `POLLBROKER_PUMP` says which pump serves."""

from __future__ import annotations

import zmq

from bench.peers.sockets import DEVICES
from bench.work import Deployment
from pollbroker import DEVICES as POLLBROKER_DEVICES
from pollbroker import Engine


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Add a broker for every pair to one engine and start it."""
    ports = DEVICES[deployment.device]
    mark = deployment.high_water_mark
    engine = Engine(context)
    brokers = [
        engine.add(
            f"broker-{index}",
            POLLBROKER_DEVICES[deployment.device],
            frontend=frontend,
            backend=backend,
            frontend_options=dict.fromkeys(ports.frontend_marks, mark),
            backend_options=dict.fromkeys(ports.backend_marks, mark),
        )
        for index, (frontend, backend) in enumerate(zip(deployment.frontends, deployment.backends, strict=True))
    ]
    engine.start()
    return (
        tuple(broker.frontend.endpoints[0] for broker in brokers),
        tuple(broker.backend.endpoints[0] for broker in brokers if broker.backend is not None),
    )
