# The hub of a broker whose ports are all the wire's, and whose messages go unchanged from one to another.
#
# Unlike the hubs of `pollbroker.pump`, this one settles nothing: a port says by itself when it has something new. It keeps
# the contract of `pollbroker.pump.contract` all the same: what a flow counts is counted here, in `pump/hub.py` and in
# `pump/hub.pxi`. It is included in `native.pyx`, because a flow calls its pump directly.

cdef enum:
    READY = 0
    WAITING = 1
    STALLED = 2
    PAUSED = 4
    ENDED = 5

cdef enum:
    FLUSHED = 2

assert (READY, WAITING, STALLED, PAUSED, ENDED) == tuple(
    outcomes.FlowState[name] for name in ("READY", "WAITING", "STALLED", "PAUSED", "ENDED")
)
assert FLUSHED == outcomes.FLUSHED


@cython.final
cdef class Flow:
    """One direction of a broker, with one sink; see `pollbroker.pump.contract`."""

    cdef readonly Pump pump
    cdef public int source, state
    cdef int sink
    cdef public uint64_t stalls
    cdef public int retries
    cdef public bint probe_when_full
    cdef bint stalling
    cdef double stalled_before_s, stalled_since
    cdef bint sink_waited_for  # a message at the source waits for the sink
    cdef uint64_t holds, taken_at_hold  # a message whose peer left before it was taken is not counted
    cdef double waiting_since
    cdef Waits waits_

    def __cinit__(self, Pump pump not None, int source, tuple sinks not None):
        self.pump = pump
        self.source = source
        (self.sink,) = sinks
        self.state = READY

    cdef int _move(self, uint64_t limit_messages, uint64_t limit_bytes, double now_s) except -1:
        cdef int outcome = self.pump._move(limit_messages, limit_bytes)
        if self.sink_waited_for or outcome == FULL:
            self._note_waits(outcome == FULL, now_s)
        if outcome == FULL:
            self.state = STALLED
            if not self.stalling:
                self.stalls += 1
                self.stalling = True
                self.stalled_since = now_s
        else:
            self._end_stall(now_s)
            if outcome == EMPTY:
                self.state = WAITING
        return 0

    cdef void _note_waits(self, bint full, double now_s) noexcept:
        """Count how long a message waited that waits no longer. `full`: the sink has no room for one just now."""
        if full and self.pump.holds == self.holds:
            return  # it still waits
        if self.sink_waited_for and self.pump.account.received.messages != self.taken_at_hold:
            waits_add(&self.waits_, now_s - self.waiting_since)
        self.sink_waited_for = full
        self.waiting_since = now_s
        self.holds = self.pump.holds
        self.taken_at_hold = self.pump.account.received.messages

    cdef void _end_stall(self, double now_s) noexcept:
        if self.stalling:
            self.stalled_before_s += now_s - self.stalled_since
            self.stalling = False

    @property
    def sinks(self):
        return (self.sink,)

    @property
    def needs_timer(self):
        return False  # a port of the wire says when it has room

    def pause(self, double now_s):
        self._end_stall(now_s)
        self.state = PAUSED

    def read_no_more(self, double now_s):
        self.pause(now_s)  # it holds no message that a sink has not accepted

    def resume(self):
        self.state = READY

    def end(self, double now_s):
        self._end_stall(now_s)
        self.state = ENDED

    def carry_on(self, uint64_t stalls, double stalled_s, waits, double waited_s):
        """Go on counting from here. Raises `ValueError` for a histogram with other bounds."""
        cdef int i
        if len(waits) != WAIT_BOUNDS + 1:
            raise ValueError(f"a histogram of {len(waits)} counts; expected {WAIT_BOUNDS + 1}")
        self.stalls = stalls
        self.stalled_before_s = stalled_s
        for i in range(WAIT_BOUNDS + 1):
            self.waits_.counts[i] = waits[i]
        self.waits_.total_s = waited_s

    def stalled_s(self, double now_s):
        return self.stalled_before_s + (now_s - self.stalled_since if self.stalling else 0.0)

    @property
    def waits(self):
        return waits_counts(&self.waits_)

    @property
    def waited_s(self):
        return self.waits_.total_s


@cython.final
cdef class Hub:
    """The flows of one broker; see `pollbroker.pump.contract`."""

    cdef readonly object owner
    cdef readonly tuple flows
    cdef list ready
    cdef tuple ports
    cdef bint scheduled, ended
    cdef public bint flushing

    def __cinit__(self, owner, list ready not None, tuple ports not None, tuple flows not None):
        self.owner = owner
        self.ready = ready
        self.ports = ports
        self.flows = flows

    @property
    def working(self):
        return False  # no route of this hub has a handler

    @property
    def only_moves(self):
        cdef Flow flow
        for flow in self.flows:
            if flow.pump.tap is not None:
                return False
        return True

    cpdef schedule(self):
        if not self.scheduled:
            self.scheduled = True
            self.ready.append(self)

    def end(self, double now_s):
        cdef Flow flow
        self.ended = True
        for flow in self.flows:
            flow.end(now_s)

    def work(self, uint64_t limit_messages, uint64_t limit_bytes, double now_s):
        cdef Flow flow
        self.scheduled = False
        if self.ended:
            return 0
        for flow in self.flows:
            if flow.state == READY:
                if self.flushing:
                    flow.end(now_s)  # no message is held that a sink has not accepted
                else:
                    flow._move(limit_messages, limit_bytes, now_s)
        return self._outcome()

    def wake(self, int port_index):
        if self.ended:
            return 0
        self._wake(port_index)
        return self._outcome()

    cdef void _wake(self, int port_index):
        """Make those flows ready that read this port, and those that wait for it to have room, and schedule the hub then."""
        cdef Flow flow
        cdef Port port = self.ports[port_index]
        for flow in self.flows:
            if flow.state == WAITING and flow.source == port_index:
                flow.state = READY
                self.schedule()
            elif flow.state == STALLED and flow.sink == port_index and port_has_room_for_any(port.port):
                flow.state = READY
                self.schedule()

    cdef bint _wake_natively(self, int port_index):
        """Do what `wake` does. Return False, and do nothing, if its flags may tell the owner to do something."""
        if self.ended or self.flushing:
            return False
        self._wake(port_index)
        return True

    def on_ready(self, int port_index, wake):
        return OnReady(self, port_index, wake)

    def interest(self, int port_index):
        return 0  # a port of the wire is not in a `zmq.Poller`

    cdef int _outcome(self):
        """Schedule the hub if a flow is ready. Return FLUSHED if it is flushing and every flow has ended."""
        cdef Flow flow
        cdef bint ended = self.flushing
        for flow in self.flows:
            if flow.state == READY:
                self.schedule()
            ended = ended and flow.state == ENDED
        return FLUSHED if ended else 0


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
