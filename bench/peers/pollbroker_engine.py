"""pollbroker: each pair is a broker of one engine, in one thread. `POLLBROKER_PUMP` chooses the pump."""

from __future__ import annotations

import zmq

from bench.peers.sockets import DEVICES
from bench.work import CAPTURE_PREFIXES, Deployment
from pollbroker import DEVICES as POLLBROKER_DEVICES
from pollbroker import Device, Engine


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Add a broker for every pair to one engine and start it."""
    return run(context, deployment, POLLBROKER_DEVICES[deployment.device])


def run(
    context: zmq.Context[zmq.Socket[bytes]],
    deployment: Deployment,
    device: Device,
    control_context: zmq.Context[zmq.Socket[bytes]] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Do what `start` does with a given device. If a control context is given, the control socket is opened in it."""
    engine = Engine(context, **deployment.engine)
    bound = add_all(engine, deployment, device)
    if deployment.control:
        # Imported only if it is needed, because memory is measured.
        from pollbroker.control import attach, attach_socket

        if control_context is None:
            attach(engine, deployment.control)
        else:
            socket = control_context.socket(zmq.REP)
            socket.bind(deployment.control)
            attach_socket(engine, socket)
    engine.start()
    return bound


def add_all(engine: Engine, deployment: Deployment, device: Device) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Add a broker for every pair to an engine. Return the addresses; both are the same of a device with one port."""
    ports = DEVICES[deployment.device]
    mark = deployment.high_water_mark
    prefixes = CAPTURE_PREFIXES[0].encode(), CAPTURE_PREFIXES[1].encode()
    brokers = [
        engine.add(
            f"broker-{index}",
            device,
            frontend=frontend,
            backend=backend if ports.backend else None,
            frontend_options=dict.fromkeys(ports.frontend_marks, mark),
            backend_options=dict.fromkeys(ports.backend_marks, mark) if ports.backend else None,
            capture=f">{deployment.captures[index]}" if index < len(deployment.captures) else None,
            capture_options={"sndhwm": mark} if index < len(deployment.captures) else None,
            capture_prefixes=prefixes if index < len(deployment.captures) else None,
        )
        for index, (frontend, backend) in enumerate(zip(deployment.frontends, deployment.backends, strict=True))
    ]
    return (
        tuple(broker.frontend.endpoints[0] for broker in brokers),
        tuple((broker.backend if ports.backend else broker.frontend).endpoints[0] for broker in brokers),
    )
