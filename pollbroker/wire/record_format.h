/* What writing and reading a record have in common; see record.h. */
#ifndef POLLBROKER_WIRE_RECORD_FORMAT_H
#define POLLBROKER_WIRE_RECORD_FORMAT_H

#include "record.h"

enum { MAGIC = 0x70775042, END_MARK = 0x2e646e65 }; /* "BPwp", "end." */

enum {
    FLAG_STREAM = 1,      /* the connection is not over */
    FLAG_ATTACHED = 2,    /* hands were shaken */
    FLAG_LEAVES = 4,      /* the other side has closed the connection */
    FLAG_DISCARDING = 8,  /* what comes is the rest of a message that has too many frames */
    FLAG_HANDSHAKE = 16,  /* the handshake goes on */
    FLAG_READABLE = 32,   /* the stream may have bytes */
    FLAG_PING = 64,       /* a PING is due at a time */
    FLAG_ALL = 127
};

enum { ENGAGED = 1 };

static const double MICROSECONDS = 1e6, LONGEST_S = 1e9;

/* -- reading: each returns 0, or nothing, once something was found to be wrong -------------------------------------- */

/* The record is wrong in this. Return false. */
bool reading_refuse(struct reading *reading, const char *wrong);
bool reading_refuse_unless(struct reading *reading, bool right, const char *wrong);

uint8_t reading_u8(struct reading *reading);
uint32_t reading_u32(struct reading *reading);
uint64_t reading_u64(struct reading *reading);
double reading_seconds(struct reading *reading);
struct amount reading_amount(struct reading *reading);

/* A string of bytes, which stays in the record. */
const uint8_t *reading_bytes(struct reading *reading, size_t *count);

void reading_queue(struct reading *reading, struct port *port, struct queue *queue, struct account *const *accounts,
                   uint32_t count);

/* A peer, which becomes one of the port's. */
void reading_peer(struct reading *reading, struct port *port, struct account *const *accounts, uint32_t count);

#endif
