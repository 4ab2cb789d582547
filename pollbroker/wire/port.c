/* A port from its beginning to its end, and its peers, which come and go. */
#include "publish.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

enum { GENERATED_ID_SIZE = 5 };

void options_init(struct options *options)
{
    *options = (struct options){
        .sndhwm = 1000,
        .maxmsgsize = -1,
        .maxframes = UINT64_MAX,
        .handshake_ivl = 30000,
        .heartbeat_timeout = -1,
        .reconnect_ivl = 100,
        .backlog = 100,
        .sndbuf = -1,
        .rcvbuf = -1,
        .tcp_keepalive = -1,
        .tcp_keepalive_idle = -1,
        .tcp_keepalive_cnt = -1,
        .tcp_keepalive_intvl = -1,
        .connections_max = 100000,
        .connections_per_address_max = UINT64_MAX,
        .handshakes_max = 10000,
        .subscriptions_max = 100000,
        .subscription_max_bytes = 4096,
    };
}

void wire_init(struct wire *wire)
{
    *wire = (struct wire){0};
    link_init(&wire->changed);
    link_init(&wire->unwritten);
    link_init(&wire->unread);
    link_init(&wire->dead);
    link_init(&wire->left);
    link_init(&wire->asking);
}

void wire_forget_dead(struct wire *wire)
{
    while (!list_is_empty(&wire->dead))
        peer_forget(LISTED(wire->dead.next, struct peer, readable_link));
}

void port_init(struct port *port, struct wire *wire, enum socket_type type, const struct stream_calls *calls)
{
    *port = (struct port){.wire = wire, .type = type, .calls = calls};
    options_init(&port->options);
    link_init(&port->changed);
    link_init(&port->unwritten);
    link_init(&port->peers);
    link_init(&port->readable);
    turns_init(&port->turns);
    link_init(&port->dirty);
    link_init(&port->asked);
    wire->ports_alive++;
}

/* What waits for a peer whose queue is about to be forgotten is missed by it, where no flow counts that. */
static void count_missed(struct port *port, const struct peer *peer)
{
    if (!port->given_away && (port_publishes(port) || port_subscribes(port)))
        port->missed += peer->out.messages;
}

void port_end(struct port *port)
{
    port->ended = true;
    while (!list_is_empty(&port->peers)) {
        struct peer *peer = LISTED(port->peers.next, struct peer, all);
        queue_settle(&peer->out);
        count_missed(port, peer);
        queue_forget(&peer->out); /* what is held stays so in the account */
        peer_end(peer, REASON_CLOSED);
        peer_forget(peer);
    }
    queue_forget(&port->orphans);
    queue_forget(&port->subscriptions);
    map_free(&port->ids);
    publish_end(port);
    prefixes_free(&port->prefixes);
    turns_free(&port->turns);
    if (port->envelope)
        slab_release(port->envelope);
    if (link_is_in(&port->changed))
        link_remove(&port->changed);
    if (link_is_in(&port->unwritten))
        link_remove(&port->unwritten);
    port->wire->ports_alive--;
}

void port_note(struct port *port, unsigned news)
{
    port->news |= news;
    if (!port->ended)
        list_include(&port->wire->changed, &port->changed);
}

static enum reason take_routing_id(struct port *port, struct peer *peer)
{
    const struct handshake *handshake = peer->handshake;
    uint8_t generated[GENERATED_ID_SIZE];
    const uint8_t *id = handshake->identity;
    size_t size = handshake->identity_size;

    if (!size) {
        uint32_t number = port->next_id++;
        id = memcpy(generated, (uint8_t[]){0, number >> 24, number >> 16, number >> 8, number}, GENERATED_ID_SIZE);
        size = GENERATED_ID_SIZE;
    } else if (!id[0]) {
        return REASON_ROUTING_ID; /* those that begin with 0 are generated here (RFC 28) */
    }
    if (!peer_set_routing_id(peer, id, size))
        return REASON_NO_MEMORY;
    struct key *known = map_find(&port->ids, id, size, peer->routed.id.hash);
    if (known) {
        if (!port->options.router_handover)
            return REASON_ROUTING_ID;
        peer_end(LISTED(known, struct peer, routed.id), REASON_ROUTING_ID);
    }
    return map_put(&port->ids, &peer->routed.id) ? NO_REASON : REASON_NO_MEMORY;
}

static void give_orphans(struct port *port, struct peer *peer)
{
    if (port->orphans.first) {
        peer->sharer.outstanding += port->orphans.messages;
        queue_take_over(&peer->out, &port->orphans);
        peer_note_queued(peer);
        if (link_is_in(&peer->sharer.turn) && !peer_has_room(peer))
            turns_remove(&port->turns, peer);
        turns_weigh(&port->turns, peer);
    }
}

enum reason port_attach(struct port *port, struct peer *peer)
{
    if (port_routes(port)) {
        enum reason reason = take_routing_id(port, peer);
        if (reason)
            return reason;
    }
    port->peer_count++;
    if (port_publishes(port) && !publish_attach(port)) {
        port->peer_count--;
        return REASON_NO_MEMORY;
    }
    peer->attached = true;
    peer->deficit = PEER_QUANTUM_BYTES;
    if (port_shares(port)) {
        give_orphans(port, peer);
        if (peer_has_room(peer))
            port_has_room(port, peer);
    } else if (port_subscribes(port)) {
        subscribe_attach(port, peer);
        if (peer->descriptor < 0) /* there was no memory for them, and its connection has ended */
            return REASON_NO_MEMORY;
        port_note(port, NEWS_ROOM);
    }
    list_include(&port->readable, &peer->readable_link); /* messages may have come with the end of the handshake */
    port_note(port, NEWS_INPUT);
    return NO_REASON;
}

void port_detach(struct port *port, struct peer *peer)
{
    port->peer_count--;
    count_missed(port, peer);
    if (port_shares(port) && link_is_in(&peer->sharer.turn))
        turns_remove(&port->turns, peer);
    switch (port->type) {
    case TYPE_PUSH:
    case TYPE_DEALER:
        queue_take_over(&port->orphans, &peer->out);
        if (!port->ended && turns_next(&port->turns))
            give_orphans(port, turns_next(&port->turns));
        break;
    case TYPE_ROUTER:
        map_remove(&port->ids, &peer->routed.id);
        if (port->awaited == peer) {
            port->awaited = NULL;
            port_note(port, NEWS_ROOM);
        }
        queue_drop(&peer->out);
        break;
    case TYPE_PUB:
    case TYPE_XPUB:
        publish_detach(port, peer);
        break;
    default:
        queue_drop(&peer->out);
        break;
    }
    if (port->type == TYPE_REP && port->partner == peer)
        port->partner = NULL;
}

void port_finish(struct port *port, struct peer *peer)
{
    if (port->type == TYPE_REQ && port->partner == peer) { /* another may be asked in its place */
        port->partner = NULL;
        port->engaged = false;
        port_note(port, NEWS_ROOM);
    }
}

void port_has_room(struct port *port, struct peer *peer)
{
    bool shares = port_shares(port);

    if (shares ? !link_is_in(&peer->sharer.turn) : port->awaited == peer) {
        if (shares) {
            turns_add(&port->turns, peer);
            give_orphans(port, peer);
        } else {
            port->awaited = NULL;
        }
        port_note(port, NEWS_ROOM);
    }
}
