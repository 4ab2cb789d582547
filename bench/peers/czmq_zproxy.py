"""`zproxy` of czmq, the high-level C binding: an actor in a thread of its own for each pair, by ctypes.

Configured as zproxy(3) says: FRONTEND and BACKEND with a socket type and an endpoint, each awaited. czmq calls the
libzmq that the system has, not pyzmq's, so it can be reached by tcp and ipc only. An endpoint that cannot be bound ends
the process: zproxy asserts that it can.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import socket
from pathlib import Path

import zmq

from bench.peers.sockets import DEVICES
from bench.work import Deployment

# Added to czmq's limit of sockets, which is set for the whole process before the first socket is opened.
SPARE_SOCKETS = 1023
SOCKETS_A_PROXY = 4  # frontend, backend and both ends of the actor's pipe


def start(_context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Start a zproxy for every pair."""
    if any(endpoint.startswith("inproc:") for endpoint in deployment.frontends):
        raise ValueError("czmq zproxy: sockets of pyzmq's libzmq cannot reach its inproc endpoints")
    czmq = ctypes.CDLL(ctypes.util.find_library("czmq"))
    czmq.zactor_new.restype = ctypes.c_void_p
    czmq.zactor_new.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    czmq.zsock_wait.argtypes = (ctypes.c_void_p,)
    czmq.zsys_handler_set(None)  # signals stay Python's
    czmq.zsys_set_max_sockets(ctypes.c_size_t(SOCKETS_A_PROXY * len(deployment.frontends) + SPARE_SOCKETS))
    czmq.zsys_set_sndhwm(ctypes.c_size_t(deployment.high_water_mark))
    czmq.zsys_set_rcvhwm(ctypes.c_size_t(deployment.high_water_mark))
    ports = DEVICES[deployment.device]
    frontends, backends = [], []
    for frontend, backend in zip(deployment.frontends, deployment.backends, strict=True):
        proxy = ctypes.c_void_p(czmq.zactor_new(ctypes.cast(czmq.zproxy, ctypes.c_void_p), None))
        frontends.append(_bind(czmq, proxy, "FRONTEND", ports.frontend, frontend))
        backends.append(_bind(czmq, proxy, "BACKEND", ports.backend, backend))
    return tuple(frontends), tuple(backends)


def _bind(czmq: ctypes.CDLL, proxy: ctypes.c_void_p, place: str, kind: str, endpoint: str) -> str:
    """Tell a zproxy what to bind, and return the real address."""
    before = _descriptors()
    words = [word.encode() for word in (place, kind, endpoint)]
    czmq.zstr_sendx(proxy, *map(ctypes.c_char_p, words), None)
    czmq.zsock_wait(proxy)
    if not endpoint.endswith(":*"):
        return endpoint
    # zproxy does not report its ports. The port that it has just bound belongs to the one listener that is new.
    (port,) = [port for descriptor in _descriptors() - before if (port := _listening_port(descriptor))]
    return f"{endpoint.removesuffix('*')}{port}"


def _descriptors() -> set[int]:
    return {int(path.name) for path in Path("/dev/fd").iterdir()}


def _listening_port(descriptor: int) -> int | None:
    """Return the port at which a descriptor listens, or None if it is not a listening TCP socket."""
    try:
        found = socket.socket(fileno=os.dup(descriptor))
    except OSError:  # it was closed since it was listed, or is not a socket
        return None
    with found:
        if found.family != socket.AF_INET or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return None
        port: int = found.getsockname()[1]
        return port
