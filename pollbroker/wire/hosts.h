/* The other ends of connections. */
#ifndef POLLBROKER_WIRE_HOSTS_H
#define POLLBROKER_WIRE_HOSTS_H

#include "other_end.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { HOST_TEXT_MAX = 80 };

/* The address of a connection's other end, without its port. Empty if it is local. */
struct host {
    uint8_t bytes[16];
    size_t size;
};

struct host host_of(const struct sockaddr_storage *address);

struct other_end other_end_of(const struct sockaddr_storage *address);

/* The address and its port as text: `tcp://127.0.0.1:5555`, or "ipc". */
void other_end_describe(char text[HOST_TEXT_MAX], const struct other_end *other_end);

#endif
