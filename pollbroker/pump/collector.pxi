# The native collector: reads an epoll set, and wakes hubs without a Python call. See `contract.py`.
#
# It is included in `native.pyx`, because it calls the hubs directly.

@cython.final
cdef class OnReady:
    """Wakes a hub for one of its ports. It calls `wake(hub, port_index)` of the loop, which carries out the flags."""

    cdef readonly Hub hub
    cdef readonly int port_index
    cdef object wake

    def __cinit__(self, Hub hub not None, int port_index, wake):
        self.hub = hub
        self.port_index = port_index
        self.wake = wake

    def __call__(self):
        self.wake(self.hub, self.port_index)


cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/epoll.h>
    static int read_epoll(int set, struct epoll_event *events, int most) { return epoll_wait(set, events, most, 0); }
    static int epoll_descriptor(const struct epoll_event *event) { return event->data.fd; }
    #else  /* Never called: the selector of this platform has no epoll set. */
    struct epoll_event { int none; };
    static int read_epoll(int set, struct epoll_event *events, int most) { return -1; }
    static int epoll_descriptor(const struct epoll_event *event) { return -1; }
    #endif
    """
    cdef struct epoll_event:
        pass
    int read_epoll(int set, epoll_event *events, int most) nogil
    int epoll_descriptor(const epoll_event *event) nogil

cdef extern from "time.h" nogil:
    int CLOCK_MONOTONIC
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *now)

cdef enum:
    MOST_EVENTS = 256  # in one turn; in the next turn the kernel reports the others first


@cython.final
cdef class Collector:
    """Reads an epoll set without sleeping. Makes flows ready whose source has had an event, has the net of the wire serve
    itself, and returns the other functions of `wakes` that are to be called."""

    cdef int epoll
    cdef dict wakes
    cdef int net_descriptor  # -1 without a net
    cdef object serve_net_alone
    cdef epoll_event events[MOST_EVENTS]

    def __cinit__(self, int epoll, dict wakes not None):
        self.epoll = epoll
        self.wakes = wakes
        self.net_descriptor = -1

    def make_message_turns(self, bursts, *, double spin_s, unsigned int look_every):
        return MessageTurns(self, bursts, spin_s, look_every)

    cdef int _spin(self, double spin_s) noexcept nogil:
        """Read the set again and again, for `spin_s` at most, until something has happened."""
        cdef timespec begun, now
        cdef int count = 0
        clock_gettime(CLOCK_MONOTONIC, &begun)
        while True:
            count = read_epoll(self.epoll, self.events, MOST_EVENTS)
            clock_gettime(CLOCK_MONOTONIC, &now)
            if count != 0 or now.tv_sec - begun.tv_sec + 1e-9 * (now.tv_nsec - begun.tv_nsec) >= spin_s:
                return count

    cpdef collect(self, double spin_s):
        cdef int i, count, descriptor
        cdef list others = []
        cdef OnReady on_ready
        if spin_s > 0:
            with nogil:
                count = self._spin(spin_s)
        else:
            count = read_epoll(self.epoll, self.events, MOST_EVENTS)  # the GIL is kept, since this never waits
        if count <= 0:
            return None
        for i in range(count):
            descriptor = epoll_descriptor(&self.events[i])
            if descriptor == self.net_descriptor and self.serve_net_alone():
                continue
            wake = self.wakes.get(descriptor)
            if isinstance(wake, OnReady):
                on_ready = wake
                if not on_ready.hub._schedule_reader(on_ready.port_index):
                    others.append(on_ready)
            elif wake is not None:
                others.append(wake)
        return others
