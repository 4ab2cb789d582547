"""`nng_device`, the broker of nng (nanomsg's successor), by ctypes: a thread for each pair, STREAMER only.

As in nng_device(3), it has a raw socket of each protocol, here pull0 and push0, and a call that does not return. nng
has protocols of its own, so its load uses nng, too (`bench/load/nng.py`).
"""

from __future__ import annotations

import threading

import zmq

from bench.load.nng import Socket, library, listen, opened
from bench.work import Deployment


def start(_context: zmq.Context[zmq.Socket[bytes]], deployment: Deployment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Bind every pair and hand each to a device."""
    if deployment.device != "streamer":
        raise ValueError(f"nng_device: {deployment.device}: only a streamer has a load that speaks nng")
    frontends, backends = [], []
    for frontend, backend in zip(deployment.frontends, deployment.backends, strict=True):
        pull = opened("nng_pull0_open_raw", deployment.high_water_mark)
        push = opened("nng_push0_open_raw", deployment.high_water_mark)
        frontends.append(listen(pull, frontend))
        backends.append(listen(push, backend))
        threading.Thread(target=_relay, args=(pull, push), daemon=True).start()
    return tuple(frontends), tuple(backends)


def _relay(pull: Socket, push: Socket) -> None:
    library().nng_device(pull, push)
