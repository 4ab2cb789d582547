# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, auto_pickle=False
"""Python's face of the wire: a thin layer on the C code beside it.

`Net` is the epoll set of an engine, `Port` one socket of a broker. `Pump`, `Receiver` and `Sender` keep the contract of
`pollbroker.pump.contract` for ports.
"""

cimport cython
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

import errno
import os
from functools import partial

import zmq

from pollbroker.pump import outcomes
from pollbroker.pump.limits import BURST_FRAMES as _BURST_FRAMES
from pollbroker.pump.limits import FRAMES_SHOWN as _FRAMES_SHOWN
from pollbroker.pump.limits import MAXFRAMES as _MAXFRAMES
from pollbroker.pump.sending import show
from pollbroker.statistics import Counters

include "declarations.pxi"

cdef extern from *:
    """
    #define changed_port(link) LISTED(link, struct port, changed)
    #define is_subscription(message) (!(message)->from)
    #define listed_peer(link) LISTED(link, struct peer, all)
    #define ended_connector(link) LISTED(link, struct watched, ended)
    """

map_set_secret(int.from_bytes(os.urandom(8), "little"), int.from_bytes(os.urandom(8), "little"))

cdef enum:
    EMPTY = 0
    FULL = 1
    LIMIT = 2
    NO_MEMORY = 3
    SENT = 4
    DROPPED = 5
    BURST_FRAMES = 4096
    FRAMES_SHOWN = 64

assert (EMPTY, FULL, LIMIT) == (outcomes.EMPTY, outcomes.FULL, outcomes.LIMIT)
assert (SENT, DROPPED) == (outcomes.SENT, outcomes.DROPPED)
assert (BURST_FRAMES, FRAMES_SHOWN) == (_BURST_FRAMES, _FRAMES_SHOWN)

REASONS = (
    "none", "left", "broken", "closed", "not_zmtp", "mechanism", "socket_type", "bad_command", "refused", "bad_frame",
    "large_frame", "slow_handshake", "silent", "routing_id", "subscriptions", "no_memory", "authentication",
    "no_verdict", "connections",
)
"""Why a connection ended, in the order of reasons.h."""
assert len(REASONS) == REASON_COUNT

NOTICES = ("connected", "left", "handshake_failed", "refused")
"""What may happen to a connection, in the order of notices.h."""

NOTICES_MOST = 10_000
"""How many notices of one turn of the loop are kept."""


include "net.pxi"


include "simulated.pxi"


include "ports.pxi"


include "taps.pxi"


include "pumps.pxi"


include "../pump/waits.pxi"


include "hub.pxi"


include "handing_over.pxi"
