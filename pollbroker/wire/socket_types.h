/* The types of sockets, by libzmq's numbers, and which of them talk to which (RFC 23, RFC 37). */
#ifndef POLLBROKER_WIRE_SOCKET_TYPES_H
#define POLLBROKER_WIRE_SOCKET_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum socket_type {
    TYPE_PAIR = 0, TYPE_PUB, TYPE_SUB, TYPE_REQ, TYPE_REP, TYPE_DEALER, TYPE_ROUTER, TYPE_PULL, TYPE_PUSH, TYPE_XPUB, TYPE_XSUB,
    TYPE_COUNT
};

/* As in the property Socket-Type. */
const char *socket_type_name(enum socket_type type);

/* The type of this name. TYPE_COUNT if there is none. */
enum socket_type socket_type_named(const uint8_t *name, size_t size);

bool socket_types_fit(enum socket_type ours, enum socket_type theirs);

/* True if a peer is told the routing id of a socket of this type. */
bool socket_type_has_identity(enum socket_type type);

#endif
