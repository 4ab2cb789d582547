/* A connection from its beginning to its end, and its deadlines: of the handshake, and of heartbeats. */
#include "wire.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

void peer_send_greeting(struct peer *peer)
{
    size_t size = peer->handshake->out_size;

    peer->handshake->out_size = 0;
    if (size)
        peer_enqueue_bytes(peer, peer->handshake->out, size);
}

struct peer *peer_without_stream(struct port *port)
{
    struct peer *peer = calloc(1, sizeof *peer);

    if (!peer)
        return NULL;
    peer->port = port;
    peer->descriptor = -1;
    link_init(&peer->all);
    link_init(&peer->readable_link);
    link_init(&peer->dirty_link);
    link_init(&peer->unread_link);
    if (port_shares(port))
        link_init(&peer->sharer.turn);
    list_append(&port->peers, &peer->all);
    port->wire->peers_alive++;
    return peer;
}

void peer_set_stream(struct peer *peer, int descriptor)
{
    peer->descriptor = descriptor;
    peer->port->connections++;
}

bool peer_add_handshake(struct peer *peer)
{
    if (!(peer->handshake = calloc(1, sizeof *peer->handshake)))
        return false;
    peer->port->handshakes++;
    return true;
}

struct peer *peer_new(struct port *port, int descriptor, void *owner)
{
    struct peer *peer = peer_without_stream(port);

    if (!peer)
        return NULL;
    if (!peer_add_handshake(peer)) {
        peer_forget(peer);
        return NULL;
    }
    peer_set_stream(peer, descriptor);
    peer->owner = owner;
    peer->since_s = peer->heard_s = port->wire->now_s;
    handshake_begin(peer->handshake, port->type, &port->options);
    if (port->options.handshake_ivl) {
        peer->deadline_s = port->wire->now_s + port->options.handshake_ivl / 1000.0;
        port->calls->set_deadline(peer);
    }
    peer_send_greeting(peer);
    return peer;
}

void peer_on_stream(struct peer *peer, unsigned events)
{
    if (peer->descriptor < 0)
        return; /* its connection has ended since */
    if (events & STREAM_END)
        peer_leave(peer);
    if (events & STREAM_OUTPUT && peer->blocked)
        peer_flush(peer);
    if (peer->descriptor < 0 || !(events & (STREAM_INPUT | STREAM_END)))
        return;
    peer_is_readable(peer);
    while (peer->handshake && peer->readable)
        peer_read(peer, SIZE_MAX);
    /* What a peer has sent before it left is read now, as far as it is little. So the descriptor can be closed and the
     * connection made again, although the port is not read for a long time. If nobody ever takes it, it is of no use. */
    if (events & STREAM_END) {
        while (peer->readable && peer->end - peer->start < SLAB_LARGE)
            peer_read(peer, SIZE_MAX);
        if (peer->port->nobody_takes && !peer->handshake)
            peer_end(peer, REASON_LEFT);
    }
    if (link_is_in(&peer->dirty_link))
        peer_flush(peer); /* the answer of a handshake */
    peer_shrink_input(peer); /* its port may not be read for a long time */
    if (peer->descriptor < 0 || peer->handshake)
        return;
    port_note(peer->port, NEWS_INPUT);
    if (peer->readable)
        peer_note_unread(peer);
}

void peer_leave(struct peer *peer)
{
    if (peer->descriptor >= 0 && peer_is_asking(peer)) { /* it is not read, and so its end would not be found */
        peer_end(peer, REASON_LEFT);
        return;
    }
    peer->leaves = true;
    if (link_is_in(&peer->dirty_link))
        link_remove(&peer->dirty_link);
    if (peer->attached) {
        peer->attached = false;
        port_detach(peer->port, peer);
    }
    queue_forget(&peer->out); /* `port_detach` has taken the messages of flows */
    if (peer->port->tells_when_empty)
        port_note(peer->port, NEWS_ROOM);
}

void peer_end(struct peer *peer, enum reason reason)
{
    struct port *port = peer->port;

    if (peer->descriptor < 0)
        return;
    peer->reason = (uint8_t) reason;
    peer->readable = false;
    port->ended_by[reason] += !port->given_away;
    if (peer_is_asking(peer))
        peer_end_asking(peer);
    if (peer->deadline_s) {
        peer->deadline_s = 0;
        port->calls->set_deadline(peer);
    }
    port->calls->close(peer);
    peer->descriptor = -1;
    peer_leave(peer);
    port->connections--;
    port->handshakes -= peer->handshake != NULL;
    if (link_is_in(&peer->unread_link))
        link_remove(&peer->unread_link);
    if (peer->handshake) /* nothing is taken from a peer that was not accepted */
        peer_drop_input(peer);
    free(peer->handshake);
    peer->handshake = NULL;
    if (link_is_in(&peer->readable_link))
        link_remove(&peer->readable_link);
    if (peer->start == peer->end || port->nobody_takes) {
        admission_discount(peer);
        list_append(&port->wire->dead, &peer->readable_link);
        port_finish(port, peer);
    } else { /* it is forgotten when its port finds nothing more to take from it */
        peer_note_unread_end(peer);
        list_append(&port->readable, &peer->readable_link);
        port_note(port, NEWS_INPUT);
    }
}

/* What it has left takes memory, and so it counts among the connections that there may be. */
void peer_note_unread_end(struct peer *peer)
{
    peer->unread_end = true;
    peer->port->unread_ends++;
}

void peer_forget(struct peer *peer)
{
    port_finish(peer->port, peer);
    admission_discount(peer);
    peer->port->unread_ends -= peer->unread_end;
    peer_drop_input(peer);
    link_remove(&peer->all);
    if (link_is_in(&peer->readable_link))
        link_remove(&peer->readable_link);
    peer->port->wire->peers_alive--;
    if (port_routes(peer->port))
        free(peer->routed.prefix);
    free(peer->user_id);
    free(peer);
}

struct key peer_routing_id(const struct peer *peer)
{
    return port_routes(peer->port) ? peer->routed.id : (struct key){0};
}

bool peer_set_routing_id(struct peer *peer, const uint8_t *id, size_t size)
{
    uint8_t *prefix = malloc(FRAME_SHORT_HEADER + size);

    if (!prefix)
        return false;
    frame_write_header(prefix, FRAME_MORE, size);
    memcpy(prefix + FRAME_SHORT_HEADER, id, size);
    peer->routed.prefix = prefix;
    peer->routed.id = (struct key){.hash = map_hash(id, size), .bytes = prefix + FRAME_SHORT_HEADER, .size = size};
    return true;
}

bool peer_set_user_id(struct peer *peer, const uint8_t *user_id, size_t size)
{
    if (!size)
        return true;
    if (!(peer->user_id = malloc(sizeof *peer->user_id + size)))
        return false;
    peer->user_id->size = size;
    memcpy(peer->user_id->bytes, user_id, size);
    return true;
}

/* The earlier of two times, of which 0 is none. */
static double earliest(double a, double b)
{
    return !a || (b && b < a) ? b : a;
}

/* From when on a peer is taken for dead if it is not heard: so long after it was asked, or after the time of its own; 0:
 * never. That it has been silent is not enough, since the engine may have stood still. Whenever it has read of what it had no
 * room for it is taken for asked anew, since the PING may be behind that. */
static double silent_from_s(const struct peer *peer)
{
    const struct options *options = &peer->port->options;
    int timeout = options->heartbeat_timeout < 0 ? options->heartbeat_ivl : options->heartbeat_timeout;
    double asked_s = peer->heard_s + peer->asked_after_s;
    /* A peer that leaves is sent nothing any more. */
    double answer_s = timeout && peer->asked_after_s && !peer->leaves ? asked_s + timeout / 1000.0 : 0;

    return earliest(answer_s, peer->ttl_s ? peer->heard_s + peer->ttl_s : 0);
}

/* When the peer has to be heard next, or is to be sent a PING. */
void peer_set_heartbeat(struct peer *peer)
{
    double interval_s = peer->minor ? peer->port->options.heartbeat_ivl / 1000.0 : 0, now_s = peer->port->wire->now_s;

    if (peer->descriptor < 0)
        return; /* a PING was read before the connection ended, and is parsed now */
    if (!interval_s)
        peer->ping_s = 0;
    else if (!peer->ping_s || peer->ping_s > now_s + interval_s) /* it may be of a broker with another interval */
        peer->ping_s = now_s + interval_s;
    double deadline_s = earliest(peer->ping_s, silent_from_s(peer));
    if (deadline_s != peer->deadline_s) {
        peer->deadline_s = deadline_s;
        peer->port->calls->set_deadline(peer);
    }
}

void peer_note_asked(struct peer *peer)
{
    double after_s = peer->port->wire->now_s - peer->heard_s;

    peer->asked_after_s = (float) (after_s * (1 + 2e-7)); /* as a float it is not before now */
}

static void send_ping(struct peer *peer)
{
    uint8_t ping[FRAME_SHORT_HEADER + 7];
    int ttl = peer->port->options.heartbeat_ttl / 100;

    frame_write_header(ping, FRAME_COMMAND, 7);
    memcpy(ping + FRAME_SHORT_HEADER, "\4PING", 5);
    ping[FRAME_SHORT_HEADER + 5] = (uint8_t) (ttl >> 8);
    ping[FRAME_SHORT_HEADER + 6] = (uint8_t) ttl;
    peer_enqueue_bytes(peer, ping, sizeof ping);
    peer->ping_left = peer->out.bytes < UINT32_MAX ? (uint32_t) peer->out.bytes : UINT32_MAX;
}

void peer_on_deadline(struct peer *peer)
{
    double now_s = peer->port->wire->now_s, silent_s;

    peer->deadline_s = 0;
    peer->port->calls->set_deadline(peer);
    if (peer->handshake) {
        peer_end(peer, REASON_SLOW_HANDSHAKE);
        return;
    }
    if (peer->readable) /* it may have been heard, and nobody has read that, since its port is not read now */
        peer_note_heard(peer);
    silent_s = silent_from_s(peer);
    if (silent_s && now_s >= silent_s) {
        peer_end(peer, REASON_SILENT);
        return;
    }
    if (peer->ping_s && now_s >= peer->ping_s) {
        if (!peer->ping_left)
            send_ping(peer);
        peer->ping_s = 0; /* the next one is due after the interval */
        if (!peer->asked_after_s)
            peer_note_asked(peer);
    }
    if (peer->descriptor >= 0) {
        peer_set_heartbeat(peer);
        peer_flush(peer);
    }
}
