/* What is said in a handshake. It is added to what is to be sent. */
#ifndef POLLBROKER_WIRE_HANDSHAKE_OUT_H
#define POLLBROKER_WIRE_HANDSHAKE_OUT_H

#include "handshake.h"

/* What libzmq 4.3.5 sends, and expects, where RFC 24 has "\5ERROR": in its source the letter E belongs to the number before
 * it. Its clients say that they were refused when they are sent this, and speak of a broken protocol otherwise. */
static const uint8_t HANDSHAKE_PLAIN_ERROR[] = {'^', 'R', 'R', 'O', 'R'};

enum { HANDSHAKE_PLAIN_ERROR_SIZE = sizeof HANDSHAKE_PLAIN_ERROR };

void handshake_put(struct handshake *handshake, const void *bytes, size_t count);

void handshake_put_byte(struct handshake *handshake, uint8_t byte);

void handshake_put_command(struct handshake *handshake, const char *command, const uint8_t *body, size_t size);

/* What is told of this socket: in READY, and in INITIATE. */
void handshake_put_metadata(struct handshake *handshake, const char *command);

/* The credentials of a client of PLAIN. */
void handshake_put_hello(struct handshake *handshake);

/* Why the peer is refused. */
void handshake_put_error(struct handshake *handshake, enum verdict verdict);

#endif
