# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, auto_pickle=False
"""Python's face of the wire: a thin layer on the C code beside it.

`Net` is the epoll set of an engine, `Port` one socket of a broker. `Pump`, `Receiver` and `Sender` keep the contract of
`pollbroker.pump.contract` for ports.
"""

cimport cython
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import errno
import os

import zmq

from pollbroker.pump import outcomes
from pollbroker.pump.limits import BURST_FRAMES as _BURST_FRAMES
from pollbroker.pump.limits import MAXFRAMES as _MAXFRAMES
from pollbroker.statistics import Counters


cdef extern from "net.h" nogil:
    ctypedef bint c_bool "bool"

    cdef struct link:
        link *next

    cdef struct amount:
        uint64_t messages, frames, bytes

    cdef struct account:
        uint64_t references
        amount received, sent, held
        uint64_t unroutable, slow_peer, interrupted, too_many_frames, long_subscription, filtered

    account *account_hold(account *)
    void account_release(account *)

    cdef struct slab:
        uint8_t bytes[1]

    cdef struct pool:
        size_t slabs_alive, segments_alive

    slab *slab_new(pool *, size_t)
    void slab_release(slab *)

    cdef struct run:
        slab *slab
        size_t start, end
        amount amount

    cdef struct options:
        int sndhwm
        int64_t maxmsgsize
        uint64_t maxframes
        int handshake_ivl, heartbeat_ivl, heartbeat_timeout, heartbeat_ttl
        c_bool router_handover, xpub_nodrop, xpub_verbose, xpub_verboser
        uint8_t routing_id[255]
        uint8_t routing_id_size
        uint64_t subscriptions_max, subscription_max_bytes

    cdef struct wire:
        pool pool
        link changed
        double now_s
        size_t ports_alive, peers_alive

    ctypedef enum socket_type_t "enum socket_type":
        pass

    cdef struct queue:
        size_t bytes
        uint64_t messages

    cdef struct key:
        const uint8_t *bytes
        size_t size

    cdef struct peer:
        link all
        int descriptor
        c_bool attached
        queue out
        key id
        uint64_t subscription_count, dropped
        double since_s, heard_s
        amount received, sent

    double net_now_s()
    peer *listed_peer(link *)

    cdef struct port:
        socket_type_t type
        link peers
        options options
        void *owner
        link changed
        unsigned news
        uint64_t peer_count
        uint64_t ended_by[16]
        c_bool tells_when_empty, drops_slow_peer
        int64_t may_read
        amount discarded
        uint32_t next_id

    cdef struct message:
        const uint8_t *prefix
        size_t prefix_size
        amount prefix_amount
        run run

    c_bool is_subscription(const message *)

    int NEWS_INPUT, NEWS_ROOM
    int TAKEN_NOTHING, TAKEN_LATER, TAKEN_MESSAGE, TAKEN_TOO_LONG
    int PUT_ACCEPTED, PUT_FULL, PUT_UNROUTABLE, PUT_SLOW_PEER, PUT_LONG_SUBSCRIPTION, PUT_NO_MEMORY
    int REASON_COUNT

    void port_end(port *)
    int port_take(port *, message *, uint64_t most)
    void port_consume(port *, message *)
    c_bool port_has_input(const port *)
    int port_put(port *, const message *, account *)
    c_bool port_has_room_for_any(const port *)
    void port_flush(port *)
    void port_note(port *, unsigned news)
    void peer_flush(peer *)
    uint64_t port_held(const port *)
    uint64_t port_count_unread(port *, uint64_t most)
    c_bool port_subscribe(port *, const uint8_t *topic, size_t size)
    c_bool port_unsubscribe(port *, const uint8_t *topic, size_t size)

    cdef struct watched:
        int descriptor, error
        void *owner
        void *peer
        link ended

    cdef struct net:
        wire wire
        int epoll
        link ended
        uint64_t accepts_failed

    int net_open(net *)
    void net_close(net *)
    void net_serve(net *)
    void net_arm(net *)
    void net_port_init(port *, net *, int type)
    int net_listen(net *, watched *, port *, int descriptor)
    int net_connect(net *, watched *, port *, int descriptor)
    void net_unwatch(watched *)
    void map_set_secret(uint64_t secret)
    port *changed_port(link *)
    watched *ended_connector(link *)
    void link_remove(link *)

cdef extern from "frame.h" nogil:
    size_t frame_write_header(uint8_t *, unsigned flags, uint64_t length)
    int frame_header(const uint8_t *bytes, size_t count, unsigned *flags, uint64_t *length)

cdef extern from "relay.h" nogil:
    int relay(port *source, port *sink, account *, uint64_t limit_messages, uint64_t limit_bytes)

cdef extern from *:
    """
    #define changed_port(link) LISTED(link, struct port, changed)
    #define is_subscription(message) (!(message)->from)
    #define listed_peer(link) LISTED(link, struct peer, all)
    #define ended_connector(link) LISTED(link, struct watched, ended)
    """

map_set_secret(int.from_bytes(os.urandom(8), "little"))

cdef enum:
    EMPTY = 0
    FULL = 1
    LIMIT = 2
    NO_MEMORY = 3
    SENT = 4
    DROPPED = 5
    BURST_FRAMES = 4096

assert (EMPTY, FULL, LIMIT) == (outcomes.EMPTY, outcomes.FULL, outcomes.LIMIT)
assert (SENT, DROPPED) == (outcomes.SENT, outcomes.DROPPED)
assert BURST_FRAMES == _BURST_FRAMES

REASONS = (
    "none", "left", "broken", "closed", "not_zmtp", "mechanism", "socket_type", "bad_command", "refused", "bad_frame",
    "large_frame", "slow_handshake", "silent", "routing_id", "subscriptions", "no_memory",
)
"""Why a connection ended, in the order of reasons.h."""
assert len(REASONS) == REASON_COUNT


@cython.final
cdef class Net:
    """The streams of all ports of an engine, in one epoll set."""

    cdef net net
    cdef bint closed
    cdef readonly int open_ports

    def __cinit__(self):
        code = net_open(&self.net)
        if code:
            self.closed = True
            raise OSError(code, os.strerror(code))

    def __dealloc__(self):
        if not self.closed:
            net_close(&self.net)

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
        cdef list calls = []
        cdef int count = 0
        cdef link *link
        cdef port *changed
        cdef Port owner
        cdef Connector connector
        cdef OnReady on_ready
        with nogil:
            net_serve(&self.net)
        while self.net.ended.next != &self.net.ended:
            connector = <Connector> ended_connector(self.net.ended.next).owner
            link_remove(&connector.watched.ended)
            calls.append(connector.on_end)
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
        return calls

    @property
    def alive(self):
        """What is in use: slabs, segments, ports, peers."""
        cdef wire *wire = &self.net.wire
        return wire.pool.slabs_alive, wire.pool.segments_alive, wire.ports_alive, wire.peers_alive


@cython.final
cdef class Listener:
    """Accepts connections for a port. The descriptor is closed with it."""

    cdef watched watched
    cdef Port port  # keeps it alive

    def __cinit__(self, Port port not None, int descriptor):
        port._check()
        code = net_listen(&port.net.net, &self.watched, port.port, descriptor)
        if code:
            raise OSError(code, os.strerror(code))
        self.port = port

    def __dealloc__(self):
        if self.port is not None:
            net_unwatch(&self.watched)

    def close(self):
        net_unwatch(&self.watched)

    @property
    def error(self):
        """The errno of the last connection that could not be accepted, or 0."""
        return self.watched.error


@cython.final
cdef class Connector:
    """One connection that is being made, and then is used by a port. `on_end` is called when it is over, or when it could
    not be made."""

    cdef watched watched
    cdef Port port  # keeps it alive
    cdef readonly object on_end

    def __cinit__(self, Port port not None, int descriptor, on_end):
        port._check()
        self.watched.owner = <void *> self
        code = net_connect(&port.net.net, &self.watched, port.port, descriptor)
        if code:
            raise OSError(code, os.strerror(code))
        self.port = port
        self.on_end = on_end

    def __dealloc__(self):
        if self.port is not None:
            net_unwatch(&self.watched)

    @property
    def error(self):
        """The errno of the try, or 0."""
        return self.watched.error

    @property
    def was_connected(self):
        """True if a connection was made, and is over now."""
        return self.watched.error == 0

    def close(self):
        net_unwatch(&self.watched)


@cython.final
cdef class Port:
    """One socket of a broker, with any number of peers."""

    cdef Net net
    cdef port *port
    cdef readonly int type
    cdef public object on_ready
    cdef public bint is_read
    """True if a flow takes what comes. Otherwise it is looked at here, so that subscriptions and heartbeats are served."""
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
        self._end()

    cdef void _end(self):
        if self.port != NULL:
            port_end(self.port)
            free(self.port)
            self.port = NULL
            self.net.open_ports -= 1

    def close(self):
        """End all connections."""
        self.on_ready = None
        self._end()

    @property
    def closed(self):
        return self.port == NULL

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
            options.xpub_verbose = value
        elif name == "xpub_verboser":
            options.xpub_verboser = value
        elif name == "routing_id":
            if not 1 <= len(value) <= 255:
                raise zmq.ZMQError(zmq.EINVAL)
            memcpy(options.routing_id, PyBytes_AsString(value), len(value))
            options.routing_id_size = len(value)
        elif name == "subscribe":
            if not port_subscribe(self.port, <const uint8_t *> PyBytes_AsString(value), len(value)):
                raise MemoryError()
            port_flush(self.port)
        elif name == "unsubscribe":
            port_unsubscribe(self.port, <const uint8_t *> PyBytes_AsString(value), len(value))
            port_flush(self.port)
        elif name == "drops_slow_peer":
            self.port.drops_slow_peer = value
        elif name == "tells_when_empty":
            self.port.tells_when_empty = value
        else:
            raise KeyError(name)

    @property
    def held(self):
        """Messages that were accepted and are not yet handed to the kernel."""
        return 0 if self.port == NULL else port_held(self.port)

    @property
    def peer_count(self):
        """Peers that have shaken hands."""
        return 0 if self.port == NULL else self.port.peer_count

    def peers(self):
        """For each peer that has shaken hands: its descriptor, routing id, how many seconds ago it was connected and
        something was read from it, messages received from it and sent to it, messages and bytes in its queue, messages
        that it had no room for, and its subscriptions."""
        cdef list told = []
        cdef double now_s = net_now_s()
        cdef peer *peer
        cdef link *link
        if self.port != NULL:
            link = self.port.peers.next
            while link != &self.port.peers:
                peer = listed_peer(link)
                link = link.next
                if peer.attached:
                    told.append(
                        (
                            peer.descriptor,
                            PyBytes_FromStringAndSize(<const char *> peer.id.bytes, peer.id.size),
                            now_s - peer.since_s,
                            now_s - peer.heard_s,
                            peer.received.messages,
                            peer.sent.messages,
                            peer.out.messages,
                            peer.out.bytes,
                            peer.dropped,
                            peer.subscription_count,
                        )
                    )
        return told

    @property
    def ended_by(self):
        """How many connections have ended, by the reason."""
        self._check()
        return {name: self.port.ended_by[i] for i, name in enumerate(REASONS) if self.port.ended_by[i]}


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

    def __cinit__(self, Port source not None, Port sink not None, *, drop_slow_peer=True, maxframes=_MAXFRAMES):
        source._check()
        sink._check()
        self.account = _new_account()
        self.source, self.sink = source, sink
        source.is_read = True
        source.port.options.maxframes = maxframes
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
        cdef int taken
        with nogil:
            self.outcome = relay(source, sink, self.account, limit_messages, limit_bytes)
        if self.outcome == NO_MEMORY:
            raise MemoryError()
        if self.outcome == FULL:
            taken = self.source._look()
            if taken != TAKEN_MESSAGE:
                self.outcome = EMPTY if taken == TAKEN_NOTHING else LIMIT  # nothing waits for the sink
        net_arm(&self.source.net.net)
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
        source.is_read = True
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
        if taken == TAKEN_TOO_LONG:
            self.source.too_long += 1
        self.source._count_dropped(self.account)
        if taken == TAKEN_NOTHING:
            port_flush(source)  # answers to heartbeats
            net_arm(&self.source.net.net)
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
        net_arm(&self.source.net.net)
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
    cdef object capture
    cdef list prefix
    cdef uint64_t captured, captured_frames, captured_bytes, capture_dropped

    def __cinit__(self, Port sink not None, capture, prefix, bint drop_slow_peer):
        sink._check()
        self.account = _new_account()
        self.sink = sink
        self.capture = capture
        self.prefix = [] if prefix is None else [prefix]
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
        message.prefix_size = 0
        message.prefix = NULL
        message.prefix_amount.messages = message.prefix_amount.frames = message.prefix_amount.bytes = 0
        message.run.amount.messages = 1
        message.run.amount.frames = count
        message.run.amount.bytes = 0
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
        if outcome == PUT_ACCEPTED:
            port_flush(sink)
        net_arm(&self.sink.net.net)
        if outcome == PUT_ACCEPTED:
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


include "hub.pxi"
