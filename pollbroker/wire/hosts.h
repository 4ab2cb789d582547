/* The other ends of connections. */
#ifndef POLLBROKER_WIRE_HOSTS_H
#define POLLBROKER_WIRE_HOSTS_H

#include "remote.h"

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

struct remote remote_of(const struct sockaddr_storage *address);

/* The address and its port as text: `tcp://127.0.0.1:5555`, or "ipc". */
void remote_describe(char text[HOST_TEXT_MAX], const struct remote *remote);

#endif
