"""What the wire serves. This can be asked for where the native module was not built."""

import importlib
import sys
from collections.abc import Mapping
from typing import Final

import zmq

_NATIVE: Final = "pollbroker.wire.native"

TRANSPORTS: Final = ("tcp", "ipc")

TYPES: Final = frozenset(
    {zmq.PUSH, zmq.PULL, zmq.ROUTER, zmq.DEALER, zmq.REP, zmq.REQ, zmq.PUB, zmq.SUB, zmq.XPUB, zmq.XSUB}
)
"""The types of sockets."""

STREAM_OPTIONS: Final[Mapping[str, int]] = {
    "backlog": 100, "sndbuf": -1, "rcvbuf": -1, "tos": 0, "ipv6": 0, "tcp_keepalive": -1, "tcp_keepalive_idle": -1,
    "tcp_keepalive_cnt": -1, "tcp_keepalive_intvl": -1, "reconnect_ivl": 100, "reconnect_ivl_max": 0, "use_fd": -1,
}  # fmt: skip
"""Options that are used when a stream is opened, with their defaults (zmq_setsockopt(3))."""

FIXED_OPTIONS: Final = frozenset(
    {
        *(STREAM_OPTIONS.keys() - {"reconnect_ivl", "reconnect_ivl_max", "use_fd"}),
        "routing_id", "plain_server", "plain_username", "plain_password", "zap_domain", "zap_enforce_domain",
    }
)  # fmt: skip
"""Options that take effect when a stream is opened, or a peer is greeted. With other values of these, a connection
would have to be made anew."""

PORT_OPTIONS: Final = frozenset(
    {
        "sndhwm", "maxmsgsize", "handshake_ivl", "heartbeat_ivl", "heartbeat_timeout", "heartbeat_ttl", "routing_id",
        "router_handover", "xpub_nodrop", "xpub_verbose", "xpub_verboser", "subscribe", "unsubscribe", "plain_server",
        "plain_username", "plain_password",
    }
)  # fmt: skip
"""Options that the port itself knows."""

ZAP_OPTIONS: Final = frozenset({"zap_domain", "zap_enforce_domain"})
"""Options for whoever asks an authenticator."""

WITHOUT_EFFECT: Final = frozenset({"linger", "router_mandatory", "rcvhwm", "immediate"})
"""Options that may be set and change nothing. A port always reports a peer that is gone, and never queues for a
connection that is not made yet. Of what has come it reads no more than it can pass on, and 128 KiB. What is not yet
written when a port is closed is lost, and counted as held: a broker that is removed waits for that first."""

ALIASES: Final = {"identity": "routing_id", "router_behavior": "router_mandatory"}
"""Other names that libzmq has for options."""

OPTIONS: Final = frozenset({*STREAM_OPTIONS, *PORT_OPTIONS, *ZAP_OPTIONS, *WITHOUT_EFFECT, *ALIASES})
"""The names of the options that the wire serves."""


def why_not_built() -> str | None:
    """Why the native module cannot be used; None if it can."""
    if sys.modules.get(_NATIVE) is not None:
        return None  # it is asked for each port, and the import system takes its time even then
    try:
        importlib.import_module(_NATIVE)
    except ImportError as error:
        return f"the wire was not built: {error}"
    return None
