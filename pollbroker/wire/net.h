/* The streams of ports: sockets of tcp and ipc, in one epoll set for all ports of an engine.
 *
 * Sockets are opened in Python (`streams.py`), which knows addresses and options. Here they are accepted, read, written
 * and closed. */
#ifndef POLLBROKER_WIRE_NET_H
#define POLLBROKER_WIRE_NET_H

#include "deadlines.h"
#include "hosts.h"
#include "notices.h"
#include "wire.h"

#include <sys/types.h>

/* Something in the epoll set that is no peer. */
struct watched {
    enum { WATCHED_LISTENER, WATCHED_CONNECTING } kind;
    int descriptor;
    struct net *net;
    struct port *port;
    void *owner;       /* of those who made it */
    struct peer *peer; /* of a connector, while it is connected */
    int error;         /* the errno of the try to connect (EPROTO: no handshake), or of the last accept that failed */
    struct link ended; /* a connector, when it has nothing left to do */
    struct link resting; /* a listener, when the process had no descriptor for another connection */
};

/* What a peer has done wrong. */
struct fault {
    struct port *port;
    enum reason reason;
    uint64_t count; /* connections that have ended by a fault; the first of them is described here */
    char address[HOST_TEXT_MAX]; /* as in `tcp://127.0.0.1:5555`, or "ipc" */
    double told_s; /* when somebody was told of the last one */
};

struct net {
    struct fault fault;
    struct notices notices;
    struct wire wire;
    int epoll, timer;
    pid_t process; /* that has made it: one that was forked from that has the same epoll set, and must not change it */
    double armed_s; /* when the timer will wake the engine; 0: never */
    struct deadlines deadlines;
    struct link ended; /* connectors whose connection is over, or was not made */
    uint64_t accepts_failed;
    struct link resting; /* listeners that try again at `rested_s` */
    double rested_s;
    struct stream_calls calls; /* of all ports */
    bool simulated;            /* its streams are not sockets: see `net_open_simulated` */
    double simulated_s;        /* the clock of deadlines then, which its owner sets */
};

/* Return 0, or an errno. */
int net_open(struct net *net);

/* The same for streams that are no sockets, for tests. They are read, written and closed by these three functions, and
 * `peer_on_stream` is told what happens at them. The descriptor of a peer is a number, and its `owner` is that of the
 * stream. Time passes only as `simulated_s`, and the epoll set wakes the engine when `net_wake` was called. */
int net_open_simulated(struct net *net, const struct stream_calls *calls);
void net_wake(struct net *net);

/* Close everything. All ports must have ended. */
void net_close(struct net *net);

/* Do what can be done at once: accept, shake hands, and write what waited. Messages are read when somebody takes them. The
 * caller then empties the lists `wire.changed` and `ended`. */
void net_serve(struct net *net);

/* True if there is a `fault`, and nobody was told of one in the last second. */
bool net_is_fault_due(const struct net *net);

/* Have the timer wake the engine at the earliest deadline, when a fault is due, or at once if one of the two lists is not
 * empty. To be called whenever ports were used. */
void net_arm(struct net *net);

/* The clock of deadlines, in seconds: CLOCK_MONOTONIC, unless the streams are simulated. */
double net_now_s(const struct net *net);

/* Tell whoever listens why a connection has ended. To be called before the stream is closed. */
void net_note_end(struct peer *peer);

void net_port_init(struct port *port, struct net *net, enum socket_type type);

/* Accept connections for a port from a socket that listens. Return 0, or an errno. */
int net_listen(struct net *net, struct watched *listener, struct port *port, int descriptor);

/* Wait until a socket is connected, and make a peer of it. Return 0, or an errno. */
int net_connect(struct net *net, struct watched *connector, struct port *port, int descriptor);

/* Stop, and close the socket. The connections that were made go on. */
void net_unwatch(struct watched *watched);

/* End the connection of a connector from this side. The peer sees the end of what is written to it, and what it has sent
 * is read until its own end, unless the connection is to end `at_once`. What waits to be written goes to another peer, or
 * is dropped, as for any peer that leaves. */
void net_end_connection(struct watched *connector, bool at_once);

/* Tell every peer, by the end of the stream, that nothing more is sent to it. What it has sent and sends still is read. */
void net_end_output(struct port *port);

/* -- handing over to another process, which shares the descriptors meanwhile -- */

/* Neither read, write nor accept, and let no deadline pass, until the same is resumed. Ports that nobody moves messages
 * from or to meanwhile stay as they are. */
void net_suspend(struct port *port);
void net_suspend_watched(struct watched *watched);

/* Return 0, or an errno. Connections that cannot be watched have ended then. */
int net_resume(struct port *port);
int net_resume_watched(struct watched *watched);

/* A connector whose connection was made already. */
void net_connected(struct watched *connector, struct port *port, struct peer *peer);

#endif
