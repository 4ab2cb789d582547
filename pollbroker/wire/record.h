/* The record of a port: its state and that of its peers as bytes, which another process makes the same port of.
 *
 * Each field is written by itself, numbers with the least significant byte first, and times as microseconds from now, so
 * that the record depends neither on the compiler nor on the clock. Whoever reads it trusts nothing: a record that is cut,
 * malformed, or of another version is refused whole. Descriptors are not in it; they travel beside it, those of the peers
 * in the order of `peers`.
 *
 * What is read but not yet taken is written without the commands in it, which were obeyed already. A queue is written
 * with the beginning of a message that was written in part, and with how far it was written. If the queue has only the rest
 * of that message, an empty frame is its beginning in the record. */
#ifndef POLLBROKER_WIRE_RECORD_H
#define POLLBROKER_WIRE_RECORD_H

#include "wire.h"

enum { RECORD_VERSION = 1 };

/* A record that is being written. It begins with all of it 0. */
struct record {
    uint8_t *bytes;
    size_t size, room;
    struct peer **peers; /* those that are in it, in order. The descriptor is -1 of one whose connection is over */
    size_t peer_count, peer_room;
    bool no_memory;
    bool unknown_account; /* a queue has messages of a flow that was not given */
};

/* Write a port. The accounts are those of the flows that send to it. Return false if one of the two marks is set; the
 * record is to be freed in any case. */
bool record_write(struct record *record, const struct port *port, struct account *const *accounts, uint32_t account_count);

void record_free(struct record *record);

/* A record that is being read: set `at` and `end`, and the descriptors of the peers that have one. */
struct reading {
    const uint8_t *begin, *at, *end;
    const int *descriptors;
    size_t descriptor_count;
    size_t descriptors_taken; /* so many belong to peers of the port, which closes them */
    struct peer **peers; /* in order; the caller frees this */
    size_t peer_count, peer_room;
    const char *wrong; /* what is wrong with the record; NULL: nothing */
    size_t wrong_at;   /* the byte */
};

/* Make the recorded peers and state in a port that is new but for its options; what it subscribed to is forgotten. Its
 * peers are to be watched then, as `net_resume` does. Return false, with `wrong` set, if the record is refused: the port
 * can only be ended then. */
bool record_read(struct reading *reading, struct port *port, struct account *const *accounts, uint32_t account_count);

#endif
