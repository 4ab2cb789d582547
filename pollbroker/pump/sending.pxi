# The native sender: sends to one sink, and copies to the capture socket.
#
# The rules are at the top of `contract.py`. `sending.py` is the Python version; both are changed together. This file is
# included in `native.pyx`, because the pump calls it for every frame.


cdef inline bint _is_long_subscription(const char *data, size_t size) noexcept nogil:
    """Return True if an XSUB would take the frame for a subscription or an unsubscription, and it is too long."""
    return size > SUBSCRIPTION_MAX_BYTES and (data[0] == 0 or data[0] == 1)


@cython.final
cdef class Sender:
    """Sends to one sink of a flow, and copies to the capture socket; see `contract.py`."""

    cdef object sockets  # keeps the sockets alive
    cdef void *sink
    cdef void *capture
    cdef bint sink_is_router, sink_is_pair, sink_is_rep, sink_is_xsub, capture_is_pair, drop_slow_peer
    cdef object prefix
    cdef const char *prefix_data
    cdef size_t prefix_size

    cdef zmq_msg_t *copies
    cdef size_t copies_used, copies_room
    cdef bint copies_lost

    cdef uint64_t sent_, sent_frames, sent_bytes
    cdef uint64_t unroutable, slow_peer, interrupted, long_subscription, captured, captured_frames, captured_bytes, capture_dropped
    cdef uint64_t message_frames, message_bytes
    cdef bint broken
    cdef int code

    cdef object tap_
    cdef bint tapped
    cdef tuple seen  # of the message that is being sent: what is noted when it was accepted; None if there is no room

    def __cinit__(self, sink, capture, prefix, drop_slow_peer):
        self.sockets = sink if capture is None else (sink, capture)
        self.sink = <void *> <uintptr_t> sink.underlying
        self.capture = <void *> <uintptr_t> capture.underlying if capture is not None else NULL
        self.sink_is_router = sink.type == zmq.ROUTER
        self.sink_is_pair = sink.type == zmq.PAIR
        self.sink_is_rep = sink.type == zmq.REP
        self.sink_is_xsub = sink.type == zmq.XSUB
        self.capture_is_pair = capture is not None and capture.type == zmq.PAIR
        self.drop_slow_peer = drop_slow_peer and self.sink_is_router
        self.prefix = prefix
        self.prefix_data = NULL
        self.prefix_size = 0
        if prefix is not None:
            self.prefix_data = prefix
            self.prefix_size = len(prefix)

    def __dealloc__(self):
        self._forget_copies()
        free(self.copies)

    @property
    def sent(self):
        return self.sent_

    @property
    def queued(self):
        return 0

    @property
    def finished(self):
        return self._finished()

    cdef uint64_t _finished(self) noexcept nogil:
        """Messages that this sender is done with: sent or dropped."""
        return self.sent_ + self.unroutable + self.slow_peer + self.interrupted + self.long_subscription

    def counters(self):
        return Counters(
            sent=self.sent_, sent_frames=self.sent_frames, sent_bytes=self.sent_bytes,
            unroutable=self.unroutable, slow_peer=self.slow_peer, long_subscription=self.long_subscription,
            interrupted=self.interrupted,
            captured=self.captured, captured_frames=self.captured_frames, captured_bytes=self.captured_bytes,
            capture_dropped=self.capture_dropped,
        )

    def send(self, list message not None):
        """Offer a whole message of bytes: SENT, FULL (offer it again later) or DROPPED (counted)."""
        cdef zmq_msg_t msg
        cdef Py_ssize_t i, last = len(message) - 1
        cdef int outcome = SENT
        cdef char *data
        cdef Py_ssize_t size
        if self.sink_is_xsub:
            for frame in message:
                PyBytes_AsStringAndSize(frame, &data, &size)
                if _is_long_subscription(data, size):
                    self.long_subscription += 1
                    return DROPPED
        self.message_frames = last + 1
        self.message_bytes = 0
        if self.tapped:
            self._look_at(message[:FRAMES_SHOWN])
        for i in range(last + 1):
            PyBytes_AsStringAndSize(message[i], &data, &size)
            if zmq_msg_init_size(&msg, size) != 0:
                if i > 0:
                    self._interrupt()
                raise MemoryError()
            memcpy(zmq_msg_data(&msg), data, size)
            self.message_bytes += size
            outcome = self._offer(&msg, i < last) if i == 0 else self._send_next(&msg, i < last)
            zmq_msg_close(&msg)
            if outcome == ERROR:
                raise _error(self.code)
            if outcome != SENT:
                break
        return outcome

    cdef int _send_message(self, Receiver read) noexcept nogil:
        """Offer the message that a receiver has read: SENT, FULL (offer it again later), DROPPED (counted) or ERROR.

        Unless the message is to be offered again, the receiver has to forget it, since it still has the frames that
        were not sent.
        """
        cdef size_t i, last = read.used - 1
        cdef zmq_msg_t *frame
        cdef int outcome
        if self.sink_is_xsub:
            for i in range(read.used):
                frame = read._frame(i)
                if _is_long_subscription(<const char *> zmq_msg_data(frame), zmq_msg_size(frame)):
                    self.long_subscription += 1
                    return DROPPED
        self.message_frames = read.used
        self.message_bytes = read.message_bytes
        if self.tapped:
            self._look(read)
        outcome = self._offer(&read.first, last > 0)
        if outcome != SENT:
            return outcome
        for i in range(last):
            if self._send_next(&read.rest[i], i + 1 < last) == ERROR:
                return ERROR
        return SENT

    cdef int _offer(self, zmq_msg_t *msg, bint more) noexcept nogil:
        """Offer a message's first frame: SENT, FULL or ERROR (offer the message again later), or DROPPED (counted)."""
        cdef int flags = DONTWAIT | SNDMORE if more else DONTWAIT
        if self.sink_is_router and not more:
            self.unroutable += 1  # libzmq would silently drop a message with nothing behind the routing id
            return DROPPED
        if self.capture != NULL:
            self._keep_copy(msg)
        self.code = _send_rechecked(msg, self.sink, flags) if self.drop_slow_peer else _send(msg, self.sink, flags)
        if self.code == 0:
            self.broken = False
            return SENT if more else self._complete()
        self._forget_copies()
        if self.code == EHOSTUNREACH or (self.code == EFSM and self.sink_is_rep):
            self.unroutable += 1  # the peer is gone, or, at a REP, nobody has asked
            return DROPPED
        if self.code == EFSM:
            return FULL  # a REQ has to receive its reply before it can ask again
        if self.code != EAGAIN:
            return ERROR
        if self.drop_slow_peer:
            self.slow_peer += 1
            return DROPPED
        return FULL

    cdef int _send_next(self, zmq_msg_t *msg, bint more) noexcept nogil:
        """Send the next frame of a message whose first frame was accepted: SENT or ERROR."""
        # After a frame was refused, the next peer of a PAIR would take the rest of the message for a new message.
        if not (self.broken and self.sink_is_pair):
            if self.capture != NULL and not self.broken:
                self._keep_copy(msg)
            self.code = _send(msg, self.sink, DONTWAIT | SNDMORE if more else DONTWAIT)
            if self.code == EAGAIN:
                # The peer has left. libzmq (lb.cpp) drops this frame and the rest of the message. To send this frame
                # again would begin a new message.
                self.broken = True
            elif self.code != 0:
                self._interrupt()
                return ERROR
        return SENT if more else self._complete()

    cdef void _interrupt(self) noexcept nogil:
        """Count a message of which the rest cannot be sent, and forget its copies."""
        self.interrupted += 1
        self._forget_copies()

    cdef int _complete(self) noexcept nogil:
        if self.broken:
            self._interrupt()
            return SENT
        self.sent_ += 1
        self.sent_frames += self.message_frames
        self.sent_bytes += self.message_bytes
        if self.tapped:
            self._show()
        return SENT if self.capture == NULL else self._send_copies()

    # -- while somebody taps the broker: the frames are looked at before they are sent, since they are libzmq's then -----

    @property
    def tap(self):
        return self.tap_

    @tap.setter
    def tap(self, point):
        self.tap_ = point
        self.tapped = point is not None
        self.seen = None

    cdef void _look(self, Receiver read) noexcept with gil:
        cdef size_t i, most, size
        cdef zmq_msg_t *frame
        cdef list sizes = [], starts = []
        self.seen = None
        if not self.tap_.has_room():
            return
        for i in range(min(read.used, <size_t> FRAMES_SHOWN)):
            frame = read._frame(i)
            size = zmq_msg_size(frame)
            most = self.tap_.keep if i else self.tap_.keep_first
            sizes.append(size)
            starts.append(PyBytes_FromStringAndSize(<char *> zmq_msg_data(frame), min(size, most)))
        self.seen = (sizes, starts)

    cdef void _look_at(self, list frames) noexcept:
        self.seen = None
        if self.tap_.has_room():
            starts = [frame[: self.tap_.keep if i else self.tap_.keep_first] for i, frame in enumerate(frames)]
            self.seen = (list(map(len, frames)), starts)

    cdef void _show(self) noexcept with gil:
        if self.seen is None:
            self.tap_.lose(1)
        else:
            self.tap_.note(self.message_frames, self.message_bytes, *self.seen)
        self.seen = None

    # -- capture: a message is copied frame by frame, and the copy is sent after the message -------------------------

    cdef void _keep_copy(self, zmq_msg_t *msg) noexcept nogil:
        """Keep a copy of the frame; the prefix precedes the first. libzmq shares large frames and does not copy
        them."""
        if self.copies_used == 0 and self.prefix_data != NULL and self._make_room():
            if zmq_msg_init_size(&self.copies[0], self.prefix_size) == 0:
                memcpy(zmq_msg_data(&self.copies[0]), self.prefix_data, self.prefix_size)
                self.copies_used = 1
            else:
                self.copies_lost = True
        if self._make_room():
            zmq_msg_init(&self.copies[self.copies_used])
            zmq_msg_copy(&self.copies[self.copies_used], msg)
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
        """Send the copies to the capture socket. Return SENT, also if it refuses them (counted), or ERROR."""
        cdef size_t i
        cdef int flags, code = 0
        cdef bint lost = self.copies_lost
        for i in range(self.copies_used):
            if lost and (i <= 1 or self.capture_is_pair):
                break  # the first frame was refused, or a PAIR's next peer would take the rest for a message
            flags = DONTWAIT | SNDMORE if i + 1 < self.copies_used else DONTWAIT
            if i == 0:
                code = _send_rechecked(&self.copies[i], self.capture, flags)
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
            self.captured_frames += self.message_frames + (self.prefix_data != NULL)
            self.captured_bytes += self.message_bytes + self.prefix_size
        if code != 0 and code != EAGAIN:
            self.code = code
            return ERROR
        return SENT
