"""The bare C loop (`load/bare.c`): zmq_msg_recv, zmq_msg_send and nothing else, in one direction, in a thread for each
pair.

It is of no practical use, but it shows the greatest rate that a broker on libzmq can reach.
"""

from __future__ import annotations

import ctypes
import threading

import zmq

from bench.load.native import load_library
from bench.peers.sockets import DEVICES, addresses, bound_pairs
from bench.work import Deployment


def start(context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair and relay each in a thread that never takes the GIL again. Raises `ValueError` if two-way."""
    if DEVICES[deployment.device].two_way:
        raise ValueError(f"the bare loop relays in one direction only, and cannot run a {deployment.device}")
    pairs = bound_pairs(context, deployment)
    bound = addresses(pairs)  # read before another thread uses the sockets
    library = load_library()
    for frontend, backend in pairs:
        threading.Thread(target=_relay, args=(library, frontend, backend), daemon=True).start()
    return bound


def _relay(library: ctypes.CDLL, source: zmq.Socket[bytes], sink: zmq.Socket[bytes]) -> None:
    code = library.bare_relay(ctypes.c_void_p(source.underlying), ctypes.c_void_p(sink.underlying))
    # The traceback goes to the standard error, and the pair is not relayed any more.
    raise OSError(code, "the bare loop ended")
