/* What happens to connections, noted for whoever listens to events: hands were shaken, a connection has ended, one was
 * refused. While nobody listens, there is no room, and nothing is noted. */
#ifndef POLLBROKER_WIRE_NOTICES_H
#define POLLBROKER_WIRE_NOTICES_H

#include "hosts.h"
#include "reasons.h"

#include <stdbool.h>

struct peer;
struct port;

enum notice_kind { NOTICE_CONNECTED, NOTICE_LEFT, NOTICE_HANDSHAKE, NOTICE_REFUSED };

struct notice {
    enum notice_kind kind;
    enum reason reason;
    int error; /* the errno of an accept that failed, or 0 */
    struct port *port;
    char address[HOST_TEXT_MAX];
};

struct notices {
    struct notice *items; /* NULL: nobody listens */
    size_t count, room;
    uint64_t lost; /* there was no room for them */
};

/* Make room for so many; with 0, stop noting. Return false if there is no memory. */
bool notices_keep(struct notices *notices, size_t room);

/* Something has happened to a connection that has a descriptor, still. */
void notices_add(struct notices *notices, enum notice_kind kind, const struct peer *peer);

/* A connection was not accepted: it comes from this address, or no descriptor was left for it. */
void notices_add_refused(struct notices *notices, struct port *port, enum reason reason, int error,
                         const struct other_end *from);

/* A port is about to be freed, and nobody is to be told of its connections any more. */
void notices_forget(struct notices *notices, const struct port *port);

#endif
