/* Where the other end of a connection is. */
#ifndef POLLBROKER_WIRE_OTHER_END_H
#define POLLBROKER_WIRE_OTHER_END_H

#include <stdint.h>

/* Kept with each peer, since the kernel does not tell any more when the connection was reset. */
struct other_end {
    uint8_t bytes[16]; /* of an address of IPv4, the first four */
    uint16_t port;
    uint8_t size; /* 4, 16, or 0 if the connection is local */
};

#endif
