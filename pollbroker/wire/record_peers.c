/* A port's peers, from a record. */
#include "record.h"

#include "frame.h"
#include "publish.h"
#include "record_format.h"

#include <stdlib.h>
#include <string.h>

static void get_handshake(struct reading *reading, struct peer *peer)
{
    uint8_t number = reading_u8(reading), type = reading_u8(reading), minor = reading_u8(reading);
    size_t size;
    const uint8_t *identity = reading_bytes(reading, &size);

    if (!reading->wrong && !handshake_restore(peer->handshake, peer->port->type, &peer->port->options, number, type, minor,
                                              identity, size))
        reading_refuse(reading, "a handshake is at a stage that there is not");
}

static void get_id(struct reading *reading, struct peer *peer, bool attached)
{
    struct port *port = peer->port;
    size_t size;
    const uint8_t *id = reading_bytes(reading, &size);

    if (!reading_refuse_unless(reading, size <= ROUTING_ID_MAX, "a routing id is too long") || reading->wrong)
        return;
    bool needs_id = port->type == TYPE_ROUTER && !peer->handshake && (attached || peer->end);
    if (!reading_refuse_unless(reading, size ? port->type == TYPE_ROUTER && !peer->handshake : !needs_id,
                       "a peer has no routing id, or has no use for one"))
        return;
    if (size) {
        if (!peer_set_routing_id(peer, id, size)) {
            reading_refuse(reading, "there is no memory for it");
            return;
        }
        if (attached && map_find(&port->ids, id, size, peer->routed.id.hash)) {
            reading_refuse(reading, "two peers have the same routing id");
            return;
        }
        if (attached && !map_put(&port->ids, &peer->routed.id)) {
            reading_refuse(reading, "there is no memory for it");
            return;
        }
    }
    if (!attached)
        return;
    port->peer_count++;
    if (port_publishes(port) && !publish_attach(port)) {
        port->peer_count--;
        reading_refuse(reading, "there is no memory for it");
        return;
    }
    peer->attached = true;
}

static void get_user_id(struct reading *reading, struct peer *peer)
{
    size_t size;
    const uint8_t *user_id = reading_bytes(reading, &size);

    if (!reading->wrong && !peer_set_user_id(peer, user_id, size))
        reading_refuse(reading, "there is no memory for it");
}

static void get_topics(struct reading *reading, struct peer *peer)
{
    struct port *port = peer->port;
    uint64_t count = reading_u64(reading);

    reading_refuse_unless(reading, !count || (peer->attached && port_publishes(port)),
                  "a peer subscribes that cannot");
    for (uint64_t i = 0; i < count && !reading->wrong; i++) {
        size_t size;
        const uint8_t *topic = reading_bytes(reading, &size);
        if (reading->wrong)
            return;
        enum subscribed subscribed = peer_subscribe(peer, topic, size);
        if (subscribed == SUBSCRIBED_NOT)
            reading_refuse(reading, "there is no memory for it");
        else if (subscribed == SUBSCRIBED_AGAIN)
            reading_refuse(reading, "a peer subscribes to a topic twice");
    }
}

static void get_input(struct reading *reading, struct peer *peer)
{
    size_t size;
    const uint8_t *bytes = reading_bytes(reading, &size);

    if (reading->wrong || !size)
        return;
    if (!(peer->in = slab_new(&peer->port->wire->pool, size))) {
        reading_refuse(reading, "there is no memory for it");
        return;
    }
    memcpy(peer->in->bytes, bytes, size);
    peer->end = size;
}

static bool are_sound(unsigned flags)
{
    bool stream = flags & FLAG_STREAM, attached = flags & FLAG_ATTACHED, leaves = flags & FLAG_LEAVES,
         handshake = flags & FLAG_HANDSHAKE;

    if (flags & ~(unsigned) FLAG_ALL)
        return false;
    if (!stream)
        return !attached && !handshake;
    if (attached)
        return !leaves && !handshake;
    return leaves || handshake;
}

static bool list_read_peer(struct reading *reading, struct peer *peer)
{
    if (reading->peer_count == reading->peer_room) {
        size_t room = 2 * reading->peer_room + 16;
        struct peer **grown = realloc(reading->peers, room * sizeof *grown);
        if (!grown)
            return false;
        reading->peers = grown;
        reading->peer_room = room;
    }
    reading->peers[reading->peer_count++] = peer;
    return true;
}

void reading_peer(struct reading *reading, struct port *port, struct account *const *accounts, uint32_t count)
{
    unsigned flags = reading_u8(reading);
    double now_s = port->wire->now_s;
    struct peer *peer;

    if (!reading_refuse_unless(reading, are_sound(flags), "the marks of a peer contradict each other") || reading->wrong)
        return;
    if (!reading_refuse_unless(reading, !(flags & FLAG_STREAM) || reading->descriptors_taken < reading->descriptor_count,
                       "there are more peers than descriptors"))
        return;
    if (!(peer = peer_without_stream(port))) {
        reading_refuse(reading, "there is no memory for it");
        return;
    }
    peer->deficit = PEER_QUANTUM_BYTES;
    if (flags & FLAG_STREAM)
        peer_set_stream(peer, reading->descriptors[reading->descriptors_taken++]);
    /* From here on the port ends this peer, whatever is wrong with the rest of its record. */
    list_append(&port->readable, &peer->readable_link);
    if (peer->descriptor < 0)
        peer_note_unread_end(peer);
    peer->leaves = flags & FLAG_LEAVES || peer->descriptor < 0;
    peer->discarding = flags & FLAG_DISCARDING;
    peer->readable = flags & FLAG_READABLE && peer->descriptor >= 0;
    if (!list_read_peer(reading, peer) ||
        (flags & FLAG_HANDSHAKE && !peer_add_handshake(peer))) {
        reading_refuse(reading, "there is no memory for it");
        return;
    }
    peer->minor = reading_u8(reading);
    peer->reason = reading_u8(reading) % REASON_COUNT;
    peer->since_s = now_s - reading_seconds(reading);
    peer->heard_s = now_s - reading_seconds(reading);
    peer->ping_s = flags & FLAG_PING ? now_s + reading_seconds(reading) : 0;
    peer->ttl_s = (float) reading_seconds(reading);
    reading_refuse_unless(reading, peer->ttl_s >= 0, "a time is too far away");
    peer->received = reading_amount(reading).messages;
    peer->sent = reading_amount(reading).messages;
    peer->dropped = reading_u64(reading);
    if (peer->handshake)
        get_handshake(reading, peer);
    get_input(reading, peer);
    get_id(reading, peer, flags & FLAG_ATTACHED);
    get_user_id(reading, peer);
    uint64_t outstanding = reading_u64(reading);
    if (port_shares(port))
        peer->sharer.outstanding = outstanding;
    get_topics(reading, peer);
    reading_refuse_unless(reading, peer->descriptor >= 0 || peer->end, "a peer is recorded of which nothing is left");
    struct queue out = {0};
    reading_queue(reading, port, &out, accounts, count);
    peer->out = out;
    reading_refuse_unless(reading, peer->attached || peer->handshake || !out.first, "something waits for a peer that has left");
    peer->blocked = out.first && peer->descriptor >= 0;
}
