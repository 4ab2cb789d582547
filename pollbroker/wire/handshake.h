/* The handshake of ZMTP 3.1, 3.0 (RFC 37, RFC 23) and 2.0 (RFC 15) with the mechanisms NULL and PLAIN (RFC 24): a machine
 * that is given the bytes that have come from a peer, and gives the bytes that are to be sent to it.
 *
 * At a server of PLAIN, and where a domain of ZAP (RFC 27) is set, an authenticator decides about the peer. The machine then
 * uses no more bytes until it is told what was decided. */
#ifndef POLLBROKER_WIRE_HANDSHAKE_H
#define POLLBROKER_WIRE_HANDSHAKE_H

#include "options.h"
#include "reasons.h"
#include "socket_types.h"

#include <stddef.h>

enum {
    HANDSHAKE_OUT_MAX = 1024, /* the most that is said at once: the greeting, HELLO and INITIATE have at most 890 bytes */
    READY_MAX_BYTES = 8 << 10,
    HELLO_MAX_BYTES = 8 + 2 * CREDENTIAL_MAX
};

enum handshake_stage {
    STAGE_SIGNATURE, STAGE_VERSION, STAGE_GREETING, STAGE_READY, STAGE_TYPE_2, STAGE_IDENTITY_2, STAGE_DONE,
    STAGE_HELLO, STAGE_INITIATE, /* at a server of PLAIN */
    STAGE_WELCOME,               /* at a client of PLAIN */
    STAGE_ASKING                 /* an authenticator is asked, and `handshake_answered` is awaited */
};

/* What an authenticator has decided: the status codes of ZAP. */
enum verdict { NO_VERDICT = 0, VERDICT_ACCEPTED = 200, VERDICT_NOT_NOW = 300, VERDICT_REFUSED = 400, VERDICT_FAILED = 500 };

struct question;

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
    struct credential username, password;
    struct question *question; /* what an authenticator is asked about the connection, while it is: see asking.c */
    /* What is to be sent: the caller takes it, and sets the size to 0. */
    size_t out_size;
    uint8_t out[HANDSHAKE_OUT_MAX];
};

void handshake_begin(struct handshake *handshake, enum socket_type type, const struct options *options);

/* Take what it can use from the bytes that have come, and return how many it has used. The stage is then STAGE_DONE, or
 * `failed` is set, or an authenticator is to be asked, or more bytes are needed. */
size_t handshake_fed(struct handshake *handshake, const uint8_t *bytes, size_t count);

/* Go on from STAGE_ASKING. NO_VERDICT: nobody could be asked, or the answer was malformed. */
void handshake_answered(struct handshake *handshake, enum verdict verdict);

/* -- moving a handshake to another process; see record.h -- */

/* The number of its stage in a record, or -1 if it cannot be moved at this stage. */
int handshake_number(const struct handshake *handshake);

/* Go on with a recorded handshake. What it had to send is queued already. Return false if there is no such stage. */
bool handshake_restore(struct handshake *handshake, enum socket_type type, const struct options *options, int number,
                       uint8_t peer_type, uint8_t minor, const uint8_t *identity, size_t identity_size);

#endif
