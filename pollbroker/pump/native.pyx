# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, auto_pickle=False
"""The native pump: moves zmq_msg_t by pointer from one socket to another, with the GIL released.

The rules that it keeps are at the top of `contract.py`. `python.py` is the Python version; both are changed together.

libzmq is not linked: the functions are found, at import, in the very copy that pyzmq has loaded. `zmq_msg_t` is 64
opaque bytes by libzmq's public ABI (zmq.h), and `Socket.underlying` is the `void *` that the functions take. The caller
makes sure before each call that the sockets are open: the memory of a closed socket is freed.
"""

import ctypes

cimport cython
from cpython.bytes cimport PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport INFINITY, ceil
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

import zmq
from zmq.backend.cython import _zmq

from pollbroker.pump import outcomes
from pollbroker.pump.limits import BURST_FRAMES as _BURST_FRAMES
from pollbroker.pump.limits import FRAMES_SHOWN as _FRAMES_SHOWN
from pollbroker.pump.limits import MAXFRAMES as _MAXFRAMES
from pollbroker.pump.limits import SUBSCRIPTION_MAX_BYTES as _SUBSCRIPTION_MAX_BYTES
from pollbroker.statistics import Counters

cdef extern from "limits.h" nogil:
    int INT_MAX

cdef extern from "errno.h" nogil:
    int EAGAIN, EINTR, EHOSTUNREACH, ENOMEM

cdef struct zmq_msg_t:
    uint64_t opaque[8]

ctypedef int (*msg_function)(zmq_msg_t *) noexcept nogil
ctypedef int (*msg_size_function)(zmq_msg_t *, size_t) noexcept nogil
ctypedef int (*msg_copy_function)(zmq_msg_t *, zmq_msg_t *) noexcept nogil
ctypedef int (*msg_move_function)(zmq_msg_t *, void *, int) noexcept nogil
ctypedef size_t (*size_function)(zmq_msg_t *) noexcept nogil
ctypedef void *(*data_function)(zmq_msg_t *) noexcept nogil
ctypedef int (*errno_function)() noexcept nogil
ctypedef int (*getsockopt_function)(void *, int, void *, size_t *) noexcept nogil

try:
    _libzmq = ctypes.CDLL(_zmq.__file__)
except OSError as error:
    raise ImportError(f"pyzmq's own module cannot be opened to find libzmq in it: {error}") from error

cdef uintptr_t _address(str name) except 0:
    try:
        return ctypes.cast(getattr(_libzmq, name), ctypes.c_void_p).value
    except AttributeError:
        raise ImportError(f"{_zmq.__file__} has no symbol {name}: this build of pyzmq hides its libzmq") from None

cdef msg_function zmq_msg_init = <msg_function> _address("zmq_msg_init")
cdef msg_function zmq_msg_close = <msg_function> _address("zmq_msg_close")
cdef msg_function zmq_msg_more = <msg_function> _address("zmq_msg_more")
cdef msg_size_function zmq_msg_init_size = <msg_size_function> _address("zmq_msg_init_size")
cdef msg_copy_function zmq_msg_copy = <msg_copy_function> _address("zmq_msg_copy")
cdef size_function zmq_msg_size = <size_function> _address("zmq_msg_size")
cdef data_function zmq_msg_data = <data_function> _address("zmq_msg_data")
cdef msg_move_function zmq_msg_recv = <msg_move_function> _address("zmq_msg_recv")
cdef msg_move_function zmq_msg_send = <msg_move_function> _address("zmq_msg_send")
cdef errno_function zmq_errno = <errno_function> _address("zmq_errno")
cdef getsockopt_function zmq_getsockopt = <getsockopt_function> _address("zmq_getsockopt")

cdef enum:
    DONTWAIT = 1
    SNDMORE = 2
    ZMQ_EVENTS = 15
    EFSM = 156384763  # libzmq's own, in zmq.h

cdef enum:
    BURST_FRAMES = 4096
    SUBSCRIPTION_MAX_BYTES = 4096
    FRAMES_SHOWN = 64

# The outcomes of `outcomes.py`.
cdef enum:
    EMPTY = 0
    FULL = 1
    LIMIT = 2
    ERROR = 3
    SENT = 4
    DROPPED = 5
    READ = 6

assert EFSM == zmq.EFSM
assert (EMPTY, FULL, LIMIT) == (outcomes.EMPTY, outcomes.FULL, outcomes.LIMIT)
assert (ERROR, SENT, DROPPED, READ) == (outcomes.ERROR, outcomes.SENT, outcomes.DROPPED, outcomes.READ)
assert (BURST_FRAMES, SUBSCRIPTION_MAX_BYTES) == (_BURST_FRAMES, _SUBSCRIPTION_MAX_BYTES)
assert FRAMES_SHOWN == _FRAMES_SHOWN


cdef object _error(int code):
    """The exception that pyzmq itself would raise for this errno."""
    if code == zmq.ETERM:
        return zmq.ContextTerminated()
    if code == ENOMEM:
        return MemoryError()
    return zmq.ZMQError(code)


cdef int _events(void *socket) noexcept nogil:
    """ZMQ_EVENTS, which also processes the socket's pending commands; -1 on error (zmq_getsockopt(3))."""
    cdef int events = 0
    cdef size_t size = sizeof(events)
    while zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) < 0:
        if zmq_errno() != EINTR:
            return -1
    return events


cdef inline int _receive(zmq_msg_t *msg, void *socket, size_t *size) noexcept nogil:
    """Call zmq_msg_recv without waiting, and again after EINTR. Return 0 and set the frame's size, or return the
    errno."""
    cdef int result, code
    while True:
        result = zmq_msg_recv(msg, socket, DONTWAIT)
        if result >= 0:
            size[0] = <size_t> result if result < INT_MAX else zmq_msg_size(msg)
            return 0
        code = zmq_errno()
        if code != EINTR:
            return code


cdef inline int _send(zmq_msg_t *msg, void *socket, int flags) noexcept nogil:
    """Call zmq_msg_send, and again after EINTR. Return 0, or the errno."""
    cdef int code
    while zmq_msg_send(msg, socket, flags) < 0:
        code = zmq_errno()
        if code != EINTR:
            return code
    return 0


cdef int _send_rechecked(zmq_msg_t *msg, void *socket, int flags) noexcept nogil:
    """Do as `_send`. If the frame is refused, process the socket's pending commands and try once more.

    While it is sending, libzmq processes commands about once in a millisecond only; a peer may have made room since.
    """
    cdef int code = _send(msg, socket, flags)
    if code == EAGAIN and _events(socket) >= 0:
        code = _send(msg, socket, flags)
    return code


@cython.final
cdef class EventReader:
    """Reads a socket's ZMQ_EVENTS: `reader() -> int`. Raises `zmq.ZMQError`."""

    cdef object socket  # keeps the socket alive
    cdef void *handle

    def __cinit__(self, socket):
        self.socket = socket
        self.handle = <void *> <uintptr_t> socket.underlying

    def __call__(self):
        cdef int events = _events(self.handle)
        if events < 0:
            raise _error(zmq_errno())
        return events


include "receiving.pxi"


include "sending.pxi"


@cython.final
cdef class Pump:
    """Moves whole messages from `source` to `sink`; see `pollbroker.pump.contract`."""

    cdef Receiver receiver
    cdef Sender sender
    cdef bint holding
    cdef readonly uint64_t holds
    cdef int code

    def __cinit__(self, source, sink, *, capture=None, prefix=None, drop_slow_peer=True, maxframes=_MAXFRAMES):
        self.receiver = Receiver(source, maxframes)
        self.sender = Sender(sink, capture, prefix, drop_slow_peer)

    @property
    def received(self):
        return self.receiver.received_

    @property
    def sent(self):
        return self.sender.sent_

    @property
    def held(self):
        return int(self.holding)

    @property
    def queued(self):
        return 0

    @property
    def full_sinks(self):
        return (0,) if self.holding else ()

    def counters(self):
        return self.receiver.counters() + self.sender.counters() + Counters(held=self.held)

    def sink_counters(self):
        return (self.sender.counters(),)

    def set_taps(self, points):
        (self.sender.tap,) = points

    def discard_rest(self):
        self.receiver.discard_rest()

    def count_unread(self, uint64_t limit_messages):
        return self.receiver.count_unread(limit_messages)

    def move(self, uint64_t limit_messages, uint64_t limit_bytes):
        return self._move(limit_messages, limit_bytes)

    cdef int _move(self, uint64_t limit_messages, uint64_t limit_bytes) except -1:
        cdef Receiver receiver = self.receiver
        cdef Sender sender = self.sender
        cdef int outcome
        with nogil:
            outcome = self._move_without_gil(receiver, sender, limit_messages, limit_bytes)
        if outcome == ERROR:
            raise _error(self.code)
        return outcome

    cdef int _move_without_gil(
        self, Receiver receiver, Sender sender, uint64_t limit_messages, uint64_t limit_bytes
    ) noexcept nogil:
        cdef uint64_t messages = 0, moved_bytes = 0
        cdef int outcome = READ
        cdef bint is_new = False
        receiver.burst_frames = 0
        while messages < limit_messages and moved_bytes < limit_bytes and receiver.burst_frames < BURST_FRAMES:
            if not self.holding:
                outcome = receiver._read()
                if outcome == EMPTY or outcome == ERROR:
                    self.code = receiver.code
                    return outcome
                self.holding = is_new = outcome == READ
            if self.holding:
                outcome = sender._send_message(receiver)
                if outcome == SENT:
                    self.holding = False
                    if sender.broken or receiver.room > ROOM_KEPT:
                        receiver._forget()  # the frame that was refused, and at a PAIR those behind it, are still there
                    receiver.used = 0
                else:
                    if outcome == FULL or outcome == ERROR:
                        self.code = sender.code
                        # After an error the message is held, unless a later frame failed, or the copy for the capture.
                        self.holding = receiver._dropped() + sender._finished() != receiver.received_
                    else:
                        self.holding = False
                    if not self.holding:
                        receiver._forget()
                    elif is_new:
                        self.holds += 1
                    if outcome != DROPPED:
                        return outcome
            messages += 1
            moved_bytes += receiver.message_bytes
        return LIMIT


include "waits.pxi"


include "hub.pxi"


include "collector.pxi"


include "turns.pxi"
