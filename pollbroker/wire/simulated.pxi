# Streams that are no sockets, so that tests decide what happens at them. It is included in `native.pyx`.

class Event:
    """What may have happened at a simulated stream since it was read or written last; see `peer_on_stream`."""

    INPUT = STREAM_INPUT
    OUTPUT = STREAM_OUTPUT
    END = STREAM_END


cdef class Stream:
    """A connection of a port whose `Net` was made with a clock. A subclass says what happens at it, by three methods:

    `read(count)` returns up to `count` bytes, no bytes at the end of the stream, or a negative errno. `write(given)` is
    given bytes, and returns how many it has taken, or a negative errno. `close()` is called once. What these raise is
    `Net.failure` then, and the port is told that the connection is broken.

    As at a socket, EAGAIN, and a read or a write of less than was asked for, mean that the port waits until it is told.
    """

    cdef peer *peer
    cdef Port port

    def begin(self, Port port not None, int number):
        """Begin the connection. `number` is not negative, and stands for a descriptor."""
        port._check()
        assert self.port is None
        assert port.net.clock is not None
        self.port = port
        port.net.net.simulated_s = port.net.net.wire.now_s = port.net.clock()
        Py_INCREF(self)  # until `close` was called
        self.peer = peer_new(port.port, number, <void *> self)
        if self.peer == NULL:
            Py_DECREF(self)
            raise MemoryError()
        peer_flush(self.peer)
        net_arm(&port.net.net)

    def tell(self, unsigned events):
        """Something has happened (`Event`): the port is told when it is served next."""
        if self.peer != NULL:
            self.port.net.told[self] = self.port.net.told.get(self, 0) | events
            net_wake(&self.port.net.net)

    @property
    def is_open(self):
        """True from `begin` until the port has closed the connection."""
        return self.peer != NULL


cdef ssize_t _simulated_read(peer *peer, void *bytes, size_t count) noexcept with gil:
    cdef Stream stream = <Stream> peer.owner
    try:
        got = stream.read(count)
        if isinstance(got, int):
            return got
        assert len(got) <= count
        memcpy(bytes, PyBytes_AsString(got), len(got))
        return len(got)
    except BaseException as error:
        return _failed(stream, error)


cdef ssize_t _simulated_write(peer *peer, const iovec *pieces, int count) noexcept with gil:
    cdef Stream stream = <Stream> peer.owner
    try:
        given = b"".join(
            [PyBytes_FromStringAndSize(<const char *> pieces[i].iov_base, pieces[i].iov_len) for i in range(count)]
        )
        return stream.write(given)
    except BaseException as error:
        return _failed(stream, error)


cdef void _simulated_close(peer *peer) noexcept with gil:
    cdef Stream stream = <Stream> peer.owner
    net_note_end(peer)
    stream.peer = NULL
    peer.owner = NULL
    try:
        stream.close()
    except BaseException as error:
        _failed(stream, error)
    Py_DECREF(stream)


cdef int _failed(Stream stream, error):
    if stream.port.net.failure is None:
        stream.port.net.failure = error
    return -errno.EIO


cdef stream_calls _simulated_calls

_simulated_calls.read = _simulated_read
_simulated_calls.write = _simulated_write
_simulated_calls.close = _simulated_close
