/* What the types of sockets do with messages that are to be sent. */
#include "publish.h"

#include "frame.h"

#include <string.h>

void message_first(const struct message *message, const uint8_t **body, size_t *size, size_t *rest)
{
    const struct run *run = &message->run;
    const uint8_t *first = message->prefix_size ? message->prefix : run->slab->bytes + run->start;
    unsigned flags;
    uint64_t length = 0;
    int header = frame_header(first, message->prefix_size ? message->prefix_size : run->end - run->start, &flags, &length);

    *body = first + header;
    *size = length;
    *rest = message->prefix_size ? 0 : (size_t) header + length;
}

struct run run_first(const struct run *run)
{
    struct run first = {.slab = run->slab, .start = run->start, .end = run->start, .amount = {.messages = 1}};
    unsigned flags = FRAME_MORE;
    uint64_t length = 0;

    while (flags & FRAME_MORE) {
        int header = frame_header(run->slab->bytes + first.end, run->end - first.end, &flags, &length);
        first.end += (size_t) header + length;
        first.amount.frames++;
        first.amount.bytes += length;
    }
    return first;
}

/* A peer was given a message: it may be full now, and the next one is another's. */
static void after_giving(struct port *port, struct peer *peer)
{
    peer_makes_room(peer);
    if (!link_is_in(&peer->sharer.turn))
        return; /* its connection is over */
    if (!peer_has_room(peer))
        turns_remove(&port->turns, peer);
    else
        turns_pass(&port->turns, peer);
}

static enum put give_to_next(struct port *port, const struct message *message, struct account *account, struct peer **given)
{
    struct peer *peer;

    while ((peer = turns_next(&port->turns))) {
        if (peer_enqueue(peer, message, account)) {
            *given = peer;
            peer->sharer.outstanding += message->run.amount.messages;
            after_giving(port, peer);
            return PUT_ACCEPTED;
        }
    }
    return PUT_FULL;
}

/* The same message without its first frame. */
static struct message without_first(const struct message *message, size_t rest)
{
    struct message shorter = *message;

    shorter.prefix_size = 0;
    shorter.prefix = NULL;
    shorter.run.start += rest;
    return shorter;
}

static enum put route(struct port *port, const struct message *message, struct account *account)
{
    const uint8_t *id;
    size_t size, rest;

    message_first(message, &id, &size, &rest);
    struct message routed = without_first(message, rest);
    struct key *known = map_find(&port->ids, id, size, map_hash(id, size));
    if (!known || routed.run.start == routed.run.end)
        return PUT_UNROUTABLE;
    struct peer *peer = LISTED(known, struct peer, routed.id);
    bool has_room = peer_makes_room(peer);
    if (!peer->attached)
        return PUT_UNROUTABLE;
    if (!has_room) {
        if (port->drops_slow_peer)
            return PUT_SLOW_PEER;
        port->awaited = peer;
        return PUT_FULL;
    }
    return peer_enqueue(peer, &routed, account) ? PUT_ACCEPTED : PUT_UNROUTABLE;
}

static enum put answer(struct port *port, const struct message *message, struct account *account)
{
    struct peer *peer = port->partner;

    if (message->from && message->from->port == port) { /* a route from this port to itself */
        peer = message->from;
        port->answered = true;
    } else if (!port->engaged) {
        return PUT_UNROUTABLE; /* nobody has asked */
    }
    /* In front of the reply goes the envelope, and then a frame that precedes it already. */
    struct slab *start = slab_new(&port->wire->pool, port->envelope_size + message->prefix_size);
    if (!start)
        return PUT_NO_MEMORY;
    memcpy(start->bytes, port->envelope->bytes, port->envelope_size);
    if (message->prefix_size)
        memcpy(start->bytes + port->envelope_size, message->prefix, message->prefix_size);
    struct message reply = *message;
    reply.prefix = start->bytes;
    reply.prefix_size = port->envelope_size + message->prefix_size;
    port->engaged = false;
    port->partner = NULL;
    if (!list_is_empty(&port->readable))
        port_note(port, NEWS_INPUT);
    enum put outcome = PUT_UNROUTABLE;
    bool has_room = peer && peer_makes_room(peer);
    if (peer && peer->attached && !has_room)
        outcome = PUT_SLOW_PEER; /* it asks without reading the replies, and may not fill the memory with them */
    else if (peer && peer->attached && peer_enqueue(peer, &reply, account))
        outcome = PUT_ACCEPTED;
    slab_release(start);
    if (port->envelope->capacity > SLAB_LARGE) { /* it is not likely that another is as long */
        slab_release(port->envelope);
        port->envelope = NULL;
        port->envelope_size = 0;
    }
    return outcome;
}

static enum put ask(struct port *port, const struct message *message, struct account *account)
{
    struct message request = *message;
    uint8_t prefix[FRAME_SHORT_HEADER + FRAME_SHORT_HEADER + ROUTING_ID_MAX] = {FRAME_MORE, 0};

    if (port->engaged)
        return PUT_FULL;
    if (message->prefix_size)
        memcpy(prefix + FRAME_SHORT_HEADER, message->prefix, message->prefix_size);
    request.prefix = prefix;
    request.prefix_size = FRAME_SHORT_HEADER + message->prefix_size;
    port_forget_unasked(port);
    enum put outcome = give_to_next(port, &request, account, &port->partner);
    if (port->partner && !port->partner->attached)
        port->partner = NULL; /* it has turned out that it has left */
    port->engaged = port->partner;
    return outcome;
}

enum put port_put(struct port *port, const struct message *message, struct account *account)
{
    struct peer *given;

    switch (port->type) {
    case TYPE_PUSH:
    case TYPE_DEALER:
        return give_to_next(port, message, account, &given);
    case TYPE_ROUTER:
        return route(port, message, account);
    case TYPE_REP:
        return answer(port, message, account);
    case TYPE_REQ:
        return ask(port, message, account);
    case TYPE_PUB:
    case TYPE_XPUB:
        return publish_put(port, message, account);
    case TYPE_XSUB:
        return subscribe_put(port, message, account);
    default:
        return PUT_UNROUTABLE;
    }
}

uint64_t port_run_max(const struct port *port)
{
    uint64_t most = port->options.sndhwm ? (uint64_t) port->options.sndhwm : UINT64_MAX;

    if (port->type == TYPE_PUB || port->type == TYPE_XPUB)
        return port->options.xpub_nodrop ? 1 : most;
    if (port->type != TYPE_PUSH && port->type != TYPE_DEALER)
        return 1;
    if (!turns_has_one(&port->turns))
        return 1;
    const struct peer *peer = turns_next(&port->turns);
    return peer->out.messages < most ? most - peer->out.messages : 1;
}

bool port_has_room_for_any(const struct port *port)
{
    switch (port->type) {
    case TYPE_PUSH:
    case TYPE_DEALER:
        return turns_next(&port->turns);
    case TYPE_REQ:
        return !port->engaged && turns_next(&port->turns);
    case TYPE_ROUTER:
        return !port->awaited || peer_has_room(port->awaited);
    case TYPE_XPUB:
    case TYPE_PUB:
        return !port->awaited || peer_has_room(port->awaited);
    default:
        return true;
    }
}

void port_flush(struct port *port)
{
    if (link_is_in(&port->unwritten))
        link_remove(&port->unwritten);
    while (!list_is_empty(&port->dirty))
        peer_flush(LISTED(port->dirty.next, struct peer, dirty_link));
}

void wire_flush(struct wire *wire)
{
    while (!list_is_empty(&wire->unwritten))
        port_flush(LISTED(wire->unwritten.next, struct port, unwritten));
}

uint64_t port_held(const struct port *port)
{
    uint64_t held = port->orphans.messages;

    for (const struct link *link = port->peers.next; link != &port->peers; link = link->next)
        held += LISTED(link, struct peer, all)->out.messages;
    return held;
}
