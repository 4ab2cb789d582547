"""Simulated sockets."""

from collections.abc import Callable

import zmq

from pollbroker.testing.simulation import SimSocket

Pair = Callable[..., tuple[SimSocket, SimSocket]]


def fill(socket: SimSocket) -> int:
    """How many messages it takes."""
    count = 0
    while True:
        try:
            socket.send(b"x", zmq.DONTWAIT)
        except zmq.Again:
            return count
        count += 1
