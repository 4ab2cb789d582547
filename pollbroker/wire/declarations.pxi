# What the C code declares.

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len

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

    cdef struct credential:
        uint8_t size
        uint8_t bytes[255]

    ctypedef enum mechanism_t "enum mechanism":
        MECHANISM_NULL, MECHANISM_PLAIN_CLIENT, MECHANISM_PLAIN_SERVER

    cdef struct options:
        int sndhwm
        int64_t maxmsgsize
        uint64_t maxframes
        int handshake_ivl, heartbeat_ivl, heartbeat_timeout, heartbeat_ttl
        c_bool router_handover, xpub_nodrop, xpub_verbose, xpub_verboser
        uint8_t routing_id[255]
        uint8_t routing_id_size
        uint64_t connections_max, connections_per_address_max, handshakes_max
        mechanism_t mechanism
        credential plain_username, plain_password
        c_bool has_zap_domain
        uint64_t subscriptions_max, subscription_max_bytes

    cdef struct wire:
        pool pool
        link changed, unwritten, asking
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

    cdef struct user_id:
        const uint8_t *bytes
        size_t size

    cdef struct question:
        uint64_t number

    cdef struct port

    cdef struct handshake:
        credential username, password
        question *question

    ctypedef enum verdict_t "enum verdict":
        pass

    cdef struct key_map "map":
        key **slots
        size_t capacity

    cdef struct prefix:
        key key
        uint64_t count

    cdef struct prefixes:
        key_map map

    cdef struct peer:
        port *port
        handshake *handshake
        user_id *user_id
        link all
        int descriptor
        void *owner
        c_bool attached
        queue out
        double since_s, heard_s
        uint64_t received, sent, dropped

    peer *listed_peer(link *)
    key peer_routing_id(const peer *)

    cdef struct turns:
        pass

    c_bool turns_compare_loads(turns *)

    cdef struct port:
        socket_type_t type
        link peers
        options options
        void *owner
        link changed
        unsigned news
        uint64_t peer_count
        uint64_t connections
        uint64_t ended_by[19]
        uint64_t missed
        turns turns
        c_bool ended, takes_copies, tells_when_empty, drops_slow_peer, shared, given_away, nobody_takes
        int64_t may_read
        amount discarded
        uint32_t next_id
        prefixes prefixes

    cdef struct message:
        const uint8_t *prefix
        size_t prefix_size
        amount prefix_amount
        run run

    c_bool is_subscription(const message *)

    int NEWS_INPUT, NEWS_ROOM
    int TAKEN_NOTHING, TAKEN_LATER, TAKEN_MESSAGE, TAKEN_TOO_LONG
    int PUT_ACCEPTED, PUT_FULL, PUT_UNROUTABLE, PUT_SLOW_PEER, PUT_LONG_SUBSCRIPTION, PUT_NO_MEMORY
    int REASON_COUNT, USER_ID_MAX

    peer *wire_next_question(wire *)
    void port_answer(port *, uint64_t question, verdict_t, const uint8_t *user_id, size_t size)
    void port_end(port *)
    int port_take(port *, message *, uint64_t most)
    void port_consume(port *, message *)
    c_bool port_has_input(const port *)
    int port_put(port *, const message *, account *)
    c_bool port_has_room_for_any(const port *)
    void port_flush(port *)
    void wire_flush(wire *)
    void port_note(port *, unsigned news)
    void peer_flush(peer *)
    uint64_t port_held(const port *)
    uint64_t port_count_unread(port *, uint64_t most)

    cdef struct watched:
        int descriptor, error
        void *owner
        void *peer
        link ended

    cdef struct fault:
        port *port
        int reason
        uint64_t count
        char address[1]
        double told_s

    cdef struct notice:
        int kind, reason, error
        port *port
        char address[1]

    cdef struct notices:
        notice *items
        size_t count
        uint64_t lost

    c_bool notices_keep(notices *, size_t room)
    void notices_forget(notices *, const port *)

    cdef struct net:
        wire wire
        fault fault
        notices notices
        int epoll
        link ended
        uint64_t accepts_failed
        double armed_s, simulated_s

    double net_now_s(const net *)
    ctypedef struct stream_calls "struct stream_calls":
        ssize_t (*read)(peer *, void *bytes, size_t count) noexcept nogil
        ssize_t (*write)(peer *, const iovec *pieces, int count) noexcept nogil
        void (*close)(peer *) noexcept nogil

    int net_open(net *)
    int net_open_simulated(net *, const stream_calls *)
    void net_wake(net *)
    void net_note_end(peer *)
    c_bool net_is_fault_due(const net *)
    peer *peer_new(port *, int descriptor, void *owner)
    void peer_on_stream(peer *, unsigned events)
    int STREAM_INPUT, STREAM_OUTPUT, STREAM_END
    void net_close(net *)
    void net_serve(net *)
    void net_arm(net *)
    void net_port_init(port *, net *, int type)
    int net_listen(net *, watched *, port *, int descriptor)
    int net_connect(net *, watched *, port *, int descriptor)
    void net_unwatch(watched *)
    void net_end_output(port *)
    void net_end_connection(watched *connector, bint at_once)
    void net_suspend(port *)
    void net_suspend_watched(watched *)
    int net_resume(port *)
    int net_resume_watched(watched *)
    void net_connected(watched *, port *, peer *)
    void map_set_secret(uint64_t first, uint64_t second)
    port *changed_port(link *)
    watched *ended_connector(link *)
    void link_remove(link *)

cdef extern from "publish.h" nogil:
    uint64_t peer_subscription_count(const peer *)
    c_bool port_subscribe(port *, const uint8_t *topic, size_t size)
    c_bool port_unsubscribe(port *, const uint8_t *topic, size_t size)

cdef extern from "frame.h" nogil:
    size_t frame_write_header(uint8_t *, unsigned flags, uint64_t length)
    int frame_header(const uint8_t *bytes, size_t count, unsigned *flags, uint64_t *length)

cdef extern from "record.h" nogil:
    cdef struct record:
        uint8_t *bytes
        size_t size
        peer **peers
        size_t peer_count
        c_bool no_memory

    c_bool record_write(record *, const port *, account **, uint32_t account_count)
    void record_free(record *)

    cdef struct reading:
        const uint8_t *at
        const uint8_t *end
        const int *descriptors
        size_t descriptor_count, descriptors_taken
        peer **peers
        size_t peer_count
        const char *wrong
        size_t wrong_at

    c_bool record_read(reading *, port *, account **, uint32_t account_count)

cdef extern from "relay.h" nogil:
    ctypedef void (*accepted_t "watched_run")(void *, const message *) noexcept nogil

    int relay_watched(
        port *source, port *sink, account *, uint64_t limit_messages, uint64_t limit_bytes, accepted_t, void *who
    )
