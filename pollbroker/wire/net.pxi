# The epoll set of an engine, and the listeners and connectors in it. It is included in `native.pyx`.

cdef bint _was_net_made = False


def _tell_nobody(where, address, reason, count):
    pass


@cython.final
cdef class Net:
    """The streams of all ports of an engine, in one epoll set. With a `clock` they are simulated: see `Stream`."""

    cdef net net
    cdef bint closed
    cdef readonly int open_ports
    cdef public object on_fault
    """Called with what a peer has done wrong: the port's name, the peer's address, the reason, and how many connections
    have ended by a fault since the last call. It is called once a second at most, and once more at the end of a port."""
    cdef object on_notices
    cdef object clock
    cdef list to_call  # since something has happened
    cdef dict told  # of simulated streams: what has happened at them
    cdef public object failure
    """What a simulated stream has raised; None if nothing."""

    def __cinit__(self, clock=None):
        global _was_net_made
        self.clock = clock
        self.on_fault = _tell_nobody
        self.told = {}
        self.to_call = []
        if clock is not None and not _was_net_made:
            map_set_secret(1, 2)  # nothing was hashed yet; so the order in maps is that of any other run
        _was_net_made = True
        code = net_open(&self.net) if clock is None else net_open_simulated(&self.net, &_simulated_calls)
        if code:
            self.closed = True
            raise OSError(code, os.strerror(code))

    def __dealloc__(self):
        if not self.closed:
            net_close(&self.net)

    def listen(self, on_notices):
        """Have `on_notices` called with what happens to connections: a list of tuples of what it is (one of `NOTICES`), the
        port's name, the address of the other end, and the reason, and how many were lost besides, since there were too
        many at once. None ends that."""
        if not notices_keep(&self.net.notices, 0 if on_notices is None else NOTICES_MOST):
            raise MemoryError()
        self.on_notices = on_notices

    cpdef tell_notices(self):
        """Tell whoever listens what was noted, unless that is nothing."""
        cdef notices *notices = &self.net.notices
        cdef notice *noted
        cdef Port owner
        cdef list told = []
        if not notices.count and not notices.lost:
            return
        for i in range(notices.count):
            noted = &notices.items[i]
            owner = <Port> noted.port.owner
            address = (<const char *> noted.address).decode()
            reason = os.strerror(noted.error) if noted.error else REASONS[noted.reason]
            told.append((NOTICES[noted.kind], owner.where, address, reason))
        lost = notices.lost
        notices.count = notices.lost = 0
        self.on_notices(told, lost)

    def close(self):
        """Close the set. All ports must have been closed."""
        assert not self.open_ports
        if not self.closed:
            self.closed = True
            net_close(&self.net)

    def fileno(self):
        """A descriptor that is readable when `serve` has something to do."""
        return self.net.epoll

    def serve(self):
        """Do what can be done at once, and return what is to be called: the `on_ready` of ports, and the `on_end` of
        connectors."""
        self._serve()
        calls, self.to_call = self.to_call, []
        return calls

    def serve_alone(self):
        """Do what can be done at once. Return False if somebody is to be called, or told of something: then `serve` is to
        be called next."""
        self._serve()
        return not (self.to_call or self._has_news())

    cdef bint _has_news(self) noexcept:
        """Return True if `tell_notices` or `next_question` has something."""
        cdef wire *wire = &self.net.wire
        return self.net.notices.count or self.net.notices.lost or wire.asking.next != &wire.asking

    cdef int _serve(self) except -1:
        """Do what can be done at once, and add to `to_call` what is to be called."""
        cdef list calls = self.to_call
        cdef int count = 0
        cdef link *link
        cdef port *changed
        cdef Port owner
        cdef Connector connector
        cdef OnReady on_ready
        if self.clock is not None:
            self._tell_streams()
        with nogil:
            net_serve(&self.net)
        while self.net.ended.next != &self.net.ended:
            connector = <Connector> ended_connector(self.net.ended.next).owner
            link_remove(&connector.watched.ended)
            calls.append(connector.on_end)
        if net_is_fault_due(&self.net):
            calls.append(self._take_fault())
        link = self.net.wire.changed.next
        while link != &self.net.wire.changed:
            count += 1
            link = link.next
        for _ in range(count):  # those that have news again meanwhile come in the next turn
            changed = changed_port(self.net.wire.changed.next)
            link_remove(&changed.changed)
            changed.news = 0
            owner = <Port> changed.owner
            if not owner.is_read:
                owner._look()
            if isinstance(owner.on_ready, OnReady):
                on_ready = owner.on_ready
                if not on_ready.hub._wake_natively(on_ready.port_index):
                    calls.append(on_ready)
            elif owner.on_ready is not None:
                calls.append(owner.on_ready)
        net_arm(&self.net)
        return 0

    cdef _take_fault(self):
        """What is to be called about the connections that have ended by a fault, of which nobody was told yet."""
        cdef fault *fault = &self.net.fault
        cdef Port owner = <Port> fault.port.owner
        told = partial(self.on_fault, owner.where, fault.address.decode(), REASONS[fault.reason], fault.count)
        fault.count = 0
        fault.told_s = self.net.wire.now_s
        return told

    def flush(self):
        """Write what was sent in a turn of the loop, and have the epoll set wake the loop at the earliest deadline. To be
        called at the end of each turn."""
        if self.clock is not None:
            self.net.simulated_s = self.clock()
        if self.net.wire.unwritten.next != &self.net.wire.unwritten:  # else another thread need not be let in
            with nogil:
                wire_flush(&self.net.wire)
        net_arm(&self.net)

    cdef int _tell_streams(self) except -1:
        """Tell the ports what has happened at simulated streams."""
        cdef Stream stream
        cdef dict told = self.told
        self.told = {}
        self.net.simulated_s = self.net.wire.now_s = self.clock()
        for stream, events in told.items():
            if stream.peer != NULL:
                peer_on_stream(stream.peer, events)
        return 0

    @property
    def due_s(self):
        """When `serve` is to be called at the latest, by the clock of a simulation; 0 if there is nothing to wait for."""
        return self.net.armed_s

    def wake(self):
        """Have `fileno` be readable: it is time for `serve`. For simulations."""
        net_wake(&self.net)

    def next_question(self):
        """The next peer about whom an authenticator is to be asked: its port, the number of the question, its
        descriptor, the mechanism, and its credentials. None if there is none. To be called after `serve`, until then."""
        cdef peer *peer = wire_next_question(&self.net.wire)
        cdef handshake *said
        if peer == NULL:
            return None
        said = peer.handshake
        number = said.question.number
        if peer.port.options.mechanism == MECHANISM_NULL:
            return <Port> peer.port.owner, number, peer.descriptor, b"NULL", ()
        credentials = (
            PyBytes_FromStringAndSize(<const char *> said.username.bytes, said.username.size),
            PyBytes_FromStringAndSize(<const char *> said.password.bytes, said.password.size),
        )
        return <Port> peer.port.owner, number, peer.descriptor, b"PLAIN", credentials

    @property
    def alive(self):
        """What is in use: slabs, segments, ports, peers."""
        cdef wire *wire = &self.net.wire
        return wire.pool.slabs_alive, wire.pool.segments_alive, wire.ports_alive, wire.peers_alive


cdef int _raise_errno(int code) except -1:
    if code:
        raise OSError(code, os.strerror(code))
    return 0


def end_output(Port port not None):
    """Tell every peer, by the end of the stream, that nothing more is sent to it. What it has sent and sends still is
    read, until it closes the connection. Peers that have yet to shake hands are sent away."""
    port._check()
    net_end_output(port.port)


@cython.final
@cython.no_gc_clear  # it is taken out of the epoll set of the port's net
cdef class Listener:
    """Accepts connections for a port. The descriptor is closed with it."""

    cdef watched watched
    cdef Port port  # keeps it alive

    def __cinit__(self, Port port not None, int descriptor):
        port._check()
        _raise_errno(net_listen(&port.net.net, &self.watched, port.port, descriptor))
        self.port = port

    def __dealloc__(self):
        if self.port is not None:
            net_unwatch(&self.watched)

    def close(self):
        net_unwatch(&self.watched)

    @property
    def descriptor(self):
        """The socket that listens; -1 if it was closed."""
        return self.watched.descriptor

    def suspend(self):
        """Accept nothing until `resume`."""
        net_suspend_watched(&self.watched)

    def resume(self):
        _raise_errno(net_resume_watched(&self.watched))

    @property
    def error(self):
        """The errno of the last connection that could not be accepted, or 0."""
        return self.watched.error


@cython.final
@cython.no_gc_clear  # as a listener
cdef class Connector:
    """One connection that is being made, and then is used by a port. `on_end` is called when it is over, or when it could
    not be made."""

    cdef watched watched
    cdef Port port  # keeps it alive
    cdef readonly object on_end

    def __cinit__(self, Port port not None, int descriptor, on_end, *, int recorded=-1):
        """`recorded` is the place, among the peers that `Port.restore` has made, of a connection that was made before;
        there is no descriptor then."""
        port._check()
        self.watched.owner = <void *> self
        if recorded >= 0:
            net_connected(&self.watched, port.port, port._restored_peer(recorded))
        else:
            _raise_errno(net_connect(&port.net.net, &self.watched, port.port, descriptor))
        self.port = port
        self.on_end = on_end

    def __dealloc__(self):
        if self.port is not None:
            net_unwatch(&self.watched)

    @property
    def error(self):
        """The errno of the try, or 0; EPROTO if the handshake was not done."""
        return self.watched.error

    @property
    def was_connected(self):
        """True if a connection was made, hands were shaken, and it is over now."""
        return self.watched.error == 0

    @property
    def descriptor(self):
        """The socket that is being connected; -1 if it is connected, or the try is over."""
        return self.watched.descriptor

    def end(self, *, at_once=False):
        """End the connection that was made. `on_end` is called when that is done: when the other side has ended it, too,
        and what it has sent before that was read. If it is to end `at_once`, nothing more is read."""
        if self.port.port != NULL:
            net_end_connection(&self.watched, at_once)
            net_arm(&self.port.net.net)

    @property
    def is_over(self):
        """True if the connection has ended or was not made, whether or not `on_end` was called."""
        return self.watched.descriptor < 0 and self.watched.peer == NULL

    def suspend(self):
        """Do nothing until `resume`."""
        net_suspend_watched(&self.watched)

    def resume(self):
        _raise_errno(net_resume_watched(&self.watched))

    def close(self):
        net_unwatch(&self.watched)


cdef int _set_credential(credential *credential, bytes value) except -1:
    if not 1 <= len(value) <= 255:
        raise zmq.ZMQError(zmq.EINVAL)
    memcpy(credential.bytes, PyBytes_AsString(value), len(value))
    credential.size = len(value)
    return 0


VERDICTS = (0, 200, 300, 400, 500)
"""The verdicts of handshake.h."""
