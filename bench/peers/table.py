"""The peers, by the names that the tables print.

A peer's module is imported only in its own broker process. Every module has

    start(context, deployment) -> (frontend addresses, backend addresses)

which binds every pair of the deployment (`bench.work.Deployment`), starts relaying in threads of its own and returns
the real addresses in the order of the deployment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from bench.peers.need import CZMQ, GEVENT, GUIDE_C, GUIDE_PYTHON, NNG, PYOMQ, TRIO, UVLOOP, Need


@dataclass(frozen=True)
class Peer:
    """A broker to compare.

    Without a `module` there is no broker, and the load is connected to itself. `environment` is added to that of the
    process. `needs` is what must be installed for the peer. `load_module` runs a load that has the protocol of the
    peer.
    """

    name: str
    module: str | None
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: Need | None = None
    load_module: str = "bench.load.role"


OVER_LIBZMQ: Mapping[str, str] = MappingProxyType({"POLLBROKER_PUMP": "native", "POLLBROKER_TRANSPORT": "libzmq"})
OVER_THE_WIRE: Mapping[str, str] = MappingProxyType({"POLLBROKER_PUMP": "native", "POLLBROKER_TRANSPORT": "wire"})
"""A peer says what serves its ports, so that a default, or a variable of whoever runs the bench, changes no figure."""

NONE = Peer("no broker", None)
PROXY = Peer("zmq.proxy", "bench.peers.zmq_proxy")
POLLER = Peer("Poller loop", "bench.peers.poller_loop")
POLLER_SINGLE = Peer("Poller loop, one message a poll", "bench.peers.poller_loop_single")
BARE = Peer("bare C loop", "bench.peers.bare_loop")
NATIVE = Peer("pollbroker", "bench.peers.pollbroker_engine", OVER_LIBZMQ)
WIRE = Peer("pollbroker, wire", "bench.peers.pollbroker_engine", OVER_THE_WIRE)
PYTHON = Peer("pollbroker, Python pump", "bench.peers.pollbroker_engine", {**OVER_LIBZMQ, "POLLBROKER_PUMP": "python"})
OWN_CONTROL = Peer("pollbroker, control apart", "bench.peers.pollbroker_control", OVER_LIBZMQ)
STEERABLE = Peer("zmq.proxy_steerable", "bench.peers.steerable_proxy")
GROWING = Peer("pollbroker", "bench.peers.growing_engine", OVER_LIBZMQ)
HANDLER = Peer("pollbroker, Python handler", "bench.peers.pollbroker_handler", OVER_LIBZMQ)
HANDLER_WIRE = Peer("pollbroker, wire, Python handler", "bench.peers.pollbroker_handler", OVER_THE_WIRE)
ON_ASYNCIO = Peer("pollbroker on asyncio", "bench.peers.pollbroker_asyncio", OVER_LIBZMQ)
ON_UVLOOP = Peer("pollbroker on uvloop", "bench.peers.pollbroker_uvloop", OVER_LIBZMQ, UVLOOP)
ON_GEVENT = Peer("pollbroker on gevent", "bench.peers.pollbroker_gevent", OVER_LIBZMQ, GEVENT)
ON_TRIO = Peer("pollbroker on trio", "bench.peers.pollbroker_trio", OVER_LIBZMQ, TRIO)
OUR_THREAD_DEVICE = Peer("pollbroker ThreadDevice", "bench.peers.pollbroker_thread_device", OVER_LIBZMQ)
THREAD_DEVICE = Peer("pyzmq ThreadDevice", "bench.peers.thread_device")
THREAD_PROXY = Peer("ThreadProxy", "bench.peers.thread_proxy")
MONITORED_QUEUE = Peer("MonitoredQueue", "bench.peers.monitored_queue")
TWO_THREADS = Peer("two-thread relay", "bench.peers.two_threads")
GREEN = Peer("green.device", "bench.peers.green_device", needs=GEVENT)
ASYNCIO = Peer("asyncio relay", "bench.peers.asyncio_relay")
PYOMQ_PROXY = Peer("pyomq.proxy", "bench.peers.pyomq_proxy", needs=PYOMQ)
ZPROXY = Peer("czmq zproxy", "bench.peers.czmq_zproxy", needs=CZMQ)
NNG_DEVICE = Peer("nng_device", "bench.peers.nng_device", needs=NNG, load_module="bench.load.nng")
GUIDE_IN_PYTHON = Peer("the guide's, Python", "bench.peers.guide_python", needs=GUIDE_PYTHON)
GUIDE_IN_C = Peer("the guide's, C", "bench.peers.guide_c", needs=GUIDE_C)
NNG_NONE = Peer("no broker, nng", None, needs=NNG, load_module="bench.load.nng")

PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        peer.name: peer
        for peer in (
            NATIVE,
            WIRE,
            PYTHON,
            HANDLER,
            HANDLER_WIRE,
            PROXY,
            BARE,
            THREAD_PROXY,
            MONITORED_QUEUE,
            POLLER,
            POLLER_SINGLE,
            TWO_THREADS,
            GREEN,
            ASYNCIO,
            ZPROXY,
            PYOMQ_PROXY,
            NNG_DEVICE,
            NONE,
            NNG_NONE,
        )
    }
)


def installed(peers: Iterable[Peer]) -> tuple[Peer, ...]:
    """Return those peers that can run here."""
    return tuple(peer for peer in peers if peer.needs is None or peer.needs.met)


def left_out(peers: Iterable[Peer]) -> list[str]:
    """Return a sentence for each peer that cannot run here, with what must be installed."""
    return [
        f"Left out: {peer.name} ({peer.needs.install})."
        for peer in peers
        if peer.needs is not None and not peer.needs.met
    ]
