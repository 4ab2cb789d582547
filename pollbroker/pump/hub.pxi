# The native hub: the flows of one broker. It makes no Python object when a message is moved.
#
# The rules are at the top of `hub.py`, the Python version; both are changed together, and with them what flows count in
# `wire/hub.pxi`. This file is included in `native.pyx`, because a flow calls its pump directly.

cdef enum:
    READY = 0
    WAITING = 1
    STALLED = 2
    RETRYING = 3
    PAUSED = 4
    ENDED = 5

cdef enum:
    RETRY = 1
    FLUSHED = 2

cdef enum:
    POLLIN = 1
    POLLOUT = 2
    POLLERR = 4

# BUSY is left out: it is a state of flows with a coroutine handler, which are Python's.
assert (READY, WAITING, STALLED, RETRYING, PAUSED, ENDED) == tuple(outcomes.FlowState)[:6]
assert (RETRY, FLUSHED) == (outcomes.RETRY, outcomes.FLUSHED)
assert (POLLIN, POLLOUT, POLLERR) == (zmq.POLLIN, zmq.POLLOUT, zmq.POLLERR)


cdef struct PortState:
    void *socket
    bint read_dry  # True if, in this turn, a receive found nothing there, and nothing was sent there after it


@cython.final
cdef class Flow:
    """One direction of a broker, with one sink; see `pollbroker.pump.contract`."""

    cdef readonly Pump pump
    cdef public int source, state
    cdef int sink
    cdef public uint64_t stalls
    cdef public int retries
    cdef public bint probe_when_full
    cdef bint reads_no_more  # it is paused as soon as it holds no message
    cdef bint stalling, sink_is_trusted
    cdef double stalled_before_s, stalled_since
    cdef bint sink_waited_for  # a message waits for the sink
    cdef uint64_t holds
    cdef double waiting_since
    cdef Waits waits_

    def __cinit__(self, Pump pump not None, int source, tuple sinks not None):
        self.pump = pump
        self.source = source
        (self.sink,) = sinks
        self.state = READY
        self.sink_is_trusted = True

    cdef int _move(self, uint64_t limit_messages, uint64_t limit_bytes, double now_s) except -1:
        """Let the pump move messages, and set the state that follows from its outcome. Return True if a message was
        offered to the sink."""
        cdef Pump pump = self.pump
        cdef uint64_t sent = pump.sender.sent_, received = pump.receiver.received_
        cdef bint held = pump.holding
        cdef int outcome = pump._move(limit_messages, limit_bytes)
        if pump.sender.sent_ != sent or not pump.holding:
            if self.stalling:
                self._end_stall(now_s)
            self.sink_is_trusted = True
            self.retries = 0
        if self.sink_waited_for or outcome == FULL:
            self._note_waits(outcome == FULL, now_s)
        if outcome == EMPTY:
            self.state = WAITING
        elif outcome == FULL:
            self.state = STALLED
            if not self.stalling:
                self.stalls += 1
                self.stalling = True
                self.stalled_since = now_s
        return held or pump.receiver.received_ != received

    cdef void _note_waits(self, bint full, double now_s) noexcept:
        """Count how long a message waited that waits no longer. `full`: the sink has refused one just now."""
        if full and self.pump.holds == self.holds:
            return  # it still waits
        if self.sink_waited_for:
            waits_add(&self.waits_, now_s - self.waiting_since)
        self.sink_waited_for = full
        self.waiting_since = now_s
        self.holds = self.pump.holds

    cdef void _sink_says(self, bint room) noexcept:
        """Note whether the sink that the flow is stalled on reports room. If the sink has reported room before and
        refused all the same, a timer decides when to try again."""
        if not room:
            self.sink_is_trusted = True
        elif self.sink_is_trusted:
            self.sink_is_trusted = False
            self.state = READY
        else:
            self.state = RETRYING

    @property
    def sinks(self):
        return (self.sink,)

    @property
    def needs_timer(self):
        return self._needs_timer()

    cdef bint _needs_timer(self) noexcept:
        return self.state == RETRYING or (self.probe_when_full and self.state == STALLED)

    cdef void _end_stall(self, double now_s) noexcept:
        if self.stalling:
            self.stalled_before_s += now_s - self.stalled_since
            self.stalling = False

    def pause(self, double now_s):
        self._end_stall(now_s)
        self.state = PAUSED

    def read_no_more(self, double now_s):
        self.reads_no_more = True
        if not self.pump.holding:
            self.pause(now_s)

    def resume(self):
        self.reads_no_more = False
        self.state = READY
        self.sink_is_trusted = True

    def end(self, double now_s):
        self._end_stall(now_s)
        self.state = ENDED

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
    cdef public bint flushing
    cdef list ready
    cdef tuple sockets, checked_sockets
    cdef PortState *ports
    cdef int port_count
    cdef bint scheduled, ended

    def __cinit__(
        self, owner, list ready not None, tuple sockets not None, tuple checked_sockets not None, tuple flows not None
    ):
        self.owner = owner
        self.ready = ready
        self.sockets = sockets
        self.checked_sockets = checked_sockets
        self.flows = flows
        self.port_count = len(sockets)
        assert all(isinstance(flow, Flow) for flow in flows)
        assert all(0 <= port_index < self.port_count for flow in flows for port_index in (flow.source, *flow.sinks))
        self.ports = <PortState *> calloc(self.port_count, sizeof(PortState))
        if self.ports == NULL:
            raise MemoryError()
        for i, socket in enumerate(sockets):
            self.ports[<int> i].socket = <void *> <uintptr_t> socket.underlying

    def __dealloc__(self):
        free(self.ports)

    @property
    def working(self):
        return False  # a native hub has no routes with handlers

    @property
    def only_moves(self):
        cdef Flow flow
        for flow in self.flows:
            if flow.pump.sender.tapped:
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
        cdef bint only_held, touched
        cdef int i, wanted
        self.scheduled = False
        if self.ended:
            return 0
        self._check_open()
        for i in range(self.port_count):
            self.ports[i].read_dry = False
        for flow in self.flows:
            if flow.state == READY:
                only_held = self.flushing or flow.reads_no_more
                touched = flow._move(1 if only_held else limit_messages, 1 if only_held else limit_bytes, now_s)
                if touched:
                    self.ports[flow.sink].read_dry = False
                if flow.state == WAITING:
                    self.ports[flow.source].read_dry = True
                if only_held and not flow.pump.holding:
                    if self.flushing:
                        flow.end(now_s)
                    else:
                        flow.pause(now_s)
        for i in range(self.port_count):
            wanted = self._interest(i)
            if wanted & POLLOUT or (wanted & POLLIN and not self.ports[i].read_dry):
                self._settle(i)
        return self._outcome()

    def wake(self, int port_index):
        cdef Flow flow
        if self.ended:
            return 0
        self._check_open()
        if self._schedule_reader(port_index):
            return 0
        self._settle(port_index)
        return self._outcome()

    cdef bint _schedule_reader(self, int port_index) except -1:
        """Make the flow that reads this port ready. Return False if there is none, or if it does not wait for its
        source.

        The flow simply tries to receive, which costs no more than reading ZMQ_EVENTS.
        """
        cdef Flow flow
        for flow in self.flows:
            if flow.source == port_index and (flow.state == WAITING or flow.state == READY):
                flow.state = READY
                self.schedule()
                return True
        return False

    def on_ready(self, int port_index, wake):
        return OnReady(self, port_index, wake)

    def interest(self, int port_index):
        return self._interest(port_index)

    cdef int _interest(self, int port_index):
        cdef Flow flow
        cdef int events = 0
        for flow in self.flows:
            if flow.source == port_index and flow.state == WAITING:
                events |= POLLIN
            if flow.sink == port_index and flow.state == STALLED:
                events |= POLLOUT
            if flow.source == port_index and flow.state == PAUSED:
                events |= POLLERR  # it never happens, but a watched socket also reports that its context was terminated
        return events

    cdef int _settle(self, int port_index) except -1:
        cdef Flow flow
        cdef int events = _events(self.ports[port_index].socket)
        if events < 0:
            raise _error(zmq_errno())
        for flow in self.flows:
            if flow.source == port_index and flow.state == WAITING and events & POLLIN:
                flow.state = READY
            elif flow.sink == port_index and flow.state == STALLED:
                flow._sink_says(events & POLLOUT != 0)
        return 0

    cdef int _outcome(self) except -1:
        """Schedule the hub if a flow is ready. Return the flags that tell its owner what to do."""
        cdef Flow flow
        cdef int flags = 0
        cdef bint ended = self.flushing
        for flow in self.flows:
            if flow.state == READY:
                self.schedule()
            if flow._needs_timer():
                flags |= RETRY
            ended = ended and flow.state == ENDED
        return flags | FLUSHED if ended else flags

    cdef int _check_open(self) except -1:
        for socket in self.checked_sockets:
            if socket.closed:
                raise zmq.ZMQError(zmq.ENOTSOCK)
        return 0
