# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, auto_pickle=False
"""The native pump: moves zmq_msg_t by pointer from one socket to another with the GIL released.

Rules that hold here, and in `python.py`, its twin:

1. Nothing is asked per message. Receive without waiting; offer the first frame without waiting.
2. A first frame that the sink refuses is held. Nothing is lost: the rest of the message is still in the source.
3. Once a first frame is accepted, the rest of the message follows before anything else does.
4. A frame that was refused in the middle of a message is never sent again: it would begin a new message.

libzmq is not linked: the functions are found, at import, in the very copy that pyzmq has loaded. `zmq_msg_t` is 64
opaque bytes by libzmq's public ABI (zmq.h), and `Socket.underlying` is the `void *` that the functions take. That the
sockets are open is the caller's to see to, before each call: libzmq cannot tell a closed socket from freed memory.
"""

import ctypes
from dataclasses import replace

cimport cython
from cpython.bytes cimport PyBytes_AsStringAndSize, PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

import zmq
from zmq.backend.cython import _zmq

from pollbroker.pump.contract import DRAINED as _DRAINED
from pollbroker.pump.contract import EMPTY as _EMPTY
from pollbroker.pump.contract import FULL as _FULL
from pollbroker.pump.contract import LIMIT as _LIMIT
from pollbroker.pump.contract import RETRY as _RETRY
from pollbroker.pump.contract import FlowState as _FlowState
from pollbroker.pump.sending import DROPPED as _DROPPED
from pollbroker.pump.sending import REFUSED as _REFUSED
from pollbroker.pump.sending import SENT as _SENT
from pollbroker.statistics import Counters

cdef extern from "limits.h" nogil:
    int INT_MAX

cdef extern from "errno.h" nogil:
    int EAGAIN, EINTR, EHOSTUNREACH

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

_libzmq = ctypes.CDLL(_zmq.__file__)

cdef uintptr_t _address(str name) except 0:
    return ctypes.cast(getattr(_libzmq, name), ctypes.c_void_p).value

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

# What became of a first frame that was offered to the sink, and of the call as a whole.
cdef enum:
    EMPTY = 0
    FULL = 1
    LIMIT = 2
    ERROR = 3
    SENT = 4
    DROP = 5

assert (EMPTY, FULL, LIMIT) == (_EMPTY, _FULL, _LIMIT)


cdef object _error(int code):
    """The exception that pyzmq itself would raise for this errno."""
    if code == zmq.ETERM:
        return zmq.ContextTerminated()
    return zmq.ZMQError(code)


cdef int _events(void *socket) noexcept nogil:
    """ZMQ_EVENTS, which also processes the socket's pending commands; -1 on error (zmq_getsockopt(3))."""
    cdef int events = 0
    cdef size_t size = sizeof(events)
    while zmq_getsockopt(socket, ZMQ_EVENTS, &events, &size) < 0:
        if zmq_errno() != EINTR:
            return -1
    return events


cdef int _receive(zmq_msg_t *msg, void *socket, size_t *size) noexcept nogil:
    """zmq_msg_recv without waiting, again after EINTR: 0, with the frame's size, or the errno."""
    cdef int result, code
    while True:
        result = zmq_msg_recv(msg, socket, DONTWAIT)
        if result >= 0:
            size[0] = <size_t> result if result < INT_MAX else zmq_msg_size(msg)
            return 0
        code = zmq_errno()
        if code != EINTR:
            return code


cdef int _send(zmq_msg_t *msg, void *socket, int flags) noexcept nogil:
    """zmq_msg_send, again after EINTR: 0, or the errno."""
    cdef int code
    while zmq_msg_send(msg, socket, flags) < 0:
        code = zmq_errno()
        if code != EINTR:
            return code
    return 0


cdef int _send_settled(zmq_msg_t *msg, void *socket, int flags) noexcept nogil:
    """As `_send`, but believe a refusal only after the socket's commands are processed.

    libzmq looks at them once a millisecond or so while it is sending: a peer may have made room since.
    """
    cdef int code = _send(msg, socket, flags)
    if code == EAGAIN and _events(socket) >= 0:
        code = _send(msg, socket, flags)
    return code


@cython.final
cdef class EventReader:
    """Reads a socket's ZMQ_EVENTS: `reader() -> int`. Raises `zmq.ZMQError`."""

    cdef object socket
    cdef void *handle

    def __init__(self, socket):
        self.socket = socket
        self.handle = <void *> <uintptr_t> socket.underlying

    def __call__(self):
        cdef int events = _events(self.handle)
        if events < 0:
            raise _error(zmq_errno())
        return events


include "sending.pxi"


@cython.final
cdef class Pump:
    """Moves whole messages from `source` to `sink`; see `pollbroker.pump.contract`."""

    cdef object socket  # keeps it alive
    cdef void *source
    cdef Sending sending
    cdef zmq_msg_t msg
    cdef size_t size  # of the frame in `msg`
    cdef bint holding, more
    cdef int code
    cdef uint64_t received_, received_frames, received_bytes

    def __cinit__(self):
        zmq_msg_init(&self.msg)

    def __init__(self, source, sink, *, capture=None, prefix=None, drop_slow_peer=True):
        self.socket = source
        self.source = <void *> <uintptr_t> source.underlying
        self.sending = Sending(sink, capture, prefix, drop_slow_peer)

    def __dealloc__(self):
        zmq_msg_close(&self.msg)

    @property
    def received(self):
        return self.received_

    @property
    def sent(self):
        return self.sending.sent_

    @property
    def held(self):
        return int(self.holding)

    def counters(self):
        return self.sending.add_to(Counters(
            received=self.received_, received_frames=self.received_frames, received_bytes=self.received_bytes,
            held=self.held,
        ))

    def move(self, uint64_t limit_messages, uint64_t limit_bytes):
        cdef int outcome
        with nogil:
            outcome = self._move(limit_messages, limit_bytes)
        if outcome == ERROR:
            raise _error(self.code)
        return outcome

    cdef int _move(self, uint64_t limit_messages, uint64_t limit_bytes) noexcept nogil:
        cdef uint64_t messages = 0, moved_bytes = 0, before
        cdef int outcome
        while messages < limit_messages and moved_bytes < limit_bytes:
            before = self.received_bytes - (self.size if self.holding else 0)
            if not self.holding:
                self.code = _receive(&self.msg, self.source, &self.size)
                if self.code != 0:
                    return EMPTY if self.code == EAGAIN else ERROR
                self.received_ += 1
                self._count_received()
                self.holding = True
            outcome = self.sending._offer(&self.msg, self.size, self.more)
            if outcome == FULL or outcome == ERROR:
                self.code = self.sending.code
                self.holding = self.sending._placed() != self.received_  # else it was the capture socket that failed
                return outcome
            self.holding = False
            if self.more and self._pass_on(outcome == DROP) == ERROR:
                return ERROR
            messages += 1
            moved_bytes += self.received_bytes - before
        return LIMIT

    cdef void _count_received(self) noexcept nogil:
        self.more = zmq_msg_more(&self.msg) != 0
        self.received_frames += 1
        self.received_bytes += self.size

    cdef int _pass_on(self, bint dropped) noexcept nogil:
        """Send what follows a first frame that was accepted, or read what follows one that was dropped, and no further.

        libzmq has announced those frames, and delivers messages whole: they are there.
        """
        while self.more:
            self.code = _receive(&self.msg, self.source, &self.size)
            if self.code != 0:
                if not dropped:
                    self.sending._interrupt()
                return ERROR
            self._count_received()
            if not dropped and self.sending._follow(&self.msg, self.size, self.more) == ERROR:
                self.code = self.sending.code
                return ERROR
        return SENT


@cython.final
cdef class Receiver:
    """Receives from a socket without waiting: `receiver() -> list[bytes] | None`. Raises `zmq.ZMQError`."""

    cdef object socket
    cdef void *handle

    def __init__(self, socket):
        self.socket = socket
        self.handle = <void *> <uintptr_t> socket.underlying

    def __call__(self):
        cdef zmq_msg_t msg
        cdef size_t size = 0
        cdef int code
        cdef bint more = True
        cdef list frames = []
        zmq_msg_init(&msg)
        try:
            while more:
                code = _receive(&msg, self.handle, &size)
                if code != 0:
                    if code == EAGAIN and not frames:
                        return None
                    raise _error(code)
                more = zmq_msg_more(&msg) != 0
                frames.append(PyBytes_FromStringAndSize(<char *> zmq_msg_data(&msg), size))
        finally:
            zmq_msg_close(&msg)
        return frames


include "hub.pxi"


include "collector.pxi"
