/* What the types of sockets do with messages that have come. */
#include "publish.h"

#include "frame.h"

#include <string.h>

enum { RUN_MAX_BYTES = 64 << 10, READ_MAX_BYTES = 256 << 10, UNREAD_MAX_BYTES = 64 << 20 };

bool port_has_input(const struct port *port)
{
    if (port->type == TYPE_REP && port->engaged)
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
            if (!slab) {
                peer_end(message->from, REASON_NO_MEMORY); /* so that it learns that nobody will answer */
                return false;
            }
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

/* A REQ takes the empty frame away, and accepts a reply only from the peer that it has asked. What others send, or somebody
 * who is not asked now, is forgotten. */
static bool take_delimiter(const struct port *port, struct message *message)
{
    struct run *run = &message->run;
    unsigned flags = 0;
    uint64_t length = 0;
    int header = frame_header(run->slab->bytes + run->start, run->end - run->start, &flags, &length);

    if (message->from != port->partner || length || !(flags & FRAME_MORE))
        return false;
    run->start += (size_t) header;
    run->amount.frames--;
    return true;
}

static bool any_prefix(struct prefix *prefix, void *data)
{
    (void) prefix;
    *(bool *) data = true;
    return false;
}

/* True if this port has subscribed to the message that begins here. */
static bool is_subscribed(const struct port *port, const uint8_t *bytes, size_t count)
{
    unsigned flags;
    uint64_t size = 0;
    bool found = prefixes_have_empty(&port->prefixes);

    if (!found) {
        int header = frame_header(bytes, count, &flags, &size);
        prefixes_of(&port->prefixes, bytes + header, size, any_prefix, &found);
    }
    return found;
}

/* Each frame of a subscriber's message may be a subscription or the end of one. What else such a message has is dropped. */
static void obey_subscriptions(struct port *port, struct peer *peer, const struct run *run)
{
    enum reason reason = NO_REASON;

    for (size_t at = run->start; at < run->end && !reason;) {
        const uint8_t *bytes = run->slab->bytes + at;
        unsigned flags;
        uint64_t size = 0;
        int header = frame_header(bytes, run->end - at, &flags, &size);
        const uint8_t *body = bytes + header;
        if (size && body[0] <= 1)
            reason = publish_on_subscription(port, peer, body[0] == 1, body + 1, size - 1);
        port->may_read -= PASSED_OVER_BYTES;
        at += (size_t) header + size;
    }
    if (reason)
        peer_end(peer, reason);
}

/* What the type of the port makes of a message that has come. Return false if it is not for the port's owner. */
static bool admit(struct port *port, struct peer *peer, struct message *message)
{
    set_run(message, peer);
    switch (port->type) {
    case TYPE_ROUTER:
        message->prefix = peer->routed.prefix;
        message->prefix_size = FRAME_SHORT_HEADER + peer->routed.id.size;
        message->prefix_amount = (struct amount){.frames = 1, .bytes = peer->routed.id.size};
        return true;
    case TYPE_REP:
        return take_envelope(port, message);
    case TYPE_REQ:
        return take_delimiter(port, message);
    case TYPE_SUB:
    case TYPE_XSUB:
        return is_subscribed(port, peer->in->bytes + peer->start, peer->ready_end - peer->start);
    case TYPE_PUB:
    case TYPE_XPUB: {
        const uint8_t *body;
        size_t size, rest;
        message_first(message, &body, &size, &rest);
        if (!size || body[0] > 1)
            return port->type == TYPE_XPUB && !port->nobody_takes;
        obey_subscriptions(port, peer, &message->run);
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
    const struct port *port = peer->port;
    bool chooses = (port->type == TYPE_XSUB || port->type == TYPE_SUB) && !prefixes_have_empty(&port->prefixes);

    while (peer->ready.messages < most) {
        size_t taken = peer->ready_end - peer->start;
        struct amount before = peer->ready;
        if (taken >= RUN_MAX_BYTES || (!alone && (int64_t) taken >= peer->deficit))
            break;
        if (peer_parse(peer) != PARSED_MESSAGE)
            break;
        if (chooses && !is_subscribed(port, peer->in->bytes + peer->start + taken, peer->ready_end - peer->start - taken)) {
            peer_unready(peer, peer->start + taken, before);
            if (port->may_read <= 0)
                break; /* it has passed over many */
        }
    }
}

/* True if the bytes of several messages can be passed on together. */
static bool makes_runs(const struct port *port)
{
    return port->type == TYPE_PULL || port->type == TYPE_DEALER || port->type == TYPE_SUB || port->type == TYPE_XSUB;
}

/* A peer has answered what it was sent, or as much of it. */
static void note_answers(struct port *port, struct peer *peer, uint64_t answers)
{
    if (port_shares(port)) {
        struct sharer *sharer = &peer->sharer;
        sharer->outstanding -= answers < sharer->outstanding ? answers : sharer->outstanding;
        turns_weigh(&port->turns, peer);
    }
    if (port->type == TYPE_REQ && port->partner == peer) {
        port->engaged = false;
        port->partner = NULL;
        port_note(port, NEWS_ROOM);
    }
}

enum taken port_take(struct port *port, struct message *message, uint64_t most)
{
    if (port->type == TYPE_REP && port->engaged)
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
        if (parsed == PARSED_TOO_LONG) {
            note_answers(port, peer, 1);
            return TAKEN_TOO_LONG;
        }
        if (parsed == PARSED_MESSAGE) {
            peer->read_in_vain = false;
            bool admitted = admit(port, peer, message);
            if (admitted && most > 1 && makes_runs(port)) {
                lengthen(peer, most, alone);
                set_run(message, peer);
            }
            if (admitted)
                return TAKEN_MESSAGE;
            peer_consume(peer);
            port->may_read -= PASSED_OVER_BYTES;
            if (port->may_read <= 0)
                return TAKEN_LATER;
        } else if (peer->descriptor < 0) {
            peer_forget(peer);
        } else if (!peer->readable) {
            link_remove(&peer->readable_link);
            peer_shrink_input(peer);
        } else {
            if (peer->read_in_vain && !alone) {
                peer->read_in_vain = false;
                list_move_to_end(&port->readable, &peer->readable_link);
                continue;
            }
            if (port->may_read <= 0)
                return TAKEN_LATER;
            peer->read_in_vain = true;
            peer_read(peer, READ_MAX_BYTES);
        }
    }
}

void port_consume(struct port *port, struct message *message)
{
    if (!message->from) {
        queue_remove_frame(&port->subscriptions, &message->run);
        return;
    }
    struct peer *peer = message->from;
    uint64_t answers = message->run.amount.messages;
    peer_consume(peer);
    note_answers(port, peer, answers);
    if (port->type == TYPE_REP) {
        port->engaged = !port->answered;
        port->partner = port->engaged && peer->attached ? peer : NULL;
        port->answered = false;
    }
}

void port_forget_unasked(struct port *port)
{
    struct amount discarded = port->discarded;
    struct message message;

    port->may_read = READ_MAX_BYTES;
    while (port_take(port, &message, 1) == TAKEN_TOO_LONG)
        ;
    port->discarded = discarded; /* no flow has received it */
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
