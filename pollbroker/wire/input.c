/* What comes from a peer: reading, the handshake, commands, and where messages end. */
#include "wire.h"

#include "frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    COMMAND_MAX = 8 << 10,
    REMAINDER_MOVES_BELOW = SLAB_SMALL / 2,
    GROWS_TIMES = 4,
    RESERVES_TIMES = 16,        /* for a frame whose size is announced, so many times of what has come is reserved, */
    RESERVES_BYTES = 4 << 20,   /* up to so much */
    LONG_FROM = SLAB_LARGE / 2, /* messages of so many bytes have slabs of their own */
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

/* How many bytes may be reserved for a frame whose size is announced, when `count` bytes of its message have come. */
static size_t most_reserved(size_t count)
{
    size_t most = RESERVES_TIMES * count < RESERVES_BYTES ? RESERVES_TIMES * count : RESERVES_BYTES;

    return most > GROWS_TIMES * count ? most : GROWS_TIMES * count;
}

/* Make room for the next read of `most` bytes, or of a quarter of a slab. A message that is not complete is kept in one
 * slab. This grows with what has come, and not with what a peer has announced. */
static bool make_room(struct peer *peer, size_t most)
{
    size_t count = peer->end - peer->start - peer->gap, room = peer->in ? peer->in->capacity - peer->end : 0;
    size_t capacity = most < SLAB_LARGE ? count + most : SLAB_LARGE;
    bool is_long = count >= LONG_FROM, is_enough = room >= (most < SLAB_LARGE / 4 ? most : SLAB_LARGE / 4);
    uint64_t wanted = peer->scanned - peer->start + peer->missing;

    if (!count && peer->expects > room && most >= SLAB_LARGE)
        return move_input(peer, peer->expects > SLAB_LARGE ? peer->expects : SLAB_LARGE);
    if (peer->missing && room && peer->in->capacity - peer->scanned - peer->gap >= peer->missing)
        return true; /* the frame that is being read will fit */
    if (peer->missing && is_long && wanted <= most_reserved(count))
        return move_input(peer, wanted > 2 * count ? wanted : 2 * count); /* now, while little of it has to be moved */
    if (is_enough)
        return true;
    if (is_long)
        capacity = peer->missing ? most_reserved(count) : GROWS_TIMES * count;
    return move_input(peer, capacity);
}

/* How much of that room to ask the stream for. A read ends where a long message ends, as far as is known, so that the
 * beginning of the next one need not be moved to a slab of its own. */
static size_t ask_for(const struct peer *peer, size_t most)
{
    size_t room = peer->in->capacity - peer->end, asked = room < most ? room : most;
    uint64_t rest = 0;

    if (peer->start == peer->end)
        rest = peer->expects;
    else if (peer->missing >= LONG_FROM)
        rest = peer->scanned + peer->gap + peer->missing - peer->end;
    return rest && rest < asked ? rest : asked;
}

/* Let a remainder that waits for more take no more memory than it needs. */
void peer_shrink_input(struct peer *peer)
{
    size_t count = peer->end - peer->start - peer->gap, capacity;

    if (!peer->in)
        return;
    if (peer->start == peer->end) {
        peer_drop_input(peer);
        return;
    }
    capacity = peer->in->capacity;
    if (count < REMAINDER_MOVES_BELOW)
        capacity = SLAB_SMALL;
    else if (count <= SLAB_MIDDLE)
        capacity = SLAB_MIDDLE;
    else if (count < LONG_FROM && capacity > SLAB_LARGE)
        capacity = SLAB_LARGE; /* it was made for a message as long as the one before */
    if (capacity < peer->in->capacity)
        move_input(peer, capacity); /* if there is no memory, it stays where it is */
}

/* Nothing is read while an authenticator decides. Return the reason if the peer has sent more than it may before that: with
 * PLAIN nothing, and with NULL its READY. */
static enum reason begin_asking(struct peer *peer)
{
    size_t count = peer->end - peer->start;

    if (peer->leaves)
        return REASON_LEFT;
    if (count > (peer->port->options.mechanism ? 0 : FRAME_LONG_HEADER + READY_MAX_BYTES))
        return REASON_BAD_COMMAND;
    if (!peer_begin_asking(peer))
        return REASON_NO_MEMORY;
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
            if (peer->port->calls->connected)
                peer->port->calls->connected(peer);
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
    size_t asked = ask_for(peer, most);
    ssize_t count = peer->port->calls->read(peer, peer->in->bytes + peer->end, asked);
    if (count > 0) {
        /* Less than was asked for: nothing is left, and what comes later is told (epoll(7), EPOLLET). The end of the stream
         * was told already if the peer has left, and is read then. */
        peer->readable = (size_t) count == asked || peer->leaves;
        peer->end += (size_t) count;
        peer->port->may_read -= count;
        peer_note_heard(peer);
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
            reason = peer_obey(peer, at + header, length);
            peer->port->may_read -= PASSED_OVER_BYTES;
            peer->deficit -= (int64_t) size;
            peer->gap += size; /* it may stand between two frames of a message, and the next one is moved then */
            close_gap(peer);
            continue;
        }
        bool is_too_long = !peer->discarding && peer->message.frames + 1 + port_routes(peer->port) + (flags & FRAME_MORE) >
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
    peer->received++;
    peer->port->may_read -= PASSED_OVER_BYTES;
    peer->deficit -= (int64_t) (peer->ready_end - end);
    peer->gap += peer->ready_end - end;
    peer->ready_end = peer->scanned = end;
    peer->ready = before;
}

void peer_consume(struct peer *peer)
{
    size_t size = peer->ready_end - peer->start;

    peer->received += peer->ready.messages;
    peer->expects = peer->ready.messages == 1 && size >= LONG_FROM && size <= RESERVES_BYTES ? (uint32_t) size : 0;
    peer->deficit -= (int64_t) size;
    peer->ready = (struct amount){0};
    peer->start = peer->ready_end;
    close_gap(peer);
    if (peer->start == peer->end)
        peer_drop_input(peer);
}
