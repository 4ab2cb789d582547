/* Suspending the streams of ports while they are handed over to another process, and going on with them. */
#include "hosts.h"
#include "net_watching.h"
#include "publish.h"

#include <unistd.h>

void net_suspend(struct port *port)
{
    struct net *net = net_of(port);

    port_flush(port); /* so that nothing is written later, when somebody flushes all ports */
    publish_remove_all(port); /* a record has the subscriptions of the peers that are there */
    for (struct link *link = port->peers.next; link != &port->peers; link = link->next) {
        struct peer *peer = LISTED(link, struct peer, all);
        if (peer->descriptor >= 0)
            net_forget(net, peer->descriptor);
        if (peer->deadline_s) {
            peer->deadline_s = 0;
            port->calls->set_deadline(peer);
        }
        peer->asked_after_s = 0; /* nothing is read for a while, and so it is asked anew then */
        if (link_is_in(&peer->unread_link))
            link_remove(&peer->unread_link);
        if (peer_is_asking(peer))
            peer_suspend_asking(peer);
    }
    if (link_is_in(&port->changed))
        link_remove(&port->changed);
}

void net_suspend_watched(struct watched *watched)
{
    if (watched->descriptor >= 0)
        net_forget(watched->net, watched->descriptor);
    if (link_is_in(&watched->resting))
        link_remove(&watched->resting);
}

/* A peer of another process. If it was accepted there, it is counted, unless there is no memory. */
static void find_address(struct peer *peer)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;

    if (peer->other_end.size || getpeername(peer->descriptor, (struct sockaddr *) &address, &size) < 0)
        return;
    peer->other_end = other_end_of(&address);
    struct host host = host_of(&address);
    if (!peer->owner && !peer->address)
        admission_count(peer, host.bytes, host.size);
}

int net_resume(struct port *port)
{
    struct net *net = net_of(port);
    int first_error = 0;

    for (struct link *link = port->peers.next, *next; link != &port->peers; link = next) {
        struct peer *peer = LISTED(link, struct peer, all);
        next = link->next;
        if (peer->descriptor < 0)
            continue;
        find_address(peer);
        /* What is ready now is reported at once, as for any descriptor that is added. */
        int error = net_watch(net, peer->descriptor, PEER_EVENTS, peer, ABOUT_PEER);
        if (error) {
            first_error = first_error ? first_error : error;
            peer_end(peer, REASON_NO_MEMORY);
        } else if (!peer->handshake) {
            peer_set_heartbeat(peer);
            peer_note_unread(peer);
        } else {
            if (port->options.handshake_ivl) {
                peer->deadline_s = peer->since_s + port->options.handshake_ivl / 1000.0;
                port->calls->set_deadline(peer);
            }
            if (peer_is_asking(peer))
                peer_go_on_asking(peer);
        }
    }
    port_note(port, NEWS_INPUT | NEWS_ROOM);
    return first_error;
}

int net_resume_watched(struct watched *watched)
{
    uint32_t events = watched->kind == WATCHED_LISTENER ? EPOLLIN : EPOLLOUT;

    return watched->descriptor < 0 ? 0 : net_watch(watched->net, watched->descriptor, events, watched, ABOUT_WATCHED);
}

void net_connected(struct watched *connector, struct port *port, struct peer *peer)
{
    connector->kind = WATCHED_CONNECTING;
    net_begin_watched(net_of(port), connector, port, -1);
    connector->peer = peer;
    peer->owner = connector;
}
