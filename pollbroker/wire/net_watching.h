/* What `net.c` and the rooms beside it share: what is in the epoll set, and what happens to it. */
#ifndef POLLBROKER_WIRE_NET_WATCHING_H
#define POLLBROKER_WIRE_NET_WATCHING_H

#include "net.h"

#include <sys/epoll.h>

/* What an event is about is told by the lowest bits of its address. */
enum { ABOUT_PEER, ABOUT_WATCHED, ABOUT_TIMER, ABOUT_MASK = 3 };

static const uint32_t PEER_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

/* What ports ask of sockets. */
extern const struct stream_calls net_socket_calls;

struct net *net_of(const struct port *port);

/* Watch a descriptor. Return 0, or an errno. */
int net_watch(struct net *net, int descriptor, uint32_t events, void *about, unsigned kind);

/* Watch it no more. */
void net_forget(const struct net *net, int descriptor);

/* Set what a listener or a connector begins with. */
void net_begin_watched(struct net *net, struct watched *watched, struct port *port, int descriptor);

/* A socket that listens has connections to accept, or one that was to connect has done so. */
void net_on_watched(struct net *net, struct watched *watched);

/* Let listeners try again that rest, if it is time. */
void net_go_on_accepting(struct net *net);

/* The connection of a connector is over, or was not made. */
void net_end_connector(struct net *net, struct watched *connector, int error);

/* A connection has ended by what the other side has done. */
void net_note_fault(struct net *net, struct port *port, enum reason reason, const struct other_end *other_end);

#endif
