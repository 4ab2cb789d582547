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

from libc.stdint cimport uint64_t, uintptr_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

import zmq
from zmq.backend.cython import _zmq

from pollbroker.pump.contract import DRAINED as _DRAINED
from pollbroker.pump.contract import EMPTY as _EMPTY
from pollbroker.pump.contract import FULL as _FULL
from pollbroker.pump.contract import LIMIT as _LIMIT
from pollbroker.pump.contract import RETRY as _RETRY
from pollbroker.pump.contract import FlowState as _FlowState
from pollbroker.statistics import Counters

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


cdef class Pump:
    """Moves whole messages from `source` to `sink`; see `pollbroker.pump` for the contract."""

    cdef object sockets  # keeps them alive
    cdef void *source
    cdef void *sink
    cdef void *capture
    cdef bint sink_is_router, sink_is_pair, capture_is_pair, drop_slow_peer
    cdef object prefix
    cdef const char *prefix_data
    cdef size_t prefix_size

    cdef zmq_msg_t msg
    cdef bint holding
    cdef zmq_msg_t *copies
    cdef size_t copies_used, copies_room
    cdef bint copies_lost

    cdef uint64_t received_, received_frames, received_bytes, sent_, sent_frames, sent_bytes
    cdef uint64_t unroutable, slow_peer, interrupted, captured, capture_dropped
    cdef uint64_t message_frames, message_bytes
    cdef bint more
    cdef int code

    def __cinit__(self):
        zmq_msg_init(&self.msg)

    def __init__(self, source, sink, *, capture=None, prefix=None, drop_slow_peer=True):
        self.sockets = (source, sink, capture)
        self.source = <void *> <uintptr_t> source.underlying
        self.sink = <void *> <uintptr_t> sink.underlying
        self.capture = <void *> <uintptr_t> capture.underlying if capture is not None else NULL
        self.sink_is_router = sink.type == zmq.ROUTER
        self.sink_is_pair = sink.type == zmq.PAIR
        self.capture_is_pair = capture is not None and capture.type == zmq.PAIR
        self.drop_slow_peer = drop_slow_peer
        self.prefix = prefix
        self.prefix_data = NULL
        self.prefix_size = 0
        if prefix is not None:
            self.prefix_data = prefix
            self.prefix_size = len(prefix)

    def __dealloc__(self):
        self._forget_copies()
        free(self.copies)
        zmq_msg_close(&self.msg)

    @property
    def received(self):
        return self.received_

    @property
    def sent(self):
        return self.sent_

    @property
    def held(self):
        return int(self.holding)

    def counters(self):
        return Counters(
            received=self.received_, received_frames=self.received_frames, received_bytes=self.received_bytes,
            sent=self.sent_, sent_frames=self.sent_frames, sent_bytes=self.sent_bytes,
            held=self.held, unroutable=self.unroutable, slow_peer=self.slow_peer, interrupted=self.interrupted,
            captured=self.captured, capture_dropped=self.capture_dropped,
        )

    def move(self, uint64_t limit_messages, uint64_t limit_bytes):
        cdef int outcome
        with nogil:
            outcome = self._move(limit_messages, limit_bytes)
        if outcome == ERROR:
            raise _error(self.code)
        return outcome

    cdef int _move(self, uint64_t limit_messages, uint64_t limit_bytes) noexcept nogil:
        cdef uint64_t messages = 0
        cdef uint64_t moved_bytes = 0
        cdef int outcome
        while messages < limit_messages and moved_bytes < limit_bytes:
            if not self.holding:
                outcome = self._receive()
                if outcome != SENT:
                    return outcome
                self.received_ += 1
                self.holding = True
            outcome = self._offer()
            if outcome == FULL or outcome == ERROR:
                return outcome
            self.holding = False
            if (self._discard() if outcome == DROP else self._finish()) == ERROR:
                return ERROR
            messages += 1
            moved_bytes += self.message_bytes
        return LIMIT

    cdef int _receive(self) noexcept nogil:
        """Take a first frame: SENT (it is in `msg`), EMPTY or ERROR."""
        while zmq_msg_recv(&self.msg, self.source, DONTWAIT) < 0:
            self.code = zmq_errno()
            if self.code == EAGAIN:
                return EMPTY
            if self.code != EINTR:
                return ERROR
        self.message_frames = self.message_bytes = 0
        self._count_received()
        return SENT

    cdef int _receive_next(self) noexcept nogil:
        """Take a frame that libzmq has announced: it is there, since messages are delivered whole. SENT or ERROR."""
        while zmq_msg_recv(&self.msg, self.source, DONTWAIT) < 0:
            self.code = zmq_errno()
            if self.code != EINTR:
                self.interrupted += 1
                return ERROR
        self._count_received()
        return SENT

    cdef void _count_received(self) noexcept nogil:
        cdef size_t size = zmq_msg_size(&self.msg)
        self.more = zmq_msg_more(&self.msg) != 0
        self.received_frames += 1
        self.received_bytes += size
        self.message_frames += 1
        self.message_bytes += size

    cdef int _offer(self) noexcept nogil:
        """Offer the held first frame to the sink: SENT, FULL (it is held still), DROP (counted) or ERROR (held still)."""
        if self.sink_is_router and not self.more:
            self.unroutable += 1  # libzmq would take it and drop it in silence: there is nothing behind the routing id
            return DROP
        if self.capture != NULL:
            self._keep_copy()
        cdef int flags = DONTWAIT | SNDMORE if self.more else DONTWAIT
        if self.sink_is_router and self.drop_slow_peer:
            self.code = _send_settled(&self.msg, self.sink, flags)
        else:
            self.code = _send(&self.msg, self.sink, flags)
        if self.code == 0:
            return SENT
        self._forget_copies()
        if self.code == EHOSTUNREACH:
            self.unroutable += 1
            return DROP
        if self.code != EAGAIN:
            return ERROR
        if self.sink_is_router and self.drop_slow_peer:
            self.slow_peer += 1
            return DROP
        return FULL

    cdef int _finish(self) noexcept nogil:
        """Send what follows an accepted first frame: SENT (whole, or counted as interrupted) or ERROR."""
        cdef bint broken = False
        cdef int flags
        while self.more:
            if self._receive_next() == ERROR:
                self._forget_copies()
                return ERROR
            if broken and self.sink_is_pair:
                continue  # the next peer of a PAIR would be given the rest as a message of its own
            if self.capture != NULL and not broken:
                self._keep_copy()
            flags = DONTWAIT | SNDMORE if self.more else DONTWAIT
            self.code = _send(&self.msg, self.sink, flags)
            if self.code == EAGAIN:
                broken = True  # libzmq's lb.cpp: the peer has left; this frame is lost and the rest is swallowed
            elif self.code != 0:
                self.interrupted += 1
                self._forget_copies()
                return ERROR
        if broken:
            self.interrupted += 1
            self._forget_copies()
            return SENT
        self.sent_ += 1
        self.sent_frames += self.message_frames
        self.sent_bytes += self.message_bytes
        if self.capture != NULL:
            return self._send_copies()
        return SENT

    cdef int _discard(self) noexcept nogil:
        """Read the rest of a message that is dropped, and no further: SENT or ERROR."""
        while self.more:
            while zmq_msg_recv(&self.msg, self.source, DONTWAIT) < 0:
                self.code = zmq_errno()
                if self.code != EINTR:
                    return ERROR
            self._count_received()
        return SENT

    # -- capture: a message is copied frame by frame, and the copy is sent when the message is through ----------------

    cdef void _keep_copy(self) noexcept nogil:
        """Keep a copy of the frame in `msg`, behind the prefix if it is the first; large frames are shared, not copied."""
        if self.copies_used == 0 and self.prefix_data != NULL and self._make_room():
            if zmq_msg_init_size(&self.copies[0], self.prefix_size) == 0:
                memcpy(zmq_msg_data(&self.copies[0]), self.prefix_data, self.prefix_size)
                self.copies_used = 1
            else:
                self.copies_lost = True
        if self._make_room():
            zmq_msg_init(&self.copies[self.copies_used])
            zmq_msg_copy(&self.copies[self.copies_used], &self.msg)
            self.copies_used += 1

    cdef bint _make_room(self) noexcept nogil:
        cdef zmq_msg_t *grown
        cdef size_t room
        if self.copies_used == self.copies_room:
            room = self.copies_room * 2 if self.copies_room else 8
            grown = <zmq_msg_t *> realloc(self.copies, room * sizeof(zmq_msg_t))
            if grown == NULL:
                self.copies_lost = True
                return False
            self.copies, self.copies_room = grown, room
        return True

    cdef void _forget_copies(self) noexcept nogil:
        cdef size_t i
        for i in range(self.copies_used):
            zmq_msg_close(&self.copies[i])
        self.copies_used = 0
        self.copies_lost = False

    cdef int _send_copies(self) noexcept nogil:
        """Give the copies to the capture socket: SENT, whether it takes them or not (counted), or ERROR."""
        cdef size_t i
        cdef int flags, code = 0
        cdef bint lost = self.copies_lost
        for i in range(self.copies_used):
            if lost and (i <= 1 or self.capture_is_pair):
                break  # the first frame was refused, or a PAIR's next peer would be given the rest as a message
            flags = DONTWAIT | SNDMORE if i + 1 < self.copies_used else DONTWAIT
            if i == 0:
                code = _send_settled(&self.copies[i], self.capture, flags)
            else:
                code = _send(&self.copies[i], self.capture, flags)
            if code != 0:
                lost = True
                if code != EAGAIN:
                    break
        self._forget_copies()
        if lost:
            self.capture_dropped += 1
        else:
            self.captured += 1
        if code != 0 and code != EAGAIN:
            self.code = code
            return ERROR
        return SENT


include "hub.pxi"
