/* One connection: what is kept of it. What is done with it is declared in wire.h.
 *
 * There may be tens of thousands of connections that say nothing for hours, so a peer is small. What only the handshake
 * needs is in `handshake`, which is freed when that is over. What only the peers of some types of ports need is in a union:
 * a peer is a `struct routed`, a `struct sharer`, has a `struct subscriber`, or is none of them, by the type of its port. The
 * check `idle-connections` of the tests has a bound for all of it. */
#ifndef POLLBROKER_WIRE_PEER_H
#define POLLBROKER_WIRE_PEER_H

#include "account.h"
#include "handshake.h"
#include "list.h"
#include "map.h"
#include "other_end.h"
#include "queue.h"
#include "slab.h"

struct address;
struct port;

/* Who a peer is, by an authenticator. */
struct user_id {
    size_t size;
    uint8_t bytes[];
};

/* A peer of a ROUTER. */
struct routed {
    struct key id;   /* its routing id, which is in `prefix` behind the frame's header */
    uint8_t *prefix; /* the frame that precedes each of its messages */
};

/* A peer of a PUSH, DEALER or REQ: one of those that messages are shared out to. */
struct sharer {
    struct link turn;     /* in one of the lists of `port->turns`, if it has room */
    uint64_t outstanding; /* what it was sent and has not answered */
    uint8_t load_level;   /* see turns.h */
};

struct peer {
    struct port *port;
    struct link all, readable_link, dirty_link, unread_link;
    struct handshake *handshake; /* NULL when hands were shaken */
    struct user_id *user_id;     /* NULL if no authenticator has said anything */
    void *owner;                 /* of the streams: who connects again, say */
    struct address *address;     /* that it was accepted from; NULL if that is not counted */
    struct other_end other_end;  /* where it is */
    int descriptor;              /* of the stream: -1 when the connection is over */
    bool readable;               /* the stream may have bytes */
    bool read_in_vain : 1;       /* it was read in its turn, and no message was complete then */
    bool blocked : 1;            /* the stream has not taken all that was to be written */
    bool attached : 1;           /* hands were shaken, and the connection is not over */
    bool leaves : 1;             /* the other side has closed the connection: nothing is sent any more */
    bool discarding : 1;         /* what comes is the rest of a message that has too many frames */
    bool unread_end : 1;         /* the connection is over, and something is left to be taken */
    uint8_t minor;               /* of its ZMTP 3 */
    uint8_t reason;              /* why the connection is over: an enum reason */
    uint32_t expects;            /* the size of its last message if that was long, since the next may be as long; else 0 */
    uint32_t ping_left;          /* bytes that are to be written until a PING that is in its queue is; 0: none is there */
    float asked_after_s;         /* so long after it was heard it was asked if it is there; 0: it was not since */

    /* What came and was not yet passed on: `start` to `end`. From `start` to `ready_end` there are whole messages, and from
     * there to `scanned` the first frames of the next. The frame after these is behind a gap, where commands were. */
    struct slab *in;
    size_t start, ready_end, scanned, gap, end;
    size_t looked; /* how far the frames behind `scanned` and `gap` were looked at, if it is farther than these */
    struct amount ready, message;
    uint64_t missing; /* the size of the frame behind `gap`, if it is not there whole */
    int64_t deficit;       /* bytes that it may still be taken from in this turn */

    struct queue out;
    union {
        struct routed routed;
        struct sharer sharer;
        struct subscriber *subscriber; /* PUB, XPUB: NULL if it has never subscribed */
    };

    double deadline_s; /* when `peer_on_deadline` is to be called; 0: never */
    double since_s;    /* when it was connected */
    double heard_s;    /* when something was read last */
    double ping_s;     /* when the next PING is due; 0: none */
    float ttl_s;       /* the peer's own demand: it wants to be heard by others so often; 0: none */
    uint32_t timer;    /* its place among the deadlines; 0: none */
    uint64_t received, sent; /* messages */
    uint64_t dropped;        /* PUB, XPUB: messages that it had no room for */
};

/* What an authenticator is asked about a peer, until it has answered. Nothing is read from the peer meanwhile. */
struct question {
    struct link link; /* in the list of the wire until it is asked, and then in that of the port; in none while suspended */
    struct peer *peer;
    uint64_t number;
};

#endif
