/* The handshake of ZMTP 3.1, 3.0 (RFC 37, RFC 23) and 2.0 (RFC 15) with the NULL mechanism: a machine that is given the
 * bytes that have come from a peer, and gives the bytes that are to be sent to it. */
#ifndef POLLBROKER_WIRE_HANDSHAKE_H
#define POLLBROKER_WIRE_HANDSHAKE_H

#include "options.h"
#include "reasons.h"

#include <stddef.h>

/* The types of sockets, by libzmq's numbers. */
enum socket_type {
    TYPE_PAIR = 0, TYPE_PUB, TYPE_SUB, TYPE_REQ, TYPE_REP, TYPE_DEALER, TYPE_ROUTER, TYPE_PULL, TYPE_PUSH, TYPE_XPUB, TYPE_XSUB,
    TYPE_COUNT
};

enum { HANDSHAKE_OUT_MAX = 512, READY_MAX_BYTES = 8 << 10 };

enum handshake_stage { STAGE_SIGNATURE, STAGE_VERSION, STAGE_GREETING, STAGE_READY, STAGE_TYPE_2, STAGE_IDENTITY_2, STAGE_DONE };

struct handshake {
    enum handshake_stage stage;
    enum socket_type type; /* ours */
    const struct options *options;
    enum reason failed; /* why it failed, or NO_REASON */
    /* What the peer has said of itself: */
    enum socket_type peer_type;
    uint8_t minor; /* of ZMTP 3; 0 for ZMTP 2 */
    uint8_t identity_size;
    uint8_t identity[ROUTING_ID_MAX];
    /* What is to be sent: the caller takes it, and sets the size to 0. */
    size_t out_size;
    uint8_t out[HANDSHAKE_OUT_MAX];
};

void handshake_begin(struct handshake *handshake, enum socket_type type, const struct options *options);

/* Take what it can use from the bytes that have come, and return how many it has used. The stage is then STAGE_DONE, or
 * `failed` is set, or more bytes are needed. */
size_t handshake_fed(struct handshake *handshake, const uint8_t *bytes, size_t count);

/* -- moving a handshake to another process; see record.h -- */

/* The number of its stage in a record, or -1 if it cannot be moved at this stage. */
int handshake_number(const struct handshake *handshake);

/* Go on with a recorded handshake. What it had to send is queued already. Return false if there is no such stage. */
bool handshake_restore(struct handshake *handshake, enum socket_type type, const struct options *options, int number,
                       uint8_t peer_type, uint8_t minor, const uint8_t *identity, size_t identity_size);

#endif
