# Turns of the loop in which messages are moved and nothing else happens. See `turns.py`.
#
# They do what `NestedWaiter.wait`, `Loop._turn` and `Loop._work` do, in the same order; all are changed together. The
# interpreter would take longer for a turn than the kernel does. This file is included in `native.pyx`, because it reads
# the events of the collector.

cdef struct zmq_pollitem_t:
    void *socket
    int fd  # another type on Windows, which has no epoll
    short events
    short revents

ctypedef int (*poll_function)(zmq_pollitem_t *, int, long) noexcept nogil

cdef poll_function zmq_poll = <poll_function> _address("zmq_poll")


@cython.final
cdef class MessageTurns:
    """Makes turns for as long as nothing is to be done in them but to move messages."""

    cdef readonly uint64_t made
    cdef Collector collector
    cdef list ready
    cdef object messages, size, clock, finish
    cdef double longest_s, spin_s
    cdef unsigned int sleeps, look_every
    cdef object net

    def __cinit__(self, Collector collector not None, bursts not None, double spin_s, unsigned int look_every):
        self.collector = collector
        self.ready = bursts.ready
        self.messages, self.size = bursts.messages, bursts.size
        self.longest_s = bursts.longest_s
        self.clock = bursts.clock
        self.finish = bursts.finish
        self.spin_s = spin_s
        self.look_every = look_every

    def watch_net(self, net):
        self.net = net
        self.collector.net_descriptor = net.fileno()
        self.collector.serve_net_alone = net.serve_alone

    def make(self, timeout_ms, bint only_one):
        cdef list wakes
        cdef int sleep_ms = -1 if timeout_ms is None else timeout_ms
        cdef double end_s = INFINITY if timeout_ms is None else <double> self.clock() + <double> timeout_ms / 1000
        cdef double left_s
        while True:
            wakes = self._wait(0 if self.ready else sleep_ms)
            if wakes:
                return wakes
            for hub in self.ready:
                if not hub.only_moves:
                    return wakes
            if not self.ready or not self._work() or only_one:
                return None
            if self.net is not None:
                self.net.flush()
            if end_s != INFINITY:
                left_s = end_s - <double> self.clock()
                if left_s <= 0:
                    return None
                sleep_ms = <int> ceil(left_s * 1000)
            self.made += 1
            PyErr_CheckSignals()  # nothing else calls the handlers as long as messages come

    cdef list _wait(self, int sleep_ms):
        """Sleep until something has happened, for `sleep_ms` at most (-1: without limit). Return what is to be called."""
        cdef list wakes = None
        cdef zmq_pollitem_t item
        cdef int count
        if sleep_ms == 0:
            wakes = self.collector.collect(0.0)
        elif self.spin_s > 0 or self.sleeps < self.look_every or self.sleeps % self.look_every == 0:
            wakes = self.collector.collect(self.spin_s)
            if wakes is not None:
                self.sleeps = 0
        if wakes is not None or sleep_ms == 0:
            return wakes or []
        self.sleeps += 1
        item.socket, item.fd, item.events, item.revents = NULL, self.collector.epoll, POLLIN, 0
        with nogil:
            count = zmq_poll(&item, 1, sleep_ms)
        if count < 0 and zmq_errno() != EINTR:
            raise _error(zmq_errno())
        return (self.collector.collect(0.0) or []) if count > 0 else []  # after a signal the loop calls its handler

    cdef bint _work(self) except -1:
        """Let each ready hub move messages. Return False if the owner of one was called."""
        cdef list hubs = self.ready.copy()
        cdef Py_ssize_t worked = 0
        cdef bint undisturbed = True
        now_s = self.clock()
        cdef double end_s = <double> now_s + self.longest_s
        try:
            for hub in hubs:
                worked += 1
                try:
                    flags = hub.work(self.messages, self.size, now_s)
                    if flags:
                        undisturbed = False
                        self.finish(hub.owner.carry_out, flags)
                except Exception as error:
                    undisturbed = False
                    self.finish(hub.owner.fail, error)
                if worked < len(hubs):
                    now_s = self.clock()
                    if <double> now_s >= end_s:
                        break
        except BaseException:
            worked = max(0, worked - 1)
            raise
        finally:
            del self.ready[:worked]
        return undisturbed
