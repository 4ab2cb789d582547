# Ports: the sockets of brokers. It is included in `native.pyx`.

cdef bytes _user_id(const user_id *who):
    return PyBytes_FromStringAndSize(<const char *> who.bytes, who.size)


@cython.final
@cython.no_gc_clear  # the end of the port needs its net, also where an engine is collected that nobody has closed
cdef class Port:
    """One socket of a broker, with any number of peers."""

    cdef Net net
    cdef port *port
    cdef readonly int type
    cdef public object on_ready
    cdef public bint is_read
    """True if a flow takes what comes. Otherwise it is looked at here, so that subscriptions and heartbeats are served."""
    cdef public str where
    """Its name in messages."""
    cdef dict ended_by_at_end
    cdef uint64_t missed_at_end
    cdef peer **restored
    cdef size_t restored_count
    cdef uint64_t too_long
    """Messages that had too many frames and were dropped, and that no flow has counted yet."""

    def __cinit__(self, Net net not None, int type):
        self.port = <port *> calloc(1, sizeof(port))
        if self.port == NULL:
            raise MemoryError()
        self.net = net
        self.type = type
        net_port_init(self.port, &net.net, type)
        self.port.owner = <void *> self
        self.port.next_id = int.from_bytes(os.urandom(4), "little")
        net.open_ports += 1

    def __dealloc__(self):
        if self.port != NULL:
            port_end(self.port)
            notices_forget(&self.net.net.notices, self.port)
            self._free()

    cdef void _free(self) noexcept:
        if self.net.net.fault.port == self.port:
            self.net.net.fault.count = 0
        free(self.port)
        self.port = NULL
        self._forget_restored()
        self.net.open_ports -= 1

    cdef void _forget_restored(self) noexcept:
        free(self.restored)
        self.restored = NULL
        self.restored_count = 0

    cdef peer *_restored_peer(self, int place) except NULL:
        """A peer that `read_record` has made, until `resume`."""
        if place < 0 or <size_t> place >= self.restored_count or self.restored[place].descriptor < 0:
            raise ValueError(f"no peer is connected at the place {place}")
        if self.restored[place].owner != NULL:
            raise ValueError(f"the peer at the place {place} has two connectors")
        return self.restored[place]

    def close(self):
        """End all connections. Whoever listens is told of their end; an exception of his is raised, and the port is closed
        all the same."""
        self.on_ready = None
        if self.port != NULL and not self.port.ended:  # it is, while somebody is told
            port_end(self.port)
            try:
                self.ended_by_at_end = self.ended_by
                self.missed_at_end = self.missed
                self.net.tell_notices()
                if self.net.net.fault.count and self.net.net.fault.port == self.port:
                    self.net._take_fault()()
            finally:
                notices_forget(&self.net.net.notices, self.port)
                self._free()

    @property
    def closed(self):
        return self.port == NULL

    cdef void _is_source(self) noexcept:
        """A flow takes what comes."""
        self.is_read = True
        self.port.nobody_takes = False

    cdef void _is_sink(self) noexcept:
        """A flow sends to it. Unless another one takes messages from it, what peers send is of no use."""
        self.port.nobody_takes = not self.is_read

    cdef int _check(self) except -1:
        if self.port == NULL:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        return 0

    cdef int _look(self):
        """Read up to the first message, which stays where it is, and return what `port_take` does."""
        cdef message message
        cdef int taken = TAKEN_NOTHING
        cdef bint is_read = self.is_read
        if self.port != NULL:
            self.port.may_read = 1 << 20
            with nogil:
                taken = port_take(self.port, &message, 1)
                while taken == TAKEN_MESSAGE and not is_read and is_subscription(&message):
                    port_consume(self.port, &message)  # nobody asks an XPUB that no flow reads
                    taken = port_take(self.port, &message, 1)
                port_flush(self.port)  # answers to heartbeats
                if taken == TAKEN_LATER and not is_read:
                    port_note(self.port, NEWS_INPUT)  # so that it is looked at again
            if taken == TAKEN_TOO_LONG:
                self.too_long += 1
        return taken

    cdef void _count_dropped(self, account *account):
        """Count what was dropped since the last time because it had too many frames."""
        cdef port *port = self.port
        account.received.messages += self.too_long
        account.too_many_frames += self.too_long
        account.received.frames += port.discarded.frames
        account.received.bytes += port.discarded.bytes
        port.discarded.frames = port.discarded.bytes = 0
        self.too_long = 0

    @property
    def events(self):
        """POLLIN if there is a message to take, or more to read, and POLLOUT if one may be accepted."""
        self._check()
        cdef int events = 1 if port_has_input(self.port) and self._look() != TAKEN_NOTHING else 0
        net_arm(&self.net.net)
        return events | (2 if port_has_room_for_any(self.port) else 0)

    def write(self):
        """Try to write what is held, also to peers whose streams were full when something was written last."""
        cdef link *link
        cdef peer *peer
        if self.port != NULL:
            link = self.port.peers.next
            while link != &self.port.peers:
                peer = listed_peer(link)
                link = link.next
                if peer.out.bytes:
                    peer_flush(peer)

    def set(self, str name, value):
        """Set an option of options.h by its name. Raises `KeyError` for any other name."""
        self._check()
        cdef options *options = &self.port.options
        if name == "sndhwm":
            options.sndhwm = value
        elif name == "maxmsgsize":
            options.maxmsgsize = value
        elif name == "maxframes":
            options.maxframes = value
        elif name == "handshake_ivl":
            options.handshake_ivl = value
        elif name == "heartbeat_ivl":
            options.heartbeat_ivl = value
        elif name == "heartbeat_timeout":
            options.heartbeat_timeout = value
        elif name == "heartbeat_ttl":
            options.heartbeat_ttl = value
        elif name == "router_handover":
            options.router_handover = value
        elif name == "xpub_nodrop":
            options.xpub_nodrop = value
        elif name == "xpub_verbose":
            options.xpub_verbose = value  # as with libzmq, the one of both that is set last decides
            options.xpub_verboser = False
        elif name == "xpub_verboser":
            options.xpub_verbose = options.xpub_verboser = value
        elif name == "routing_id":
            if not 1 <= len(value) <= 255:
                raise zmq.ZMQError(zmq.EINVAL)
            memcpy(options.routing_id, PyBytes_AsString(value), len(value))
            options.routing_id_size = len(value)
        elif name == "plain_server":
            options.mechanism = MECHANISM_PLAIN_SERVER if value else MECHANISM_NULL
        elif name == "plain_username":
            _set_credential(&options.plain_username, value)
            options.mechanism = MECHANISM_PLAIN_CLIENT  # as with libzmq, the option that is set last decides
        elif name == "plain_password":
            _set_credential(&options.plain_password, value)
            options.mechanism = MECHANISM_PLAIN_CLIENT
        elif name == "has_zap_domain":
            options.has_zap_domain = value
        elif name == "subscribe":
            if not port_subscribe(self.port, <const uint8_t *> PyBytes_AsString(value), len(value)):
                raise MemoryError()
            port_flush(self.port)
        elif name == "unsubscribe":
            port_unsubscribe(self.port, <const uint8_t *> PyBytes_AsString(value), len(value))
            port_flush(self.port)
        elif name == "connections":
            options.connections_max = value
        elif name == "connections_per_address":
            options.connections_per_address_max = value
        elif name == "handshakes":
            options.handshakes_max = value
        elif name == "subscriptions":
            options.subscriptions_max = value
        elif name == "subscription_bytes":
            options.subscription_max_bytes = value
        elif name == "least_outstanding":
            if value and not turns_compare_loads(&self.port.turns):
                raise MemoryError()
        elif name == "drops_slow_peer":
            self.port.drops_slow_peer = value
        elif name == "takes_copies":
            self.port.takes_copies = value
            self._is_sink()
        elif name == "tells_when_empty":
            self.port.tells_when_empty = value
        else:
            raise KeyError(name)

    def answer(self, uint64_t question, int verdict, bytes user_id not None):
        """What an authenticator has decided, a status code of ZAP, and who the peer is. With 0 there is no verdict. If the
        peer has left meanwhile, nothing happens."""
        if self.port == NULL:
            return
        if verdict not in VERDICTS or len(user_id) > USER_ID_MAX:
            verdict = 0
        self.net.net.wire.now_s = net_now_s(&self.net.net)
        port_answer(
            self.port, question, <verdict_t> verdict, <const uint8_t *> PyBytes_AsString(user_id), len(user_id)
        )
        net_arm(&self.net.net)

    @property
    def too_long_messages(self):
        """Messages that had too many frames and were dropped, and that no flow has counted yet."""
        return self.too_long

    @too_long_messages.setter
    def too_long_messages(self, uint64_t count):
        self.too_long = count

    @property
    def has_room(self):
        """True if a message may be accepted. Unlike `events`, this changes nothing."""
        return self.port != NULL and port_has_room_for_any(self.port)

    @property
    def held(self):
        """Messages that were accepted and are not yet handed to the kernel."""
        return 0 if self.port == NULL else port_held(self.port)

    @property
    def peer_count(self):
        """Peers that have shaken hands."""
        return 0 if self.port == NULL else self.port.peer_count

    @property
    def connections(self):
        """Connections that are open: of peers that have shaken hands, that have yet to, and of those that are sent nothing
        any more, and are read to their end."""
        return 0 if self.port == NULL else self.port.connections

    @property
    def missed(self):
        """Messages that were for a peer of a PUB, XPUB, SUB or XSUB and were not written to it."""
        return self.missed_at_end if self.port == NULL else self.port.missed

    @missed.setter
    def missed(self, uint64_t count):
        self._check()
        self.port.missed = count

    def peers(self):
        """For each peer that has shaken hands: its descriptor, routing id, how many seconds ago it was connected and
        something was read from it, messages received from it and sent to it, messages and bytes in its queue, messages
        that it had no room for, its subscriptions, and who it is by the authenticator."""
        cdef list told = []
        cdef double now_s = net_now_s(&self.net.net)
        cdef key id
        cdef peer *peer
        cdef link *link
        if self.port != NULL:
            link = self.port.peers.next
            while link != &self.port.peers:
                peer = listed_peer(link)
                link = link.next
                if peer.attached:
                    id = peer_routing_id(peer)
                    told.append(
                        (
                            peer.descriptor,
                            PyBytes_FromStringAndSize(<const char *> id.bytes, id.size),
                            now_s - peer.since_s,
                            now_s - peer.heard_s,
                            peer.received,
                            peer.sent,
                            peer.out.messages,
                            peer.out.bytes,
                            peer.dropped,
                            peer_subscription_count(peer),
                            b"" if peer.user_id == NULL else _user_id(peer.user_id),
                        )
                    )
        return told

    @property
    def ended_by(self):
        """How many connections have ended, by the reason."""
        if self.port == NULL:
            return self.ended_by_at_end
        return {name: self.port.ended_by[i] for i, name in enumerate(REASONS) if self.port.ended_by[i]}
