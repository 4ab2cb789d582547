"""pollbroker with a Python function on every route, which is given each message and returns it unchanged."""

from __future__ import annotations

import dataclasses

import zmq

from bench.peers.pollbroker_engine import run
from bench.work import Deployment
from pollbroker import DEVICES


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Run every pair in one engine, with a device whose routes have the handler `identity`."""
    plain = DEVICES[deployment.device]
    routes = tuple(dataclasses.replace(route, via=identity) for route in plain.routes)
    return run(context, deployment, dataclasses.replace(plain, name=f"{plain.name} with a handler", routes=routes))


def identity(message: list[bytes]) -> list[bytes]:
    """The message, unchanged."""
    return message
