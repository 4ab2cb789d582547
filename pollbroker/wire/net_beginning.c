/* How connections begin: those that are accepted, and those that are made. */
#define _GNU_SOURCE /* accept4 */
#include "net_watching.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_ACCEPTS = 64 };

/* So many descriptors are left to the rest of the process: the sockets and threads of libzmq, which ends the process when
 * it has none (ipc_listener.cpp of libzmq 4.3.5), health over HTTP, and files. `descriptors.py` has the same number. */
enum { SPARE_DESCRIPTORS = 16 };

static const double REST_S = 0.1; /* how long a listener rests when a connection could not be accepted */

/* A connection that was accepted or made. Edges are reported, so that neither a peer that is not read nor one that is not
 * written to wakes the engine again and again. */
static struct peer *begin_peer(struct net *net, struct port *port, int descriptor, struct watched *connector,
                               const struct host *host, const struct other_end *other_end)
{
    struct peer *peer = peer_new(port, descriptor, connector);

    if (!peer) {
        close(descriptor);
        return NULL;
    }
    if (peer->descriptor < 0) /* there was no memory for its greeting */
        return NULL;
    peer->other_end = *other_end;
    if (host && !admission_count(peer, host->bytes, host->size)) {
        peer_end(peer, REASON_NO_MEMORY);
        return NULL;
    }
    if (net_watch(net, descriptor, PEER_EVENTS, peer, ABOUT_PEER)) {
        peer_end(peer, REASON_NO_MEMORY);
        return NULL;
    }
    peer_flush(peer);
    return peer->descriptor < 0 ? NULL : peer;
}

/* No descriptor is left, or no memory. The connection stays in the kernel, and would wake the engine again and again. */
static void rest(struct net *net, struct watched *listener)
{
    struct epoll_event nothing = {.data.u64 = (uint64_t) (uintptr_t) listener | ABOUT_WATCHED};

    if (list_is_empty(&net->resting))
        net->rested_s = net->wire.now_s + REST_S;
    list_include(&net->resting, &listener->resting);
    epoll_ctl(net->epoll, EPOLL_CTL_MOD, listener->descriptor, &nothing);
}

void net_go_on_accepting(struct net *net)
{
    while (net->wire.now_s >= net->rested_s && !list_is_empty(&net->resting)) {
        struct watched *listener = LISTED(net->resting.next, struct watched, resting);
        struct epoll_event input = {.events = EPOLLIN, .data.u64 = (uint64_t) (uintptr_t) listener | ABOUT_WATCHED};
        link_remove(&listener->resting);
        epoll_ctl(net->epoll, EPOLL_CTL_MOD, listener->descriptor, &input);
    }
}

/* True if a connection may take a descriptor. If not, errno is EMFILE. The kernel gives out the lowest number that is
 * free. */
static bool may_accept(int listener)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return true;
    int lowest = fcntl(listener, F_DUPFD_CLOEXEC, 0);
    if (lowest < 0)
        return false;
    close(lowest);
    errno = EMFILE;
    return (rlim_t) lowest + SPARE_DESCRIPTORS < limit.rlim_cur;
}

static int accept_one(int listener, struct sockaddr_storage *address)
{
    socklen_t size = sizeof *address;

    if (!may_accept(listener))
        return -1;
    return accept4(listener, (struct sockaddr *) address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void accept_all(struct net *net, struct watched *listener)
{
    for (int i = 0; i < MOST_ACCEPTS; i++) {
        struct sockaddr_storage address = {0};
        int descriptor = accept_one(listener->descriptor, &address);
        if (descriptor >= 0) {
            struct host host = host_of(&address);
            struct other_end other_end = other_end_of(&address);
            enum reason refused = admission_refuse(listener->port, host.bytes, host.size);
            if (refused) {
                listener->port->ended_by[refused]++;
                net_note_fault(net, listener->port, refused, &other_end);
                notices_add_refused(&net->notices, listener->port, refused, 0, &other_end);
                close(descriptor);
            } else {
                begin_peer(net, listener->port, descriptor, NULL, &host, &other_end);
            }
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            listener->error = errno;
            net->accepts_failed++;
            notices_add_refused(&net->notices, listener->port, NO_REASON, listener->error, NULL);
            rest(net, listener);
            return;
        }
    }
}

/* While nobody listens at a port of this machine, the kernel may choose that very port for the connection's own end, if it
 * is one of those that it gives to connections (`ip_local_port_range`). TCP then connects the socket to itself (RFC 9293,
 * 3.5, simultaneous open). */
static bool is_connected_to_itself(int descriptor, const struct sockaddr_storage *other_end)
{
    struct sockaddr_storage own = {0};
    socklen_t size = sizeof own;

    return other_end->ss_family != AF_UNIX && getsockname(descriptor, (struct sockaddr *) &own, &size) == 0 &&
           memcmp(&own, other_end, size) == 0;
}

/* Close a connection by a reset, which keeps its port for nobody. */
static void close_by_reset(int descriptor)
{
    struct linger at_once = {.l_onoff = 1};

    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(descriptor);
}

static void finish_connecting(struct net *net, struct watched *connector)
{
    int descriptor = connector->descriptor, error = 0;
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof error, address_size = sizeof address;

    if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    net_forget(net, descriptor);
    connector->descriptor = -1;
    if (error) {
        close(descriptor);
        net_end_connector(net, connector, error);
        return;
    }
    getpeername(descriptor, (struct sockaddr *) &address, &address_size);
    if (is_connected_to_itself(descriptor, &address)) {
        close_by_reset(descriptor);
        net_end_connector(net, connector, ECONNREFUSED); /* nobody listens there */
        return;
    }
    struct other_end other_end = other_end_of(&address);
    if (!(connector->peer = begin_peer(net, connector->port, descriptor, connector, NULL, &other_end)))
        net_end_connector(net, connector, ECONNRESET);
}

void net_on_watched(struct net *net, struct watched *watched)
{
    if (watched->kind == WATCHED_LISTENER)
        accept_all(net, watched);
    else
        finish_connecting(net, watched);
}

void net_begin_watched(struct net *net, struct watched *watched, struct port *port, int descriptor)
{
    watched->net = net;
    watched->descriptor = descriptor;
    watched->port = port;
    watched->peer = NULL;
    watched->error = 0;
    link_init(&watched->ended);
    link_init(&watched->resting);
}

static int begin_watching(struct net *net, struct watched *watched, struct port *port, int descriptor, uint32_t events)
{
    net_begin_watched(net, watched, port, descriptor);
    return net_watch(net, descriptor, events, watched, ABOUT_WATCHED);
}

int net_listen(struct net *net, struct watched *listener, struct port *port, int descriptor)
{
    listener->kind = WATCHED_LISTENER;
    return begin_watching(net, listener, port, descriptor, EPOLLIN);
}

int net_connect(struct net *net, struct watched *connector, struct port *port, int descriptor)
{
    connector->kind = WATCHED_CONNECTING;
    return begin_watching(net, connector, port, descriptor, EPOLLOUT);
}

void net_unwatch(struct watched *watched)
{
    if (watched->descriptor >= 0) {
        net_forget(watched->net, watched->descriptor);
        close(watched->descriptor);
    }
    watched->descriptor = -1;
    if (watched->peer)
        watched->peer->owner = NULL;
    watched->peer = NULL;
    if (link_is_in(&watched->ended))
        link_remove(&watched->ended);
    if (link_is_in(&watched->resting))
        link_remove(&watched->resting);
}

void net_end_connection(struct watched *connector, bool at_once)
{
    struct peer *peer = connector->peer;

    if (!peer)
        return;
    if (at_once || peer->handshake) {
        peer_end(peer, REASON_CLOSED);
        return;
    }
    peer_flush(peer);
    if (peer->descriptor < 0)
        return;
    shutdown(peer->descriptor, SHUT_WR);
    peer_leave(peer);
    peer_is_readable(peer);
    port_note(peer->port, NEWS_INPUT);
}
