# Pumps, receivers and senders of ports, by the contract of `pollbroker.pump.contract`. It is included in `native.pyx`.

cdef object _counters_of_receiving(account *account):
    return Counters(
        received=account.received.messages,
        received_frames=account.received.frames,
        received_bytes=account.received.bytes,
        too_many_frames=account.too_many_frames,
    )


cdef object _counters_of_sending(account *account):
    return Counters(
        sent=account.sent.messages,
        sent_frames=account.sent.frames,
        sent_bytes=account.sent.bytes,
        unroutable=account.unroutable,
        slow_peer=account.slow_peer,
        interrupted=account.interrupted,
        long_subscription=account.long_subscription,
    )


cdef account *_new_account() except NULL:
    cdef account *made = <account *> calloc(1, sizeof(account))
    if made == NULL:
        raise MemoryError()
    return account_hold(made)


@cython.final
cdef class Pump:
    """Moves messages between two ports; see `pollbroker.pump.contract`. What was moved and is not yet handed to the
    kernel counts as held."""

    cdef Port source, sink
    cdef account *account
    cdef int outcome
    cdef readonly uint64_t holds
    cdef uint64_t taken_at_hold  # how many messages the source had given when the last one began to wait
    cdef object tap

    def __cinit__(self, Port source not None, Port sink not None, *, drop_slow_peer=True, maxframes=_MAXFRAMES):
        source._check()
        sink._check()
        self.account = _new_account()
        self.source, self.sink = source, sink
        source._is_source()
        source.port.options.maxframes = maxframes
        sink._is_sink()
        sink.port.drops_slow_peer = drop_slow_peer

    def __dealloc__(self):
        if self.account != NULL:
            account_release(self.account)

    @property
    def received(self):
        return self.account.received.messages

    @property
    def sent(self):
        return self.account.sent.messages

    @property
    def held(self):
        return self.account.held.messages

    @property
    def full_sinks(self):
        return (0,) if self.outcome == FULL else ()

    @property
    def queued(self):
        return self.account.held.messages  # a message that the sink has not accepted is left at the source

    def counters(self):
        return (
            _counters_of_receiving(self.account)
            + _counters_of_sending(self.account)
            + Counters(held=self.account.held.messages)
        )

    def sink_counters(self):
        return (_counters_of_sending(self.account),)

    def set_taps(self, points):
        (self.tap,) = points

    def discard_rest(self):
        """Nothing is to be done: a port is never left in the middle of a message."""

    def count_unread(self, uint64_t limit_messages):
        self.source._check()
        return port_count_unread(self.source.port, limit_messages)

    def move(self, uint64_t limit_messages, uint64_t limit_bytes):
        return self._move(limit_messages, limit_bytes)

    cdef int _move(self, uint64_t limit_messages, uint64_t limit_bytes) except -1:
        self.source._check()
        self.sink._check()
        cdef port *source = self.source.port
        cdef port *sink = self.sink.port
        cdef int taken, before = self.outcome
        cdef void *tap = NULL
        cdef accepted_t accepted = NULL
        if self.tap is not None:
            tap = <void *> self.tap
            accepted = <accepted_t> _show_run
        with nogil:
            self.outcome = relay_watched(source, sink, self.account, limit_messages, limit_bytes, accepted, tap)
        if self.outcome == NO_MEMORY:
            raise MemoryError()
        if self.outcome == FULL:
            taken = self.source._look()
            if taken != TAKEN_MESSAGE:
                self.outcome = EMPTY if taken == TAKEN_NOTHING else LIMIT  # nothing waits for the sink
            elif before != FULL or self.account.received.messages != self.taken_at_hold:
                self.holds += 1
                self.taken_at_hold = self.account.received.messages
        self.source._count_dropped(self.account)
        return self.outcome


@cython.final
cdef class Receiver:
    """Receives from a port; see `pollbroker.pump.contract`."""

    cdef Port source
    cdef account *account
    cdef public uint64_t burst_frames

    def __cinit__(self, Port source not None, maxframes=_MAXFRAMES):
        source._check()
        self.account = _new_account()
        self.source = source
        source._is_source()
        source.port.options.maxframes = maxframes

    def __dealloc__(self):
        if self.account != NULL:
            account_release(self.account)

    @property
    def received(self):
        return self.account.received.messages

    @property
    def received_bytes(self):
        return self.account.received.bytes

    @property
    def dropped(self):
        return self.account.too_many_frames

    def counters(self):
        return _counters_of_receiving(self.account)

    def discard_rest(self):
        """Nothing is to be done: a port is never left in the middle of a message."""

    def count_unread(self, uint64_t limit_messages):
        self.source._check()
        return port_count_unread(self.source.port, limit_messages)

    def __call__(self):
        cdef message message
        cdef int taken
        cdef list frames
        self.source._check()
        cdef port *source = self.source.port
        source.may_read = 1 << 20
        taken = port_take(source, &message, 1)
        self.burst_frames += source.discarded.frames
        if source.may_read < 1 << 20:  # it may all have been commands, or what the port has dealt with itself
            self.burst_frames += ((1 << 20) - source.may_read) * BURST_FRAMES >> 20
        if taken == TAKEN_TOO_LONG:
            self.source.too_long += 1
        self.source._count_dropped(self.account)
        if taken == TAKEN_NOTHING:
            return None
        if taken != TAKEN_MESSAGE:
            return []
        frames = []
        if message.prefix_size:
            _append_frames(frames, message.prefix, message.prefix_size)
        _append_frames(frames, message.run.slab.bytes + message.run.start, message.run.end - message.run.start)
        self.account.received.messages += 1
        self.account.received.frames += message.run.amount.frames + message.prefix_amount.frames
        self.account.received.bytes += message.run.amount.bytes + message.prefix_amount.bytes
        self.burst_frames += len(frames)
        port_consume(source, &message)
        return frames


cdef int _append_frames(list frames, const uint8_t *at, size_t count) except -1:
    cdef unsigned flags = 0
    cdef uint64_t length = 0
    cdef int header
    while count:
        header = frame_header(at, count, &flags, &length)
        frames.append(PyBytes_FromStringAndSize(<const char *> at + header, length))
        at += header + length
        count -= header + length
    return 0


@cython.final
cdef class Sender:
    """Sends to a port, and copies to the capture port; see `pollbroker.pump.contract`.

    `capture` is called with the frames of each copy, and returns True if it was accepted.
    """

    cdef Port sink
    cdef account *account
    cdef readonly object capture
    cdef public object tap
    cdef list prefix
    cdef uint64_t captured, captured_frames, captured_bytes, capture_dropped

    def __cinit__(self, Port sink not None, capture, prefix, bint drop_slow_peer):
        sink._check()
        self.account = _new_account()
        self.sink = sink
        self.capture = capture
        self.prefix = [] if prefix is None else [prefix]
        sink._is_sink()
        sink.port.drops_slow_peer = drop_slow_peer

    def __dealloc__(self):
        if self.account != NULL:
            account_release(self.account)

    @property
    def sent(self):
        return self.account.sent.messages

    @property
    def queued(self):
        return self.account.held.messages

    @property
    def finished(self):
        cdef account *account = self.account
        return (
            account.sent.messages
            + account.held.messages
            + account.unroutable
            + account.slow_peer
            + account.interrupted
            + account.long_subscription
        )

    def counters(self):
        return _counters_of_sending(self.account) + Counters(
            held=self.account.held.messages,
            captured=self.captured,
            captured_frames=self.captured_frames,
            captured_bytes=self.captured_bytes,
            capture_dropped=self.capture_dropped,
        )

    def send(self, list frames not None):
        cdef message message
        cdef size_t size = 0, at = 0, count = len(frames), i
        cdef bytes frame
        cdef int outcome
        if not count:
            raise ValueError("a message of no frames cannot be sent; expected one or more")
        self.sink._check()
        cdef port *sink = self.sink.port
        memset(&message, 0, sizeof(message))  # it comes from no peer, and nothing precedes it
        message.run.amount.messages = 1
        message.run.amount.frames = count
        for frame in frames:
            size += 9 + len(frame)
            message.run.amount.bytes += len(frame)
        message.run.slab = slab_new(&self.sink.net.net.wire.pool, size)
        if message.run.slab == NULL:
            raise MemoryError()
        for i in range(count):
            frame = frames[i]
            at += frame_write_header(message.run.slab.bytes + at, 1 if i + 1 < count else 0, len(frame))
            memcpy(message.run.slab.bytes + at, PyBytes_AsString(frame), len(frame))
            at += len(frame)
        message.run.start = 0
        message.run.end = at
        if not port_has_room_for_any(sink):
            port_flush(sink)
        outcome = port_put(sink, &message, self.account) if port_has_room_for_any(sink) else PUT_FULL
        slab_release(message.run.slab)
        if outcome == PUT_ACCEPTED:  # it is written at the end of the turn, together with others
            if self.tap is not None:
                show(self.tap, count, message.run.amount.bytes, frames[:FRAMES_SHOWN])
            if self.capture is not None:
                self._copy(frames)
            return SENT
        if outcome == PUT_FULL:
            return FULL
        if outcome == PUT_NO_MEMORY:
            raise MemoryError()
        if outcome == PUT_UNROUTABLE:
            self.account.unroutable += 1
        elif outcome == PUT_SLOW_PEER:
            self.account.slow_peer += 1
        else:
            self.account.long_subscription += 1
        return DROPPED

    cdef int _copy(self, list frames) except -1:
        cdef list copy = self.prefix + frames
        if self.capture(copy):
            self.captured += 1
            self.captured_frames += len(copy)
            self.captured_bytes += sum(map(len, copy))
        else:
            self.capture_dropped += 1
        return 0
