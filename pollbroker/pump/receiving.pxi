# The native receiver: receives messages from one source.
#
# The rules are at the top of `contract.py`. `receiving.py` is the Python version; both are changed together. This file
# is included in `native.pyx`, because the pump calls it for every message.

cdef enum:
    ROOM_KEPT = 256  # frames of 64 bytes; if there is more room, it is freed when the message has been sent


@cython.final
cdef class Receiver:
    """Receives from the source of a flow, and keeps the message that was read last; see `contract.py`."""

    cdef object socket  # keeps the socket alive
    cdef void *source
    cdef uint64_t maxframes
    cdef bint discarding

    # The frames of the message: the first, and the rest in an array. Every frame for which there is room is always
    # initialised, whether it is in use or not.
    cdef zmq_msg_t first
    cdef zmq_msg_t *rest
    cdef size_t used, room

    cdef uint64_t received_, received_frames, received_bytes_, too_many_frames, interrupted
    cdef uint64_t message_bytes  # bytes of the message, or of the part of a message, that was read last
    cdef public uint64_t burst_frames
    cdef int code

    def __cinit__(self, socket, uint64_t maxframes=_MAXFRAMES):
        zmq_msg_init(&self.first)
        self.socket = socket
        self.source = <void *> <uintptr_t> socket.underlying
        self.maxframes = maxframes

    def __dealloc__(self):
        zmq_msg_close(&self.first)
        self._give_room_back()

    def __call__(self):
        """Return the next message as a list of bytes, or None, or an empty list; see `contract.py`."""
        cdef int outcome
        with nogil:
            outcome = self._read()
        if outcome == READ:
            try:
                return [self._as_bytes(i) for i in range(self.used)]
            except MemoryError:
                self.interrupted += 1
                raise
            finally:
                self._forget()
        if outcome == ERROR:
            raise _error(self.code)
        return None if outcome == EMPTY else []

    cdef bytes _as_bytes(self, size_t i):
        cdef zmq_msg_t *frame = self._frame(i)
        return PyBytes_FromStringAndSize(<char *> zmq_msg_data(frame), zmq_msg_size(frame))

    cdef inline zmq_msg_t *_frame(self, size_t i) noexcept nogil:
        return &self.first if i == 0 else &self.rest[i - 1]

    cdef int _read(self) noexcept nogil:
        """Read the next message: READ, EMPTY, DROPPED (a message, or a part of one, was discarded: counted) or
        ERROR."""
        cdef size_t size = 0, size_of_all
        if self.discarding:
            return self._discard(BURST_FRAMES)
        self.code = _receive(&self.first, self.source, &size)
        if self.code != 0:
            self.message_bytes = 0
            # EFSM: a REP has to reply, or a REQ to ask, before it can receive.
            return EMPTY if self.code == EAGAIN or self.code == EFSM else ERROR
        self.received_ += 1
        self.used = 1
        if zmq_msg_more(&self.first) == 0:
            self._count(1, size)
            return READ
        size_of_all = size
        while True:
            if self.used >= self.maxframes:
                self.too_many_frames += 1
                self.discarding = True
                break
            if self.used > self.room and not self._make_room():
                self.code = ENOMEM
            else:
                self.code = _receive(&self.rest[self.used - 1], self.source, &size)
            if self.code != 0:
                self.interrupted += 1
                self.discarding = self.code == ENOMEM  # the rest can still be read
                break
            size_of_all += size
            self.used += 1
            if zmq_msg_more(&self.rest[self.used - 2]) == 0:
                self._count(self.used, size_of_all)
                return READ
        self._count(self.used, size_of_all)
        self._forget()
        # EAGAIN: the connection was closed, and the rest of the message with it.
        return DROPPED if self.code == 0 or self.code == EAGAIN else ERROR

    cdef inline void _count(self, size_t frames, size_t size) noexcept nogil:
        """Count frames that were read, and their bytes."""
        self.received_frames += frames
        self.received_bytes_ += size
        self.burst_frames += frames
        self.message_bytes = size

    cdef int _discard(self, size_t most_frames) noexcept nogil:
        """Read and drop at most `most_frames` of the frames that are left of a message. Return DROPPED, or ERROR."""
        cdef size_t frames = 0, size = 0, size_of_all = 0
        self.code = 0
        while self.discarding and frames < most_frames:
            self.code = _receive(&self.first, self.source, &size)
            if self.code != 0:
                self.discarding = self.code != EAGAIN
                break
            frames += 1
            size_of_all += size
            self.discarding = zmq_msg_more(&self.first) != 0
        self._count(frames, size_of_all)
        self.used = 1
        self._forget()
        return DROPPED if self.code == 0 or self.code == EAGAIN else ERROR

    def discard_rest(self):
        """Read and drop the rest of a message of which a part was discarded."""
        while self.discarding:
            if self._discard(BURST_FRAMES) == ERROR:
                raise _error(self.code)

    def count_unread(self, uint64_t limit_messages):
        """Return how many messages can be read from the source, up to the limit. They are read and lost."""
        cdef uint64_t messages = 0
        cdef size_t size = 0
        self.discard_rest()
        self.code = 0
        while messages < limit_messages:
            self.code = _receive(&self.first, self.source, &size)
            if self.code != 0:
                break
            messages += zmq_msg_more(&self.first) == 0
        self.used = 1
        self._forget()
        if self.code != 0 and self.code != EAGAIN:
            raise _error(self.code)
        return messages

    cdef bint _make_room(self) noexcept nogil:
        cdef size_t room = self.room * 2 if self.room else 7
        cdef zmq_msg_t *grown = <zmq_msg_t *> realloc(self.rest, room * sizeof(zmq_msg_t))
        if grown == NULL:
            return False
        self.rest = grown
        while self.room < room:
            zmq_msg_init(&self.rest[self.room])
            self.room += 1
        return True

    cdef void _forget(self) noexcept nogil:
        """Close the frames of the message that were not sent."""
        cdef size_t i
        cdef zmq_msg_t *frame
        for i in range(self.used):
            frame = self._frame(i)
            zmq_msg_close(frame)
            zmq_msg_init(frame)
        self.used = 0
        if self.room > ROOM_KEPT:
            self._give_room_back()

    cdef void _give_room_back(self) noexcept nogil:
        cdef size_t i
        for i in range(self.room):
            zmq_msg_close(&self.rest[i])
        free(self.rest)
        self.rest = NULL
        self.room = 0

    @property
    def received(self):
        return self.received_

    @property
    def received_bytes(self):
        return self.received_bytes_

    @property
    def dropped(self):
        return self._dropped()

    cdef uint64_t _dropped(self) noexcept nogil:
        """Messages that were dropped while they were read."""
        return self.too_many_frames + self.interrupted

    def counters(self):
        return Counters(
            received=self.received_, received_frames=self.received_frames, received_bytes=self.received_bytes_,
            too_many_frames=self.too_many_frames, interrupted=self.interrupted,
        )
