#include "admission.h"

#include "wire.h"

#include <stdlib.h>
#include <string.h>

static struct address *find(const struct port *port, const uint8_t *bytes, size_t size)
{
    return (struct address *) map_find(&port->addresses, bytes, size, map_hash(bytes, size));
}

enum reason admission_refuse(const struct port *port, const uint8_t *address, size_t size)
{
    const struct options *options = &port->options;

    if (port->connections + port->unread_ends >= options->connections_max || port->handshakes >= options->handshakes_max)
        return REASON_CONNECTIONS;
    const struct address *known = size ? find(port, address, size) : NULL;
    return known && known->connections >= options->connections_per_address_max ? REASON_CONNECTIONS : NO_REASON;
}

bool admission_count(struct peer *peer, const uint8_t *bytes, size_t size)
{
    struct port *port = peer->port;

    if (!size)
        return true;
    struct address *address = find(port, bytes, size);
    if (!address) {
        if (!(address = malloc(sizeof *address + size)))
            return false;
        memcpy(address->bytes, bytes, size);
        address->key = (struct key){.hash = map_hash(bytes, size), .bytes = address->bytes, .size = size};
        address->connections = 0;
        if (!map_put(&port->addresses, &address->key)) {
            free(address);
            return false;
        }
    }
    address->connections++;
    peer->address = address;
    return true;
}

void admission_discount(struct peer *peer)
{
    struct address *address = peer->address;

    peer->address = NULL;
    if (address && !--address->connections) {
        map_remove(&peer->port->addresses, &address->key);
        free(address);
    }
}
