"""The peers by the name that the tables print.

A peer's module is imported only in its own broker process. Every module has

    start(context, deployment) -> (frontend addresses, backend addresses)

which binds every pair of the deployment (`bench.work.Deployment`), starts relaying in threads of its own and returns
the real addresses in the order of the deployment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Peer:
    """One thing to compare. No `module`: no broker at all, the load talks to itself. `environment` is the process's."""

    name: str
    module: str | None
    environment: Mapping[str, str] = field(default_factory=dict)


NONE = Peer("no broker", None)
PROXY = Peer("zmq.proxy", "bench.peers.zmq_proxy")
POLLER = Peer("Poller loop", "bench.peers.poller_loop")
NATIVE = Peer("pollbroker", "bench.peers.pollbroker_engine", {"POLLBROKER_PUMP": "native"})
PYTHON = Peer("pollbroker, Python pump", "bench.peers.pollbroker_engine", {"POLLBROKER_PUMP": "python"})

PEERS: Mapping[str, Peer] = MappingProxyType({peer.name: peer for peer in (NATIVE, PYTHON, PROXY, POLLER, NONE)})
