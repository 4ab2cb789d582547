#define _GNU_SOURCE /* accept4 */
#include "net.h"

#include "net_watching.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MOST_EVENTS = 256, MOST_ACCEPTS = 64 };

/* So many descriptors are left to the rest of the process: the sockets and threads of libzmq, which ends the process when
 * it has none (ipc_listener.cpp of libzmq 4.3.5), health over HTTP, and files. `descriptors.py` has the same number. */
enum { SPARE_DESCRIPTORS = 16 };

static const double REST_S = 0.1; /* how long a listener rests when a connection could not be accepted */

struct net *net_of(const struct port *port)
{
    return LISTED(port->wire, struct net, wire);
}

double net_now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

int net_watch(struct net *net, int descriptor, uint32_t events, void *about, unsigned kind)
{
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t) (uintptr_t) about | kind};

    return epoll_ctl(net->epoll, EPOLL_CTL_ADD, descriptor, &event) < 0 ? errno : 0;
}

int net_open(struct net *net)
{
    *net = (struct net){.epoll = -1, .timer = -1};
    wire_init(&net->wire);
    link_init(&net->ended);
    link_init(&net->resting);
    net->wire.now_s = net_now_s();
    net->epoll = epoll_create1(EPOLL_CLOEXEC);
    net->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int code = net->epoll < 0 || net->timer < 0 ? errno : net_watch(net, net->timer, EPOLLIN, NULL, ABOUT_TIMER);
    if (code)
        net_close(net);
    return code;
}

void net_close(struct net *net)
{
    wire_forget_dead(&net->wire);
    deadlines_free(&net->deadlines);
    notices_keep(&net->notices, 0);
    pool_empty(&net->wire.pool);
    if (net->epoll >= 0)
        close(net->epoll);
    if (net->timer >= 0)
        close(net->timer);
    net->epoll = net->timer = -1;
}

/* -- the calls of ports --------------------------------------------------------------------------------------------- */

static ssize_t stream_read(struct peer *peer, void *bytes, size_t count)
{
    for (;;) {
        ssize_t got = recv(peer->descriptor, bytes, count, 0);
        if (got >= 0)
            return got;
        if (errno != EINTR)
            return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
}

static ssize_t stream_write(struct peer *peer, const struct iovec *pieces, int count)
{
    struct msghdr message = {.msg_iov = (struct iovec *) pieces, .msg_iovlen = (size_t) count};

    for (;;) {
        ssize_t written = sendmsg(peer->descriptor, &message, MSG_NOSIGNAL);
        if (written >= 0)
            return written;
        if (errno != EINTR)
            return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    }
}

static void end_connector(struct net *net, struct watched *connector, int error)
{
    connector->peer = NULL;
    connector->error = error;
    list_include(&net->ended, &connector->ended);
}

/* A connection has ended by what the other side has done. */
static void note_fault(struct net *net, struct port *port, enum reason reason, const struct other_end *other_end)
{
    if (!net->fault.count++) {
        net->fault.port = port;
        net->fault.reason = reason;
        other_end_describe(net->fault.address, other_end);
    }
}

static void note_reason(struct peer *peer)
{
    struct net *net = net_of(peer->port);

    if (peer->port->given_away)
        return;
    if (!peer->handshake)
        notices_add(&net->notices, NOTICE_LEFT, peer);
    else if (peer->reason != REASON_CLOSED)
        notices_add(&net->notices, NOTICE_HANDSHAKE, peer);
    if (peer->reason != REASON_LEFT && peer->reason != REASON_BROKEN && peer->reason != REASON_CLOSED)
        note_fault(net, peer->port, peer->reason, &peer->other_end);
}

static void stream_close(struct peer *peer)
{
    note_reason(peer);
    /* While another process has a duplicate, closing a descriptor neither takes it out of the epoll set nor ends the
     * connection. */
    if (peer->port->shared)
        shutdown(peer->descriptor, SHUT_RDWR);
    epoll_ctl(net_of(peer->port)->epoll, EPOLL_CTL_DEL, peer->descriptor, NULL);
    close(peer->descriptor);
    if (peer->owner)
        end_connector(net_of(peer->port), peer->owner, 0);
    peer->owner = NULL;
}

static void stream_set_deadline(struct peer *peer)
{
    if (!deadlines_set(&net_of(peer->port)->deadlines, peer))
        peer->deadline_s = 0;
}

static void stream_connected(struct peer *peer)
{
    notices_add(&net_of(peer->port)->notices, NOTICE_CONNECTED, peer);
}

static const struct stream_calls CALLS = {
    stream_read, stream_write, stream_close, stream_set_deadline, stream_connected,
};

void net_port_init(struct port *port, struct net *net, enum socket_type type)
{
    port_init(port, &net->wire, type, &CALLS);
}

void net_end_output(struct port *port)
{
    struct link *next;

    for (struct link *link = port->peers.next; link != &port->peers; link = next) {
        struct peer *peer = LISTED(link, struct peer, all);
        next = link->next;
        if (peer->descriptor >= 0 && peer->handshake)
            peer_end(peer, REASON_CLOSED);
        else if (peer->descriptor >= 0)
            shutdown(peer->descriptor, SHUT_WR);
    }
}

/* -- what happens ---------------------------------------------------------------------------------------------------- */

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

static void go_on_accepting(struct net *net)
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
                note_fault(net, listener->port, refused, &other_end);
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

static void finish_connecting(struct net *net, struct watched *connector)
{
    int descriptor = connector->descriptor, error = 0;
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof error, address_size = sizeof address;

    if (getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    epoll_ctl(net->epoll, EPOLL_CTL_DEL, descriptor, NULL);
    connector->descriptor = -1;
    if (error) {
        close(descriptor);
        end_connector(net, connector, error);
        return;
    }
    getpeername(descriptor, (struct sockaddr *) &address, &address_size);
    struct other_end other_end = other_end_of(&address);
    if (!(connector->peer = begin_peer(net, connector->port, descriptor, connector, NULL, &other_end)))
        end_connector(net, connector, ECONNRESET);
}

static void on_peer_event(struct peer *peer, uint32_t events)
{
    unsigned told = events & EPOLLIN ? STREAM_INPUT : 0;

    if (events & EPOLLOUT)
        told |= STREAM_OUTPUT;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        told |= STREAM_END;
    peer_on_stream(peer, told);
}

static void call_deadlines(struct net *net)
{
    struct peer *peer;

    while ((peer = deadlines_first(&net->deadlines)) && peer->deadline_s <= net->wire.now_s)
        peer_on_deadline(peer);
}

void net_serve(struct net *net)
{
    struct epoll_event events[MOST_EVENTS];

    wire_forget_dead(&net->wire);
    net->wire.now_s = net_now_s();
    int count = epoll_wait(net->epoll, events, MOST_EVENTS, 0);
    for (int i = 0; i < count; i++) {
        void *about = (void *) (uintptr_t) (events[i].data.u64 & ~(uint64_t) ABOUT_MASK);
        unsigned kind = events[i].data.u64 & ABOUT_MASK;
        if (kind == ABOUT_PEER) {
            on_peer_event(about, events[i].events);
        } else if (kind == ABOUT_WATCHED) {
            struct watched *watched = about;
            if (watched->kind == WATCHED_LISTENER)
                accept_all(net, watched);
            else
                finish_connecting(net, watched);
        } else {
            uint64_t expirations;
            if (read(net->timer, &expirations, sizeof expirations) == sizeof expirations)
                net->armed_s = 0;
        }
    }
    call_deadlines(net);
    wire_look_ahead(&net->wire);
    go_on_accepting(net);
}

static void set_timer(struct net *net, double wanted_s)
{
    double whole = floor(wanted_s);
    struct itimerspec when = {.it_value = {(time_t) whole, (long) ((wanted_s - whole) * 1e9)}};

    if (!when.it_value.tv_sec && !when.it_value.tv_nsec)
        when.it_value.tv_nsec = 1;
    timerfd_settime(net->timer, TFD_TIMER_ABSTIME, &when, NULL);
    net->armed_s = wanted_s;
}

void net_arm(struct net *net)
{
    struct peer *first = deadlines_first(&net->deadlines);
    double wanted_s = first ? first->deadline_s : 0;

    if (!list_is_empty(&net->wire.unread) && (!wanted_s || net->wire.look_s < wanted_s))
        wanted_s = net->wire.look_s;
    if (!list_is_empty(&net->resting) && (!wanted_s || net->rested_s < wanted_s))
        wanted_s = net->rested_s;
    /* While messages are moved, a port may have news, and a connection may end. */
    if (!list_is_empty(&net->wire.changed) || !list_is_empty(&net->ended))
        wanted_s = net->wire.now_s;
    /* An earlier wake-up than is needed does no harm. */
    if (!wanted_s || (net->armed_s && net->armed_s <= wanted_s))
        return;
    set_timer(net, wanted_s);
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
        epoll_ctl(watched->net->epoll, EPOLL_CTL_DEL, watched->descriptor, NULL);
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
