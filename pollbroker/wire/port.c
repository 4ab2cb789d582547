#include "wire.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

enum { GENERATED_ID_SIZE = 5, RUN_MAX_BYTES = 64 << 10, UNREAD_MAX_BYTES = 64 << 20 };

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
        .subscriptions_max = 100000,
        .subscription_max_bytes = 4096,
    };
}

void wire_init(struct wire *wire)
{
    *wire = (struct wire){0};
    link_init(&wire->changed);
    link_init(&wire->dead);
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
    link_init(&port->peers);
    link_init(&port->readable);
    link_init(&port->roomy);
    link_init(&port->dirty);
    wire->ports_alive++;
}

void port_end(struct port *port)
{
    port->ended = true;
    while (!list_is_empty(&port->peers)) {
        struct peer *peer = LISTED(port->peers.next, struct peer, all);
        queue_settle(&peer->out);
        queue_forget(&peer->out); /* what is held stays so in the account */
        peer_end(peer, REASON_CLOSED);
        peer_forget(peer);
    }
    queue_forget(&port->orphans);
    queue_forget(&port->subscriptions);
    map_free(&port->ids);
    prefixes_free(&port->topics.prefixes);
    map_free(&port->topics.subscriptions);
    prefixes_free(&port->prefixes);
    free(port->matched);
    if (port->envelope)
        slab_release(port->envelope);
    if (link_is_in(&port->changed))
        link_remove(&port->changed);
    port->wire->ports_alive--;
}

void port_note(struct port *port, unsigned news)
{
    port->news |= news;
    if (!port->ended)
        list_include(&port->wire->changed, &port->changed);
}

/* -- peers come and go ---------------------------------------------------------------------------------------------- */

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
    if (!(peer->prefix = malloc(FRAME_SHORT_HEADER + size)))
        return REASON_NO_MEMORY;
    peer->prefix_size = frame_write_header(peer->prefix, FRAME_MORE, size) + size;
    memcpy(peer->prefix + FRAME_SHORT_HEADER, id, size);
    peer->id = (struct key){.hash = map_hash(id, size), .bytes = peer->prefix + FRAME_SHORT_HEADER, .size = size};
    struct key *known = map_find(&port->ids, id, size, peer->id.hash);
    if (known) {
        if (!port->options.router_handover)
            return REASON_ROUTING_ID;
        peer_end(LISTED(known, struct peer, id), REASON_ROUTING_ID);
    }
    return map_put(&port->ids, &peer->id) ? NO_REASON : REASON_NO_MEMORY;
}

static void give_orphans(struct port *port, struct peer *peer)
{
    if (port->orphans.first) {
        queue_take_over(&peer->out, &port->orphans);
        list_include(&port->dirty, &peer->dirty_link);
        port_note(port, NEWS_ROOM); /* so that somebody writes them */
        if (link_is_in(&peer->roomy_link) && !peer_has_room(peer))
            link_remove(&peer->roomy_link);
    }
}

enum reason port_attach(struct port *port, struct peer *peer)
{
    if (port->type == TYPE_ROUTER) {
        enum reason reason = take_routing_id(port, peer);
        if (reason)
            return reason;
    }
    peer->attached = true;
    port->peer_count++;
    peer->deficit = PEER_QUANTUM_BYTES;
    if (port->type == TYPE_PUSH || port->type == TYPE_DEALER || port->type == TYPE_REQ) {
        give_orphans(port, peer);
        if (peer_has_room(peer))
            port_has_room(port, peer);
    } else if (port->type == TYPE_XSUB || port->type == TYPE_SUB) {
        subscribe_attach(port, peer);
        port_note(port, NEWS_ROOM);
    }
    list_include(&port->readable, &peer->readable_link); /* messages may have come with the end of the handshake */
    port_note(port, NEWS_INPUT);
    return NO_REASON;
}

void port_detach(struct port *port, struct peer *peer)
{
    port->peer_count--;
    if (link_is_in(&peer->roomy_link))
        link_remove(&peer->roomy_link);
    switch (port->type) {
    case TYPE_PUSH:
    case TYPE_DEALER:
        queue_take_over(&port->orphans, &peer->out);
        if (!port->ended && !list_is_empty(&port->roomy))
            give_orphans(port, LISTED(port->roomy.next, struct peer, roomy_link));
        break;
    case TYPE_ROUTER:
        map_remove(&port->ids, &peer->id);
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
    bool shares = port->type == TYPE_PUSH || port->type == TYPE_DEALER || port->type == TYPE_REQ;

    if (shares ? !link_is_in(&peer->roomy_link) : port->awaited == peer) {
        if (shares) {
            list_append(&port->roomy, &peer->roomy_link);
            give_orphans(port, peer);
        } else {
            port->awaited = NULL;
        }
        port_note(port, NEWS_ROOM);
    }
}

/* -- messages that have come ---------------------------------------------------------------------------------------- */

bool port_has_input(const struct port *port)
{
    if (port->type == TYPE_REP && port->engaged)
        return false;
    if (port->type == TYPE_REQ && !port->engaged)
        return false;
    return port->subscriptions.first || !list_is_empty(&port->readable);
}

/* The run of what is ready from a peer. */
static void set_run(struct message *message, struct peer *peer)
{
    *message = (struct message){.from = peer};
    message->run = (struct run){peer->in, peer->start, peer->ready_end, peer->ready};
}

/* A REP keeps the envelope, up to the empty frame, and passes on what is behind it. Return false if there is none. */
static bool take_envelope(struct port *port, struct message *message)
{
    struct run *run = &message->run;
    const uint8_t *bytes = run->slab->bytes;
    size_t at = run->start;

    while (at < run->end) {
        unsigned flags = 0;
        uint64_t length = 0;
        int header = frame_header(bytes + at, run->end - at, &flags, &length);
        at += (size_t) header + length;
        if (!(flags & FRAME_MORE))
            return false;
        run->amount.frames--;
        run->amount.bytes -= length;
        if (length)
            continue;
        size_t size = at - run->start;
        if (!port->envelope || port->envelope->capacity < size) {
            struct slab *slab = slab_new(&port->wire->pool, size);
            if (!slab)
                return false;
            if (port->envelope)
                slab_release(port->envelope);
            port->envelope = slab;
        }
        memcpy(port->envelope->bytes, bytes + run->start, size);
        port->envelope_size = size;
        run->start = at;
        return true;
    }
    return false;
}

/* A REQ takes the empty frame away, and accepts a reply only from the peer that it has asked. */
static bool take_delimiter(const struct port *port, struct message *message)
{
    struct run *run = &message->run;
    const uint8_t *at = run->slab->bytes + run->start;

    if (message->from != port->partner || at[0] != FRAME_MORE || at[1] != 0)
        return false;
    run->start += FRAME_SHORT_HEADER;
    run->amount.frames--;
    return true;
}

static bool any_prefix(struct prefix *prefix, void *data)
{
    (void) prefix;
    *(bool *) data = true;
    return false;
}

static bool is_subscribed(const struct port *port, const struct message *message)
{
    const uint8_t *topic;
    size_t size, rest;
    bool found = false;

    message_first(message, &topic, &size, &rest);
    prefixes_of(&port->prefixes, topic, size, any_prefix, &found);
    return found;
}

/* What the type of the port makes of a message that has come. Return false if it is not for the port's owner. */
static bool admit(struct port *port, struct peer *peer, struct message *message)
{
    set_run(message, peer);
    switch (port->type) {
    case TYPE_ROUTER:
        message->prefix = peer->prefix;
        message->prefix_size = peer->prefix_size;
        message->prefix_amount = (struct amount){.frames = 1, .bytes = peer->id.size};
        return true;
    case TYPE_REP:
        return take_envelope(port, message);
    case TYPE_REQ:
        return take_delimiter(port, message);
    case TYPE_SUB:
    case TYPE_XSUB:
        return is_subscribed(port, message);
    case TYPE_PUB:
    case TYPE_XPUB: {
        const uint8_t *body;
        size_t size, rest;
        message_first(message, &body, &size, &rest);
        if (!size || body[0] > 1)
            return port->type == TYPE_XPUB;
        enum reason reason = publish_on_subscription(port, peer, body[0] == 1, body + 1, size - 1);
        if (reason)
            peer_end(peer, reason);
        return false;
    }
    case TYPE_PUSH:
        return false;
    default:
        return true;
    }
}

/* Add the messages that follow in what was read, as long as they are one run of bytes. */
static void lengthen(struct peer *peer, uint64_t most, bool alone)
{
    while (peer->ready.messages < most) {
        size_t taken = peer->ready_end - peer->start;
        if (taken >= RUN_MAX_BYTES || (!alone && (int64_t) taken >= peer->deficit))
            break;
        if (peer_parse(peer) != PARSED_MESSAGE)
            break;
    }
}

enum taken port_take(struct port *port, struct message *message, uint64_t most)
{
    if ((port->type == TYPE_REP && port->engaged) || (port->type == TYPE_REQ && !port->engaged))
        return TAKEN_NOTHING;
    for (;;) {
        if (port->subscriptions.first) {
            *message = (struct message){0};
            queue_first_frame(&port->subscriptions, &message->run);
            return TAKEN_MESSAGE;
        }
        if (list_is_empty(&port->readable))
            return TAKEN_NOTHING;
        struct peer *peer = LISTED(port->readable.next, struct peer, readable_link);
        bool alone = port->readable.previous == &peer->readable_link;
        if (peer->handshake) { /* it is read whenever something comes */
            link_remove(&peer->readable_link);
            continue;
        }
        if (peer->deficit <= 0) { /* the next one's turn */
            peer->deficit = alone ? PEER_QUANTUM_BYTES : peer->deficit + PEER_QUANTUM_BYTES;
            if (!alone) {
                list_move_to_end(&port->readable, &peer->readable_link);
                continue;
            }
        }
        enum parsed parsed = peer->ready.messages ? PARSED_MESSAGE : peer_parse(peer);
        if (parsed == PARSED_TOO_LONG)
            return TAKEN_TOO_LONG;
        if (parsed == PARSED_MESSAGE) {
            peer->read_in_vain = false;
            if (most > 1 && (port->type == TYPE_PULL || port->type == TYPE_DEALER))
                lengthen(peer, most, alone);
            if (admit(port, peer, message))
                return TAKEN_MESSAGE;
            peer_consume(peer);
        } else if (peer->descriptor < 0) {
            peer_forget(peer);
        } else if (!peer->readable) {
            link_remove(&peer->readable_link);
        } else {
            if (peer->read_in_vain && !alone) {
                peer->read_in_vain = false;
                list_move_to_end(&port->readable, &peer->readable_link);
                continue;
            }
            if (port->may_read <= 0)
                return TAKEN_LATER;
            peer->read_in_vain = true;
            peer_read(peer);
        }
    }
}

void port_consume(struct port *port, struct message *message)
{
    if (!message->from) {
        queue_remove_frame(&port->subscriptions, &message->run);
        return;
    }
    peer_consume(message->from);
    if (port->type == TYPE_REP) {
        port->engaged = !port->answered;
        port->partner = port->engaged && message->from->attached ? message->from : NULL;
        port->answered = false;
    } else if (port->type == TYPE_REQ) {
        port->engaged = false;
        port->partner = NULL;
        port_note(port, NEWS_ROOM);
    }
}

uint64_t port_count_unread(struct port *port, uint64_t most)
{
    struct message message;
    uint64_t count = 0;

    port->may_read = UNREAD_MAX_BYTES;
    while (count < most) {
        enum taken taken = port_take(port, &message, most - count);
        if (taken == TAKEN_NOTHING || taken == TAKEN_LATER)
            break;
        count += taken == TAKEN_MESSAGE ? message.run.amount.messages : 1;
        if (taken == TAKEN_MESSAGE) {
            if (message.from)
                peer_consume(message.from);
            else
                port_consume(port, &message);
        }
    }
    return count;
}

/* -- messages that go ----------------------------------------------------------------------------------------------- */

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

/* A peer was given a message: it may be full now, and the next one is another's. */
static void after_giving(struct port *port, struct peer *peer)
{
    if (!peer_has_room(peer) && !peer->blocked)
        peer_flush(peer);
    if (!link_is_in(&peer->roomy_link))
        return; /* its connection is over */
    if (!peer_has_room(peer))
        link_remove(&peer->roomy_link);
    else if (port->roomy.previous != port->roomy.next)
        list_move_to_end(&port->roomy, &peer->roomy_link);
}

static enum put give_to_next(struct port *port, const struct message *message, struct account *account, struct peer **given)
{
    while (!list_is_empty(&port->roomy)) {
        struct peer *peer = LISTED(port->roomy.next, struct peer, roomy_link);
        if (peer_enqueue(peer, message, account)) {
            *given = peer;
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
    struct peer *peer = LISTED(known, struct peer, id);
    if (!peer_has_room(peer) && !peer->blocked)
        peer_flush(peer);
    if (!peer->attached)
        return PUT_UNROUTABLE;
    if (!peer_has_room(peer)) {
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
    if (peer && !peer_has_room(peer) && !peer->blocked)
        peer_flush(peer);
    if (peer && peer->attached && !peer_has_room(peer))
        outcome = PUT_SLOW_PEER; /* it asks without reading the replies, and may not fill the memory with them */
    else if (peer && peer->attached && peer_enqueue(peer, &reply, account))
        outcome = PUT_ACCEPTED;
    slab_release(start);
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
    if (port->type != TYPE_PUSH && port->type != TYPE_DEALER)
        return 1;
    if (list_is_empty(&port->roomy) || port->roomy.next != port->roomy.previous)
        return 1;
    const struct peer *peer = LISTED(port->roomy.next, struct peer, roomy_link);
    uint64_t most = port->options.sndhwm ? (uint64_t) port->options.sndhwm : UINT64_MAX;
    return peer->out.messages < most ? most - peer->out.messages : 1;
}

bool port_has_room_for_any(const struct port *port)
{
    switch (port->type) {
    case TYPE_PUSH:
    case TYPE_DEALER:
        return !list_is_empty(&port->roomy);
    case TYPE_REQ:
        return !port->engaged && !list_is_empty(&port->roomy);
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
    while (!list_is_empty(&port->dirty))
        peer_flush(LISTED(port->dirty.next, struct peer, dirty_link));
}

uint64_t port_held(const struct port *port)
{
    uint64_t held = port->orphans.messages;

    for (const struct link *link = port->peers.next; link != &port->peers; link = link->next)
        held += LISTED(link, struct peer, all)->out.messages;
    return held;
}
