#include "wire.h"

#include "frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PIECES = 64, COMMAND_MAX = 8 << 10, PING_CONTEXT_MAX = 16, REMAINDER_MOVES_BELOW = SLAB_SMALL / 2 };

static void send_greeting(struct peer *peer)
{
    size_t size = peer->handshake->out_size;

    peer->handshake->out_size = 0;
    if (size)
        peer_enqueue_bytes(peer, peer->handshake->out, size);
}

struct peer *peer_new(struct port *port, int descriptor, void *owner)
{
    struct peer *peer = calloc(1, sizeof *peer);

    if (!peer)
        return NULL;
    if (!(peer->handshake = malloc(sizeof *peer->handshake))) {
        free(peer);
        return NULL;
    }
    peer->port = port;
    peer->descriptor = descriptor;
    peer->owner = owner;
    peer->since_s = peer->heard_s = port->wire->now_s;
    link_init(&peer->all);
    link_init(&peer->readable_link);
    link_init(&peer->roomy_link);
    link_init(&peer->dirty_link);
    link_init(&peer->subscriptions);
    handshake_begin(peer->handshake, port->type, &port->options);
    if (port->options.handshake_ivl) {
        peer->deadline_s = port->wire->now_s + port->options.handshake_ivl / 1000.0;
        port->calls->set_deadline(peer);
    }
    list_append(&port->peers, &peer->all);
    port->wire->peers_alive++;
    send_greeting(peer);
    return peer;
}

/* -- what comes ---------------------------------------------------------------------------------------------------- */

void peer_is_readable(struct peer *peer)
{
    peer->readable = true;
    list_include(&peer->port->readable, &peer->readable_link);
}

static void drop_input(struct peer *peer)
{
    if (peer->in)
        slab_release(peer->in);
    peer->in = NULL;
    peer->start = peer->end = peer->scanned = peer->ready_end = peer->gap = 0;
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
    peer->scanned = scanned;
    peer->ready_end -= peer->start;
    peer->start = peer->gap = 0;
    peer->end = count;
    return true;
}

/* Make room for the next read. A message that is not complete is kept in one slab. This grows with what has come, and not
 * with what a peer has announced. */
static bool make_room(struct peer *peer)
{
    size_t count = peer->end - peer->start - peer->gap, capacity = SLAB_LARGE;

    if (peer->in && peer->in->capacity - peer->end >= SLAB_LARGE / 4)
        return true;
    if (peer->in && peer->missing && peer->in->capacity - peer->scanned - peer->gap >= peer->missing &&
        peer->in->capacity > peer->end)
        return true; /* the frame that is being read will fit */
    if (count > SLAB_LARGE / 2) {
        size_t wanted = (peer->scanned - peer->start) + peer->missing;
        capacity = 4 * count;
        if (peer->missing && wanted > count && wanted < capacity)
            capacity = wanted;
    }
    return move_input(peer, capacity);
}

static void set_heartbeat(struct peer *peer);

static bool shake_hands(struct peer *peer)
{
    struct handshake *handshake = peer->handshake;

    peer->start += handshake_fed(handshake, peer->in->bytes + peer->start, peer->end - peer->start);
    peer->scanned = peer->ready_end = peer->start;
    enum reason reason = handshake->failed;
    bool done = handshake->stage == STAGE_DONE;
    send_greeting(peer); /* if there is no memory, this ends the connection */
    if (!reason && done && peer->descriptor >= 0) {
        peer->minor = handshake->minor;
        reason = port_attach(peer->port, peer);
        if (!reason) {
            free(handshake);
            peer->handshake = NULL;
            set_heartbeat(peer);
            if (peer->leaves)
                peer_leave(peer);
        }
    }
    if (reason)
        peer_end(peer, reason);
    return done || peer->descriptor < 0;
}

bool peer_read(struct peer *peer)
{
    if (peer->descriptor < 0) {
        peer->readable = false;
        return false;
    }
    if (!make_room(peer)) {
        peer_end(peer, REASON_NO_MEMORY);
        return true;
    }
    size_t room = peer->in->capacity - peer->end;
    ssize_t count = peer->port->calls->read(peer, peer->in->bytes + peer->end, room);
    if (count > 0) {
        peer->end += (size_t) count;
        peer->port->may_read -= count;
        peer->heard_s = peer->port->wire->now_s;
        return peer->handshake ? shake_hands(peer) : true;
    }
    if (count == -EAGAIN) {
        peer->readable = false;
        if (peer->start == peer->end)
            drop_input(peer);
        else if (peer->in->capacity >= SLAB_LARGE && peer->end - peer->start < REMAINDER_MOVES_BELOW)
            move_input(peer, SLAB_SMALL); /* if there is no memory, it stays where it is */
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
    set_heartbeat(peer);
    if (peer->out.bytes >= PEER_QUEUE_BYTES)
        return; /* it does not read what was sent to it: it needs no answer, and may not fill the memory with them */
    frame_write_header(pong, FRAME_COMMAND, 5 + context);
    memcpy(pong + FRAME_SHORT_HEADER, "\4PONG", 5);
    memcpy(pong + FRAME_SHORT_HEADER + 5, body + 7, context);
    peer_enqueue_bytes(peer, pong, FRAME_SHORT_HEADER + 5 + context);
}

static enum reason on_command(struct peer *peer, const uint8_t *body, size_t size)
{
    if (size >= 7 && size <= 7 + PING_CONTEXT_MAX && !memcmp(body, "\4PING", 5))
        on_ping(peer, body, size);
    else if (size >= 10 && !memcmp(body, "\11SUBSCRIBE", 10))
        return publish_on_subscription(peer->port, peer, true, body + 10, size - 10);
    else if (size >= 7 && !memcmp(body, "\6CANCEL", 7))
        return publish_on_subscription(peer->port, peer, false, body + 7, size - 7);
    else if (size >= 6 && !memcmp(body, "\5ERROR", 6))
        return REASON_REFUSED;
    else if (size < 5 || memcmp(body, "\4PONG", 5))
        return REASON_BAD_COMMAND;
    return NO_REASON;
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
            return PARSED_NOTHING;
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
            return PARSED_NOTHING;
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
    if (reason) {
        peer_end(peer, reason);
        /* What comes before can still be taken. */
        peer->end = peer->scanned = peer->ready_end;
        peer->gap = 0;
        peer->message = (struct amount){0};
    }
    return PARSED_NOTHING;
}

void peer_consume(struct peer *peer)
{
    amount_add(&peer->received, peer->ready);
    peer->deficit -= (int64_t) (peer->ready_end - peer->start);
    peer->ready = (struct amount){0};
    peer->start = peer->ready_end;
    close_gap(peer);
    if (peer->start == peer->end)
        drop_input(peer);
}

/* -- what goes ------------------------------------------------------------------------------------------------------ */

static void note_queued(struct peer *peer)
{
    if (!peer->blocked)
        list_include(&peer->port->dirty, &peer->dirty_link);
}

bool peer_enqueue(struct peer *peer, const struct message *message, struct account *account)
{
    struct queue *queue = &peer->out;
    struct pool *pool = &peer->port->wire->pool;
    struct run run = message->run;
    size_t count = run.end - run.start;
    bool done;

    run.amount.frames += message->prefix_amount.frames;
    run.amount.bytes += message->prefix_amount.bytes;
    if (!message->prefix_size) {
        done = queue_run(queue, &run, account);
    } else if (count < QUEUE_SHARES_FROM) {
        uint8_t whole[QUEUE_SHARES_FROM + FRAME_SHORT_HEADER + ROUTING_ID_MAX];
        if (message->prefix_size <= sizeof whole - QUEUE_SHARES_FROM) {
            memcpy(whole, message->prefix, message->prefix_size);
            memcpy(whole + message->prefix_size, run.slab->bytes + run.start, count);
            done = queue_copy(queue, pool, whole, message->prefix_size + count, run.amount, account);
        } else {
            done = queue_copy(queue, pool, message->prefix, message->prefix_size, (struct amount){0}, account) &&
                   queue_run(queue, &run, account);
        }
    } else {
        done = queue_copy(queue, pool, message->prefix, message->prefix_size, (struct amount){0}, account) &&
               queue_share(queue, &run, account);
    }
    if (!done) {
        peer_end(peer, REASON_NO_MEMORY);
        return false;
    }
    note_queued(peer);
    return true;
}

void peer_enqueue_bytes(struct peer *peer, const uint8_t *bytes, size_t count)
{
    if (peer->descriptor < 0 || peer->leaves)
        return;
    if (queue_copy(&peer->out, &peer->port->wire->pool, bytes, count, (struct amount){0}, NULL))
        note_queued(peer);
    else
        peer_end(peer, REASON_NO_MEMORY);
}

void peer_flush(struct peer *peer)
{
    struct iovec pieces[PIECES];
    bool had_room = peer_has_room(peer);

    if (link_is_in(&peer->dirty_link))
        link_remove(&peer->dirty_link);
    peer->blocked = false;
    while (peer->out.first && peer->descriptor >= 0) {
        int count = queue_pieces(&peer->out, pieces, PIECES);
        size_t offered = 0;
        for (int i = 0; i < count; i++)
            offered += pieces[i].iov_len;
        ssize_t written = peer->port->calls->write(peer, pieces, count);
        if (written < 0 && written != -EAGAIN) {
            if (peer->handshake || written == -ENOMEM || written == -ENOBUFS) {
                peer_end(peer, REASON_BROKEN);
                return;
            }
            /* What has come can still be read; the end of it then ends the connection. */
            peer_leave(peer);
            peer_is_readable(peer);
            port_note(peer->port, NEWS_INPUT);
            return;
        }
        if (written > 0)
            peer->sent.messages += queue_note_written(&peer->out, (size_t) written);
        if (written < 0 || (size_t) written < offered) {
            peer->blocked = true;
            break;
        }
    }
    if (peer->attached && !had_room && peer_has_room(peer))
        port_has_room(peer->port, peer);
    if (peer->port->tells_when_empty && !peer->out.messages)
        port_note(peer->port, NEWS_ROOM);
}

/* -- the end, and deadlines ----------------------------------------------------------------------------------------- */

void peer_leave(struct peer *peer)
{
    peer->leaves = true;
    if (link_is_in(&peer->dirty_link))
        link_remove(&peer->dirty_link);
    if (peer->attached) {
        peer->attached = false;
        port_detach(peer->port, peer);
    }
    queue_forget(&peer->out); /* `port_detach` has taken the messages of flows */
}

void peer_end(struct peer *peer, enum reason reason)
{
    struct port *port = peer->port;

    if (peer->descriptor < 0)
        return;
    peer->reason = reason;
    peer->readable = false;
    port->ended_by[reason]++;
    if (peer->deadline_s) {
        peer->deadline_s = 0;
        port->calls->set_deadline(peer);
    }
    port->calls->close(peer);
    peer->descriptor = -1;
    peer_leave(peer);
    if (peer->handshake) /* nothing is taken from a peer that was not accepted */
        drop_input(peer);
    free(peer->handshake);
    peer->handshake = NULL;
    if (link_is_in(&peer->readable_link))
        link_remove(&peer->readable_link);
    if (peer->start == peer->end) {
        list_append(&port->wire->dead, &peer->readable_link);
        port_finish(port, peer);
    } else { /* it is forgotten when its port finds nothing more to take from it */
        list_append(&port->readable, &peer->readable_link);
        port_note(port, NEWS_INPUT);
    }
}

void peer_forget(struct peer *peer)
{
    port_finish(peer->port, peer);
    drop_input(peer);
    link_remove(&peer->all);
    if (link_is_in(&peer->readable_link))
        link_remove(&peer->readable_link);
    peer->port->wire->peers_alive--;
    free(peer->prefix);
    free(peer);
}

/* The earlier of two times, of which 0 is none. */
static double earliest(double a, double b)
{
    return !a || (b && b < a) ? b : a;
}

/* When the peer has to be heard next, or is to be sent a PING. */
static void set_heartbeat(struct peer *peer)
{
    const struct options *options = &peer->port->options;
    double deadline_s = 0;

    if (peer->descriptor < 0)
        return; /* a PING was read before the connection ended, and is parsed now */
    if (options->heartbeat_ivl && peer->minor) {
        int timeout = options->heartbeat_timeout < 0 ? options->heartbeat_ivl : options->heartbeat_timeout;
        if (!peer->ping_s)
            peer->ping_s = peer->port->wire->now_s + options->heartbeat_ivl / 1000.0;
        deadline_s = peer->ping_s;
        if (timeout)
            deadline_s = earliest(deadline_s, peer->heard_s + (options->heartbeat_ivl + timeout) / 1000.0);
    }
    if (peer->ttl_s)
        deadline_s = earliest(deadline_s, peer->heard_s + peer->ttl_s);
    if (deadline_s != peer->deadline_s) {
        peer->deadline_s = deadline_s;
        peer->port->calls->set_deadline(peer);
    }
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
}

void peer_on_deadline(struct peer *peer)
{
    const struct options *options = &peer->port->options;
    double now_s = peer->port->wire->now_s;

    peer->deadline_s = 0;
    peer->port->calls->set_deadline(peer);
    if (peer->handshake) {
        peer_end(peer, REASON_SLOW_HANDSHAKE);
        return;
    }
    if (peer->readable) /* it may have been heard, and nobody has read that, since its port is not read now */
        peer->heard_s = now_s;
    int timeout = options->heartbeat_timeout < 0 ? options->heartbeat_ivl : options->heartbeat_timeout;
    bool silent = options->heartbeat_ivl && peer->minor && timeout &&
                  now_s >= peer->heard_s + (options->heartbeat_ivl + timeout) / 1000.0;
    if (silent || (peer->ttl_s && now_s >= peer->heard_s + peer->ttl_s)) {
        peer_end(peer, REASON_SILENT);
        return;
    }
    if (peer->ping_s && now_s >= peer->ping_s) {
        send_ping(peer);
        peer->ping_s = now_s + options->heartbeat_ivl / 1000.0;
    }
    if (peer->descriptor >= 0) {
        set_heartbeat(peer);
        peer_flush(peer);
    }
}
