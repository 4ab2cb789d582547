/* What can be set at a port. The names and meanings are those of zmq_setsockopt(3); times are milliseconds, as there. */
#ifndef POLLBROKER_WIRE_OPTIONS_H
#define POLLBROKER_WIRE_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum { ROUTING_ID_MAX = 255, CREDENTIAL_MAX = 255 };

enum mechanism { MECHANISM_NULL, MECHANISM_PLAIN_CLIENT, MECHANISM_PLAIN_SERVER };

/* A user's name, or a password. */
struct credential {
    uint8_t size;
    uint8_t bytes[CREDENTIAL_MAX];
};

struct options {
    int sndhwm;         /* messages in the queue of one peer; 0: no limit */
    int64_t maxmsgsize; /* bytes of a frame; -1: no limit */
    uint64_t maxframes; /* frames of a message. A message of more is dropped */
    int handshake_ivl;  /* 0: no limit */
    int heartbeat_ivl, heartbeat_timeout, heartbeat_ttl; /* a timeout of -1 is that of the interval */
    int reconnect_ivl, reconnect_ivl_max;
    int backlog, sndbuf, rcvbuf, tos;
    int tcp_keepalive, tcp_keepalive_idle, tcp_keepalive_cnt, tcp_keepalive_intvl; /* -1: as the system has it */
    bool ipv6, router_handover, xpub_nodrop;
    bool xpub_verbose, xpub_verboser; /* every subscription is told; and every cancellation, too */
    uint8_t routing_id[ROUTING_ID_MAX];
    uint8_t routing_id_size;
    uint64_t connections_max, connections_per_address_max;
    uint64_t handshakes_max; /* connections that have yet to shake hands */
    enum mechanism mechanism;
    struct credential plain_username, plain_password;
    bool has_zap_domain; /* an authenticator is asked about peers of NULL, too */
    uint64_t subscriptions_max; /* of one peer */
    uint64_t subscription_max_bytes; /* of one subscription */
};

/* Set the defaults of zmq_setsockopt(3). */
void options_init(struct options *options);

#endif
