/* What ports ask of their streams: reading, writing, closing, and when a deadline is. What has ended a connection is told
 * from here. */
#include "net_watching.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

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

void net_end_connector(struct net *net, struct watched *connector, int error)
{
    connector->peer = NULL;
    connector->error = error;
    list_include(&net->ended, &connector->ended);
}

void net_note_fault(struct net *net, struct port *port, enum reason reason, const struct other_end *other_end)
{
    if (!net->fault.count++) {
        net->fault.port = port;
        net->fault.reason = reason;
        other_end_describe(net->fault.address, other_end);
    }
}

void net_note_end(struct peer *peer)
{
    struct net *net = net_of(peer->port);

    if (peer->port->given_away)
        return;
    if (!peer->handshake)
        notices_add(&net->notices, NOTICE_LEFT, peer);
    else if (peer->reason != REASON_CLOSED)
        notices_add(&net->notices, NOTICE_HANDSHAKE, peer);
    if (peer->reason != REASON_LEFT && peer->reason != REASON_BROKEN && peer->reason != REASON_CLOSED)
        net_note_fault(net, peer->port, peer->reason, &peer->other_end);
}

static void stream_close(struct peer *peer)
{
    net_note_end(peer);
    /* While another process has a duplicate, closing a descriptor neither takes it out of the epoll set nor ends the
     * connection. */
    if (peer->port->shared && net_of(peer->port)->process == getpid())
        shutdown(peer->descriptor, SHUT_RDWR);
    net_forget(net_of(peer->port), peer->descriptor);
    close(peer->descriptor);
    if (peer->owner)
        net_end_connector(net_of(peer->port), peer->owner, peer->handshake ? EPROTO : 0);
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

const struct stream_calls net_socket_calls = {
    stream_read, stream_write, stream_close, stream_set_deadline, stream_connected,
};

void net_port_init(struct port *port, struct net *net, enum socket_type type)
{
    port_init(port, &net->wire, type, &net->calls);
}

void net_end_output(struct port *port)
{
    struct link *next;

    for (struct link *link = port->peers.next; link != &port->peers; link = next) {
        struct peer *peer = LISTED(link, struct peer, all);
        next = link->next;
        if (peer->descriptor >= 0 && peer->handshake)
            peer_on_stream(peer, STREAM_INPUT); /* the peer may have shaken hands already, and sent messages */
        if (peer->descriptor >= 0 && peer->handshake)
            peer_end(peer, REASON_CLOSED);
        else if (peer->descriptor >= 0)
            shutdown(peer->descriptor, SHUT_WR);
    }
}
