/* Commands of a peer that has shaken hands: what each does, and finding heartbeats behind messages that nobody takes. */
#include "publish.h"

#include "frame.h"

#include <string.h>

enum {
    PING_CONTEXT_MAX = 16,
    LOOKS_MAX = 64 /* peers that are looked at in a turn, so that it does not take long however many there are */
};

static void on_ping(struct peer *peer, const uint8_t *body, size_t size)
{
    uint8_t pong[FRAME_SHORT_HEADER + 5 + PING_CONTEXT_MAX];
    size_t context = size - 7;

    peer->ttl_s = (float) (body[5] << 8 | body[6]) / 10;
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

static bool is_pong(const uint8_t *body, size_t size)
{
    return is_command("\4PONG", body, size) && size <= 5 + PING_CONTEXT_MAX;
}

/* Those that are unknown are ignored, as RFC 37 and libzmq do. */
enum reason peer_obey(struct peer *peer, const uint8_t *body, size_t size)
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

/* Answer the PINGs behind messages that nobody takes now, and take heartbeats out of what has come, so that they do not fill
 * what is looked at. */
static void look_ahead(struct peer *peer)
{
    while (peer->readable && peer->end - peer->start < LOOK_AHEAD_BYTES)
        peer_read(peer, LOOK_AHEAD_BYTES - (peer->end - peer->start));
    size_t at = peer->looked > peer->scanned + peer->gap ? peer->looked : peer->scanned + peer->gap, kept = at;
    while (peer->descriptor >= 0 && peer->in) {
        uint8_t *bytes = peer->in->bytes + at;
        unsigned flags;
        uint64_t length;
        int header = frame_header(bytes, peer->end - at, &flags, &length);
        if (header <= 0 || peer->end - at - (size_t) header < length)
            break; /* if it is malformed, that is found out when the port is read */
        size_t size = (size_t) header + length;
        bool ping = flags & FRAME_COMMAND && is_ping(bytes + header, length);
        if (ping)
            on_ping(peer, bytes + header, length);
        if (!ping && !(flags & FRAME_COMMAND && is_pong(bytes + header, length))) {
            memmove(peer->in->bytes + kept, bytes, size);
            kept += size;
        }
        at += size;
    }
    if (kept < at) {
        memmove(peer->in->bytes + kept, peer->in->bytes + at, peer->end - at);
        peer->end -= at - kept;
    }
    peer->looked = kept;
    peer_shrink_input(peer);
    if (peer->readable && peer->end - peer->start < LOOK_AHEAD_BYTES)
        peer_note_unread(peer); /* there is room for more, which the next look finds */
    peer_flush(peer);
}

void wire_look_ahead(struct wire *wire)
{
    struct link unread;

    if (list_is_empty(&wire->unread) || wire->now_s < wire->look_s)
        return;
    link_init(&unread);
    list_append(&wire->unread, &unread); /* those that come behind it meanwhile have their turn the next time */
    for (int most = LOOKS_MAX; most && wire->unread.next != &unread; most--) {
        struct peer *peer = LISTED(wire->unread.next, struct peer, unread_link);
        link_remove(&peer->unread_link);
        look_ahead(peer);
    }
    if (wire->unread.next == &unread) /* else the others have their turn at once */
        wire->look_s = wire->now_s + LOOK_AFTER_S;
    link_remove(&unread);
}
