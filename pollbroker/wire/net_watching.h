/* What `net.c` and `net_moving.c` share: what is in the epoll set. */
#ifndef POLLBROKER_WIRE_NET_WATCHING_H
#define POLLBROKER_WIRE_NET_WATCHING_H

#include "net.h"

#include <sys/epoll.h>

/* What an event is about is told by the lowest bits of its address. */
enum { ABOUT_PEER, ABOUT_WATCHED, ABOUT_TIMER, ABOUT_MASK = 3 };

static const uint32_t PEER_EVENTS = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

struct net *net_of(const struct port *port);

/* Watch a descriptor. Return 0, or an errno. */
int net_watch(struct net *net, int descriptor, uint32_t events, void *about, unsigned kind);

/* Set what a listener or a connector begins with. */
void net_begin_watched(struct net *net, struct watched *watched, struct port *port, int descriptor);

#endif
