/* What comes from a peer: reading, the handshake, commands, and where messages end. */
#include "wire.h"

#include "frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    COMMAND_MAX = 8 << 10,
    PING_CONTEXT_MAX = 16,
    REMAINDER_MOVES_BELOW = SLAB_SMALL / 2,
    GROWS_TIMES = 4,
    RESERVES_TIMES = 16,      /* for a frame whose size is announced, so many times of what has come is reserved, */
    RESERVES_BYTES = 4 << 20, /* up to so much */
};

void peer_is_readable(struct peer *peer)
{
    peer->readable = true;
    list_include(&peer->port->readable, &peer->readable_link);
}

void peer_drop_input(struct peer *peer)
{
    if (peer->in)
        slab_release(peer->in);
    peer->in = NULL;
    peer->start = peer->end = peer->scanned = peer->ready_end = peer->gap = peer->looked = 0;
}

/* Move what has come of a message into a slab with room for `capacity` bytes. */
static bool move_input(struct peer *peer, size_t capacity)
{
    size_t scanned = peer->scanned - peer->start, count = peer->end - peer->start - peer->gap;
    struct slab *slab = slab_new(&peer->port->wire->pool, capacity);

    if (!slab)
        return false;
    if (peer->in) {
        memcpy(slab->bytes, peer->in->bytes + peer->start, scanned);
        memcpy(slab->bytes + scanned, peer->in->bytes + peer->scanned + peer->gap, count - scanned);
        slab_release(peer->in);
    }
    peer->in = slab;
    peer->looked = peer->looked > peer->scanned + peer->gap ? peer->looked - peer->start - peer->gap : 0;
    peer->scanned = scanned;
    peer->ready_end -= peer->start;
    peer->start = peer->gap = 0;
    peer->end = count;
    return true;
}

/* Make room for the next read of `most` bytes, or of a quarter of a slab. A message that is not complete is kept in one
 * slab. This grows with what has come, and not with what a peer has announced. */
static bool make_room(struct peer *peer, size_t most)
{
    size_t count = peer->end - peer->start - peer->gap, capacity = most < SLAB_LARGE ? count + most : SLAB_LARGE;

    if (peer->in && peer->in->capacity - peer->end >= (most < SLAB_LARGE / 4 ? most : SLAB_LARGE / 4))
        return true;
    if (peer->in && peer->missing && peer->in->capacity - peer->scanned - peer->gap >= peer->missing &&
        peer->in->capacity > peer->end)
        return true; /* the frame that is being read will fit */
    if (count > SLAB_LARGE / 2) {
        uint64_t wanted = peer->scanned - peer->start + peer->missing, most = GROWS_TIMES * count;
        if (most < RESERVES_BYTES)
            most = RESERVES_TIMES * count < RESERVES_BYTES ? RESERVES_TIMES * count : RESERVES_BYTES;
        if (!peer->missing)
            capacity = GROWS_TIMES * count;
        else
            capacity = wanted > most ? most : wanted > 2 * count ? wanted : 2 * count;
    }
    return move_input(peer, capacity);
}

/* Let a remainder that waits for more take no more memory than it needs. */
void peer_shrink_input(struct peer *peer)
{
    if (!peer->in)
        return;
    if (peer->start == peer->end)
        peer_drop_input(peer);
    else if (peer->in->capacity >= SLAB_LARGE && peer->end - peer->start < REMAINDER_MOVES_BELOW)
        move_input(peer, SLAB_SMALL); /* if there is no memory, it stays where it is */
}

/* Nothing is read while an authenticator decides. Return the reason if the peer has sent more than it may before that: with
 * PLAIN nothing, and with NULL its READY. */
static enum reason begin_asking(struct peer *peer)
{
    size_t count = peer->end - peer->start;

    if (peer->leaves)
        return REASON_LEFT;
    if (peer->port->options.mechanism ? count : count >= REMAINDER_MOVES_BELOW)
        return REASON_BAD_COMMAND;
    peer_begin_asking(peer);
    peer_shrink_input(peer);
    return NO_REASON;
}

bool peer_shake_hands(struct peer *peer)
{
    struct handshake *handshake = peer->handshake;

    if (peer->in)
        peer->start += handshake_fed(handshake, peer->in->bytes + peer->start, peer->end - peer->start);
    peer->scanned = peer->ready_end = peer->start;
    enum reason reason = handshake->failed;
    bool done = handshake->stage == STAGE_DONE, asks = handshake->stage == STAGE_ASKING;
    peer_send_greeting(peer); /* if there is no memory, this ends the connection */
    if (!reason && asks && peer->descriptor >= 0)
        reason = begin_asking(peer);
    if (!reason && done && peer->descriptor >= 0) {
        peer->minor = handshake->minor;
        reason = port_attach(peer->port, peer);
        if (!reason) {
            free(handshake);
            peer->handshake = NULL;
            peer->port->handshakes--;
            peer_set_heartbeat(peer);
            peer_note_unread(peer); /* messages may have come with the end of the handshake */
            if (peer->leaves)
                peer_leave(peer);
        }
    }
    if (reason == REASON_MECHANISM)
        peer_flush(peer); /* so that the peer can see which mechanism is expected */
    if (reason)
        peer_end(peer, reason);
    return done || peer->descriptor < 0;
}

bool peer_read(struct peer *peer, size_t most)
{
    if (peer->descriptor < 0 || peer_is_asking(peer)) {
        peer->readable = false;
        return false;
    }
    if (!make_room(peer, most)) {
        peer_end(peer, REASON_NO_MEMORY);
        return true;
    }
    size_t room = peer->in->capacity - peer->end, asked = room < most ? room : most;
    ssize_t count = peer->port->calls->read(peer, peer->in->bytes + peer->end, asked);
    if (count > 0) {
        /* Less than was asked for: nothing is left, and what comes later is told (epoll(7), EPOLLET). The end of the stream
         * was told already if the peer has left, and is read then. */
        peer->readable = (size_t) count == asked || peer->leaves;
        peer->end += (size_t) count;
        peer->port->may_read -= count;
        peer->heard_s = peer->port->wire->now_s;
        if (peer->handshake)
            return peer_shake_hands(peer);
        peer_note_unread(peer);
        return true;
    }
    if (count == -EAGAIN) {
        peer->readable = false;
        peer_shrink_input(peer);
        return false;
    }
    peer_end(peer, count ? REASON_BROKEN : REASON_LEFT);
    return true;
}

static void on_ping(struct peer *peer, const uint8_t *body, size_t size)
{
    uint8_t pong[FRAME_SHORT_HEADER + 5 + PING_CONTEXT_MAX];
    size_t context = size - 7;

    peer->ttl_s = (body[5] << 8 | body[6]) / 10.0;
    peer_set_heartbeat(peer);
    if (peer->out.bytes >= PEER_QUEUE_BYTES)
        return; /* it does not read what was sent to it: it needs no answer, and may not fill the memory with them */
    frame_write_header(pong, FRAME_COMMAND, 5 + context);
    memcpy(pong + FRAME_SHORT_HEADER, "\4PONG", 5);
    memcpy(pong + FRAME_SHORT_HEADER + 5, body + 7, context);
    peer_enqueue_bytes(peer, pong, FRAME_SHORT_HEADER + 5 + context);
}

/* True if this is the command. Its name has its length in front, as on the wire. */
static bool is_command(const char *name, const uint8_t *body, size_t size)
{
    size_t name_size = 1 + (size_t) name[0];

    return size >= name_size && !memcmp(body, name, name_size);
}

static bool is_ping(const uint8_t *body, size_t size)
{
    return is_command("\4PING", body, size) && size >= 7 && size <= 7 + PING_CONTEXT_MAX;
}

/* Those that are unknown are ignored, as RFC 37 and libzmq do. */
static enum reason on_command(struct peer *peer, const uint8_t *body, size_t size)
{
    if (!size || !body[0] || 1 + (size_t) body[0] > size)
        return REASON_BAD_COMMAND;
    if (is_command("\4PING", body, size)) {
        if (!is_ping(body, size))
            return REASON_BAD_COMMAND;
        on_ping(peer, body, size);
    } else if (is_command("\11SUBSCRIBE", body, size)) {
        return publish_on_subscription(peer->port, peer, true, body + 10, size - 10);
    } else if (is_command("\6CANCEL", body, size)) {
        return publish_on_subscription(peer->port, peer, false, body + 7, size - 7);
    } else if (is_command("\5ERROR", body, size)) {
        return REASON_REFUSED;
    } else if (is_command("\5READY", body, size)) {
        return REASON_BAD_COMMAND;
    }
    return NO_REASON;
}

void peer_note_unread(struct peer *peer)
{
    struct wire *wire = peer->port->wire;

    if (list_is_empty(&wire->unread))
        wire->look_s = wire->now_s + LOOK_AFTER_S;
    list_include(&wire->unread, &peer->unread_link);
}

/* Answer the PINGs behind messages that nobody takes now, and take them out of what has come. */
static void look_ahead(struct peer *peer)
{
    while (peer->readable && peer->end - peer->start < LOOK_AHEAD_BYTES)
        peer_read(peer, LOOK_AHEAD_BYTES - (peer->end - peer->start));
    size_t at = peer->looked > peer->scanned + peer->gap ? peer->looked : peer->scanned + peer->gap;
    while (peer->descriptor >= 0 && peer->in) {
        uint8_t *bytes = peer->in->bytes + at;
        unsigned flags;
        uint64_t length;
        int header = frame_header(bytes, peer->end - at, &flags, &length);
        if (header <= 0 || peer->end - at - (size_t) header < length)
            break; /* if it is malformed, that is found out when the port is read */
        size_t size = (size_t) header + length;
        if (!(flags & FRAME_COMMAND) || !is_ping(bytes + header, length)) {
            at += size;
            continue;
        }
        on_ping(peer, bytes + header, length);
        peer->end -= size;
        memmove(bytes, bytes + size, peer->end - at);
    }
    peer->looked = at;
    if (peer->start == peer->end)
        peer_drop_input(peer);
    peer_flush(peer);
}

void wire_look_ahead(struct wire *wire)
{
    struct link unread;

    if (list_is_empty(&wire->unread) || wire->now_s < wire->look_s)
        return;
    link_init(&unread);
    list_append(&wire->unread, &unread); /* those that come behind it meanwhile have their turn the next time */
    while (wire->unread.next != &unread) {
        struct peer *peer = LISTED(wire->unread.next, struct peer, unread_link);
        link_remove(&peer->unread_link);
        look_ahead(peer);
    }
    link_remove(&unread);
    wire->look_s = wire->now_s + LOOK_AFTER_S;
}

/* Forget the gap, if there is nothing in front of it. */
static void close_gap(struct peer *peer)
{
    if (peer->start != peer->scanned)
        return;
    peer->scanned += peer->gap;
    peer->start = peer->ready_end = peer->scanned;
    peer->gap = 0;
}

/* Count the frames up to `scanned`, which are part of a message that is dropped, and forget them. */
static void discard_scanned(struct peer *peer)
{
    amount_add(&peer->port->discarded, peer->message);
    peer->message = (struct amount){0};
    peer->deficit -= (int64_t) (peer->scanned - peer->start);
    peer->start = peer->ready_end = peer->scanned;
    close_gap(peer);
}

enum parsed peer_parse(struct peer *peer)
{
    const struct options *options = &peer->port->options;
    enum reason reason = NO_REASON;

    peer->missing = 0;
    while (peer->in && !reason) {
        const uint8_t *at = peer->in->bytes + peer->scanned + peer->gap;
        size_t count = peer->end - peer->scanned - peer->gap;
        unsigned flags;
        uint64_t length;
        int header = frame_header(at, count, &flags, &length);

        if (header == 0)
            break;
        if (header < 0) {
            reason = REASON_BAD_FRAME;
            break;
        }
        if (flags & FRAME_COMMAND ? length > COMMAND_MAX && length > options->subscription_max_bytes + 16
                                  : options->maxmsgsize >= 0 && length > (uint64_t) options->maxmsgsize) {
            reason = REASON_LARGE_FRAME;
            break;
        }
        size_t size = (size_t) header + length;
        if (count < size) {
            peer->missing = size;
            break;
        }
        if (flags & FRAME_COMMAND) {
            reason = on_command(peer, at + header, length);
            peer->deficit -= (int64_t) size;
            peer->gap += size; /* it may stand between two frames of a message, and the next one is moved then */
            close_gap(peer);
            continue;
        }
        bool is_too_long = !peer->discarding && peer->message.frames + 1 + (peer->prefix_size != 0) + (flags & FRAME_MORE) >
                                                    options->maxframes;
        if (is_too_long && peer->ready.messages)
            return PARSED_NOTHING; /* those before it come first */
        if (peer->gap)
            memmove(peer->in->bytes + peer->scanned, at, size);
        peer->scanned += size;
        peer->message.frames++;
        peer->message.bytes += length;
        if (peer->discarding) {
            peer->discarding = flags & FRAME_MORE;
            discard_scanned(peer);
        } else if (is_too_long) {
            peer->discarding = flags & FRAME_MORE;
            discard_scanned(peer);
            return PARSED_TOO_LONG;
        } else if (!(flags & FRAME_MORE)) {
            peer->message.messages = 1;
            amount_add(&peer->ready, peer->message);
            peer->message = (struct amount){0};
            peer->ready_end = peer->scanned;
            return PARSED_MESSAGE;
        }
    }
    if (link_is_in(&peer->unread_link))
        link_remove(&peer->unread_link); /* all commands that have come were found */
    if (reason) {
        peer_end(peer, reason);
        /* What comes before can still be taken. */
        peer->end = peer->scanned = peer->ready_end;
        peer->gap = 0;
        peer->message = (struct amount){0};
    }
    return PARSED_NOTHING;
}

void peer_unready(struct peer *peer, size_t end, struct amount before)
{
    amount_add(&peer->received, (struct amount){.messages = 1});
    peer->deficit -= (int64_t) (peer->ready_end - end);
    peer->gap += peer->ready_end - end;
    peer->ready_end = peer->scanned = end;
    peer->ready = before;
}

void peer_consume(struct peer *peer)
{
    amount_add(&peer->received, peer->ready);
    peer->deficit -= (int64_t) (peer->ready_end - peer->start);
    peer->ready = (struct amount){0};
    peer->start = peer->ready_end;
    close_gap(peer);
    if (peer->start == peer->end)
        peer_drop_input(peer);
}
