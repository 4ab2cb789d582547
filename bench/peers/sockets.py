"""The bound sockets of each pair, which are made in the same way for all peers that are given sockets.

`DEVICES` has the socket types of the two ports, and the high-water marks that have an effect there. Peers that open
their own sockets use these, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import zmq

from bench.work import Deployment

BOTH = ("rcvhwm", "sndhwm")


@dataclass(frozen=True)
class Ports:
    """Socket types and high-water marks of a device's ports; `two_way` if messages also go from backend to frontend.

    Without a `backend`, the one port is for all.
    """

    frontend: str
    backend: str
    frontend_marks: tuple[str, ...]
    backend_marks: tuple[str, ...]
    two_way: bool


DEVICES: Mapping[str, Ports] = MappingProxyType(
    {
        "streamer": Ports("PULL", "PUSH", ("rcvhwm",), ("sndhwm",), two_way=False),
        "forwarder": Ports("XSUB", "XPUB", BOTH, BOTH, two_way=True),
        "queue": Ports("ROUTER", "DEALER", BOTH, BOTH, two_way=True),
        # These decide where each message goes, so the relays cannot take their place.
        "balancer": Ports("ROUTER", "ROUTER", BOTH, BOTH, two_way=True),
        "majordomo": Ports("ROUTER", "", BOTH, (), two_way=True),
        "paranoid_pirate": Ports("ROUTER", "ROUTER", BOTH, BOTH, two_way=True),
    }
)


def bound_pairs(
    context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment
) -> list[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """Return the bound frontend and backend socket of every pair."""
    ports = DEVICES[deployment.device]
    mark = deployment.high_water_mark
    return [
        (
            _bound(context, ports.frontend, ports.frontend_marks, mark, frontend),
            _bound(context, ports.backend, ports.backend_marks, mark, backend),
        )
        for frontend, backend in zip(deployment.frontends, deployment.backends, strict=True)
    ]


def addresses(
    pairs: list[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the addresses of the frontends and of the backends, as a peer's `start` does."""
    return (
        tuple(frontend.get_string(zmq.LAST_ENDPOINT) for frontend, _ in pairs),
        tuple(backend.get_string(zmq.LAST_ENDPOINT) for _, backend in pairs),
    )


def _bound(
    context: zmq.Context[zmq.Socket[bytes]], kind: str, marks: tuple[str, ...], high_water_mark: int, endpoint: str
) -> zmq.Socket[bytes]:
    socket: zmq.Socket[bytes] = context.socket(getattr(zmq, kind))
    socket.setsockopt(zmq.LINGER, 0)
    for mark in marks:
        socket.setsockopt(getattr(zmq, mark.upper()), high_water_mark)
    socket.bind(endpoint)
    return socket
