/* What goes to a peer: its queue, and writing it. */
#include "wire.h"

#include "frame.h"

#include <errno.h>
#include <string.h>

enum { PIECES = 64 };

void peer_note_queued(struct peer *peer)
{
    struct port *port = peer->port;

    if (peer->blocked)
        return;
    list_include(&port->dirty, &peer->dirty_link);
    list_include(&port->wire->unwritten, &port->unwritten);
}

bool peer_enqueue(struct peer *peer, const struct message *message, struct account *account)
{
    struct queue *queue = &peer->out;
    struct pool *pool = &peer->port->wire->pool;
    struct run run = message->run;
    size_t count = run.end - run.start, shares_from = port_drops(peer->port) ? LONG_QUEUE_SHARES_FROM : QUEUE_SHARES_FROM;
    uint8_t whole[QUEUE_SHARES_FROM + FRAME_SHORT_HEADER + ROUTING_ID_MAX];
    bool done;

    run.amount.frames += message->prefix_amount.frames;
    run.amount.bytes += message->prefix_amount.bytes;
    if (!message->prefix_size) {
        done = queue_run(queue, &run, account, shares_from);
    } else if (count < QUEUE_SHARES_FROM && message->prefix_size <= sizeof whole - QUEUE_SHARES_FROM) {
        memcpy(whole, message->prefix, message->prefix_size);
        memcpy(whole + message->prefix_size, run.slab->bytes + run.start, count);
        done = queue_copy(queue, pool, whole, message->prefix_size + count, run.amount, account);
    } else {
        size_t reserve = count < shares_from ? count : 0;
        done = queue_copy_begin(queue, pool, message->prefix, message->prefix_size, reserve, (struct amount){0}, account) &&
               queue_run(queue, &run, account, shares_from);
    }
    if (!done) {
        peer_end(peer, REASON_NO_MEMORY);
        return false;
    }
    peer_note_queued(peer);
    return true;
}

bool peer_makes_room(struct peer *peer)
{
    if (!peer_has_room(peer) && !peer->blocked)
        peer_flush(peer);
    return peer_has_room(peer);
}

void peer_enqueue_bytes(struct peer *peer, const uint8_t *bytes, size_t count)
{
    if (peer->descriptor < 0 || peer->leaves)
        return;
    if (queue_copy(&peer->out, &peer->port->wire->pool, bytes, count, (struct amount){0}, NULL))
        peer_note_queued(peer);
    else
        peer_end(peer, REASON_NO_MEMORY);
}

void peer_flush(struct peer *peer)
{
    struct iovec pieces[PIECES];
    bool had_room = peer_has_room(peer), was_blocked = peer->blocked;

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
        if (written > 0) {
            peer->sent += queue_note_written(&peer->out, (size_t) written);
            peer->ping_left -= (size_t) written < peer->ping_left ? (uint32_t) written : peer->ping_left;
            if (was_blocked && peer->asked_after_s)
                peer_note_asked(peer); /* it reads */
        }
        if (written < 0 || (size_t) written < offered) {
            peer->blocked = true;
            break;
        }
    }
    if (peer->attached && !had_room && peer_has_room(peer))
        port_has_room(peer->port, peer);
    if (port_shares(peer->port))
        turns_weigh(&peer->port->turns, peer);
    if (peer->port->tells_when_empty && !peer->out.messages)
        port_note(peer->port, NEWS_ROOM);
}
