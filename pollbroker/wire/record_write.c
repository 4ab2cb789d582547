/* A port, as a record. */
#include "record.h"

#include "frame.h"
#include "publish.h"
#include "record_format.h"

#include <stdlib.h>
#include <string.h>

static bool make_room(struct record *record, size_t count)
{
    if (record->no_memory)
        return false;
    if (record->room - record->size < count) {
        size_t room = 2 * record->room + count + 1024;
        uint8_t *grown = realloc(record->bytes, room);
        if (!grown) {
            record->no_memory = true;
            return false;
        }
        record->bytes = grown;
        record->room = room;
    }
    return true;
}

static void put(struct record *record, const void *bytes, size_t count)
{
    if (count && make_room(record, count)) {
        memcpy(record->bytes + record->size, bytes, count);
        record->size += count;
    }
}

static void put_number(struct record *record, uint64_t number, int size)
{
    uint8_t bytes[8];

    for (int i = 0; i < size; i++)
        bytes[i] = (uint8_t) (number >> 8 * i);
    put(record, bytes, (size_t) size);
}

static void put_u8(struct record *record, uint8_t number)
{
    put_number(record, number, 1);
}

static void put_u32(struct record *record, uint32_t number)
{
    put_number(record, number, 4);
}

static void put_u64(struct record *record, uint64_t number)
{
    put_number(record, number, 8);
}

static void put_bytes(struct record *record, const void *bytes, size_t count)
{
    put_u64(record, count);
    put(record, bytes, count);
}

static void put_amount(struct record *record, struct amount amount)
{
    put_u64(record, amount.messages);
    put_u64(record, amount.frames);
    put_u64(record, amount.bytes);
}

static void put_seconds(struct record *record, double seconds)
{
    seconds = seconds < -LONGEST_S ? -LONGEST_S : seconds > LONGEST_S ? LONGEST_S : seconds;
    put_u64(record, (uint64_t) (int64_t) (seconds * MICROSECONDS));
}

/* The number of an account, from 1 on; 0 for none. */
static void put_account(struct record *record, const struct account *account, struct account *const *accounts,
                        uint32_t count)
{
    uint32_t number = 0;

    while (account && number < count && accounts[number] != account)
        number++;
    if (account && number == count)
        record->unknown_account = true;
    put_u32(record, account ? number + 1 : 0);
}

static void put_queue(struct record *record, const struct queue *queue, struct account *const *accounts, uint32_t count)
{
    /* What has begun the first message may be written, and in the queue no more: an empty frame stands for it. */
    static const uint8_t beginning[] = {FRAME_MORE, 0};
    size_t stands_for = queue->first && queue->first->continues && !queue->written ? sizeof beginning : 0;
    uint32_t segments = 0;

    for (const struct segment *segment = queue->first; segment; segment = segment->next)
        segments += segment->start < segment->end;
    put_u32(record, segments);
    put_u64(record, queue->written + stands_for);
    for (const struct segment *segment = queue->first; segment; segment = segment->next) {
        if (segment->start == segment->end)
            continue; /* an empty topic, say */
        put_account(record, segment->account, accounts, count);
        put_amount(record, segment->amount);
        put_u64(record, stands_for + segment->end - segment->start);
        put(record, beginning, stands_for);
        put(record, segment->slab->bytes + segment->start, segment->end - segment->start);
        stands_for = 0;
    }
}

/* The subscriptions that are to be read from an XPUB: messages of one frame. */
static void put_subscriptions(struct record *record, const struct queue *queue)
{
    put_u64(record, queue->messages);
    for (const struct segment *segment = queue->first; segment; segment = segment->next)
        for (size_t at = segment->start; at < segment->end;) {
            unsigned flags = 0;
            uint64_t length = 0;
            int header = frame_header(segment->slab->bytes + at, segment->end - at, &flags, &length);
            put_bytes(record, segment->slab->bytes + at + header, length);
            at += (size_t) header + length;
        }
}

static void put_prefixes(struct record *record, const struct prefixes *prefixes)
{
    const struct map *map = &prefixes->map;

    put_u64(record, map->count);
    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i]) {
            put_u64(record, ((const struct prefix *) map->slots[i])->count);
            put_bytes(record, map->slots[i]->bytes, map->slots[i]->size);
        }
}

/* A connection that is over is of no use any more when nothing is left to be taken from it, or nobody takes it. One whose handshake cannot be
 * moved is left out, so that it ends with the process, and its peer connects again. */
static bool is_moved(const struct peer *peer)
{
    if (peer->descriptor < 0)
        return peer->start < peer->end && !peer->port->nobody_takes;
    return !peer->handshake || handshake_number(peer->handshake) >= 0;
}

static void put_topics(struct record *record, const struct peer *peer)
{
    put_u64(record, peer_subscription_count(peer));
    if (!peer_subscription_count(peer))
        return;
    const struct link *topics = &peer->subscriber->subscriptions;
    for (const struct link *link = topics->next; link != topics; link = link->next) {
        const struct key *topic = &LISTED(link, struct subscription, of_subscriber)->pair.topic->key;
        put_bytes(record, topic->bytes, topic->size);
    }
}

static void put_peer(struct record *record, const struct peer *peer, struct account *const *accounts, uint32_t count)
{
    double now_s = peer->port->wire->now_s;
    size_t scanned = peer->scanned - peer->start, rest = peer->end - peer->scanned - peer->gap;

    put_u8(record, (peer->descriptor >= 0 ? FLAG_STREAM : 0) | (peer->attached ? FLAG_ATTACHED : 0) |
                       (peer->leaves ? FLAG_LEAVES : 0) | (peer->discarding ? FLAG_DISCARDING : 0) |
                       (peer->handshake ? FLAG_HANDSHAKE : 0) | (peer->readable ? FLAG_READABLE : 0) |
                       (peer->ping_s ? FLAG_PING : 0));
    put_u8(record, peer->minor);
    put_u8(record, (uint8_t) peer->reason);
    put_seconds(record, now_s - peer->since_s);
    put_seconds(record, now_s - peer->heard_s);
    if (peer->ping_s)
        put_seconds(record, peer->ping_s - now_s);
    put_seconds(record, peer->ttl_s);
    put_amount(record, (struct amount){.messages = peer->received}); /* frames and bytes are not counted for a peer */
    put_amount(record, (struct amount){.messages = peer->sent});
    put_u64(record, peer->dropped);
    if (peer->handshake) {
        put_u8(record, (uint8_t) handshake_number(peer->handshake));
        put_u8(record, (uint8_t) peer->handshake->peer_type);
        put_u8(record, peer->handshake->minor);
        put_bytes(record, peer->handshake->identity, peer->handshake->identity_size);
    }
    put_u64(record, peer->in ? scanned + rest : 0);
    if (peer->in) {
        put(record, peer->in->bytes + peer->start, scanned);
        put(record, peer->in->bytes + peer->scanned + peer->gap, rest);
    }
    struct key id = peer_routing_id(peer);
    put_bytes(record, id.bytes, id.size);
    put_bytes(record, peer->user_id ? peer->user_id->bytes : NULL, peer->user_id ? peer->user_id->size : 0);
    put_u64(record, port_shares(peer->port) ? peer->sharer.outstanding : 0);
    put_topics(record, peer);
    put_queue(record, &peer->out, accounts, count);
}

static void list_peer(struct record *record, struct peer *peer)
{
    if (record->peer_count == record->peer_room) {
        size_t room = 2 * record->peer_room + 16;
        struct peer **grown = realloc(record->peers, room * sizeof *grown);
        if (!grown) {
            record->no_memory = true;
            return;
        }
        record->peers = grown;
        record->peer_room = room;
    }
    record->peers[record->peer_count++] = peer;
}

bool record_write(struct record *record, const struct port *port, struct account *const *accounts, uint32_t account_count)
{
    uint32_t partner = 0;

    put_u32(record, MAGIC);
    put_u32(record, RECORD_VERSION);
    put_u8(record, (uint8_t) port->type);
    put_u8(record, port->engaged ? ENGAGED : 0);
    put_u32(record, port->next_id);
    put_u64(record, port->discarded.frames);
    put_u64(record, port->discarded.bytes);
    put_u8(record, REASON_COUNT);
    for (int reason = 0; reason < REASON_COUNT; reason++)
        put_u64(record, port->ended_by[reason]);
    put_subscriptions(record, &port->subscriptions);
    put_prefixes(record, &port->prefixes);
    put_bytes(record, port->envelope ? port->envelope->bytes : NULL, port->envelope ? port->envelope_size : 0);
    put_queue(record, &port->orphans, accounts, account_count);
    for (struct link *link = port->peers.next; link != &port->peers; link = link->next)
        if (is_moved(LISTED(link, struct peer, all)))
            list_peer(record, LISTED(link, struct peer, all));
    put_u64(record, record->peer_count);
    for (size_t i = 0; i < record->peer_count; i++) {
        put_peer(record, record->peers[i], accounts, account_count);
        if (record->peers[i] == port->partner)
            partner = (uint32_t) i + 1;
    }
    put_u32(record, partner);
    put_u32(record, END_MARK);
    return !record->no_memory && !record->unknown_account;
}

void record_free(struct record *record)
{
    free(record->bytes);
    free(record->peers);
    *record = (struct record){0};
}
