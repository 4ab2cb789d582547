/* How many connections a port accepts. */
#ifndef POLLBROKER_WIRE_ADMISSION_H
#define POLLBROKER_WIRE_ADMISSION_H

#include "map.h"
#include "reasons.h"

struct peer;
struct port;

/* An address that connections were accepted from, and how many of them there are. */
struct address {
    struct key key;
    uint64_t connections;
    uint8_t bytes[];
};

/* A connection has come from an address, which may be empty: nothing is known of the other end of a local one. Return
 * the reason why the port does not accept it, or NO_REASON. */
enum reason admission_refuse(const struct port *port, const uint8_t *address, size_t size);

/* Count a connection that was accepted. Return false if there is no memory. */
bool admission_count(struct peer *peer, const uint8_t *address, size_t size);

/* The connection is over. */
void admission_discount(struct peer *peer);

#endif
