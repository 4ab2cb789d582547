/* A port, from its record. Whatever is wrong with that is found before the port is used. */
#include "record.h"

#include "frame.h"
#include "publish.h"
#include "record_format.h"

#include <stdlib.h>
#include <string.h>

static void get_subscriptions(struct reading *reading, struct port *port)
{
    uint64_t count = reading_u64(reading);

    reading_refuse_unless(reading, !count || port->type == TYPE_XPUB, "subscriptions wait at a port that is not an XPUB");
    for (uint64_t i = 0; i < count && !reading->wrong; i++) {
        size_t size;
        const uint8_t *body = reading_bytes(reading, &size);
        if (!reading_refuse_unless(reading, size && body[0] <= 1, "a subscription is malformed"))
            return;
        uint8_t header[FRAME_LONG_HEADER];
        size_t header_size = frame_write_header(header, 0, size);
        struct slab *slab = slab_new(&port->wire->pool, header_size + size);
        if (!slab) {
            reading_refuse(reading, "there is no memory for it");
            return;
        }
        memcpy(slab->bytes, header, header_size);
        memcpy(slab->bytes + header_size, body, size);
        struct amount one = {.messages = 1, .frames = 1, .bytes = size};
        if (!queue_copy(&port->subscriptions, &port->wire->pool, slab->bytes, header_size + size, one, NULL))
            reading_refuse(reading, "there is no memory for it");
        slab_release(slab);
    }
}

static void get_prefixes(struct reading *reading, struct port *port)
{
    uint64_t count = reading_u64(reading);

    reading_refuse_unless(reading, !count || port->type == TYPE_SUB || port->type == TYPE_XSUB,
                  "a port subscribes that is no SUB and no XSUB");
    for (uint64_t i = 0; i < count && !reading->wrong; i++) {
        uint64_t times = reading_u64(reading);
        size_t size;
        const uint8_t *bytes = reading_bytes(reading, &size);
        if (reading->wrong)
            return;
        if (!times || prefixes_find(&port->prefixes, bytes, size)) {
            reading_refuse(reading, "a port subscribes to a topic twice, or not at all");
            return;
        }
        /* Nobody is told: the peers, which are not there yet, were told already. */
        if (!port_subscribe(port, bytes, size)) {
            reading_refuse(reading, "there is no memory for it");
            return;
        }
        prefixes_find(&port->prefixes, bytes, size)->count = times;
    }
}

/* The envelope of a request: frames of which each is followed by another, the last one empty. */
static bool is_envelope(const uint8_t *bytes, size_t size)
{
    uint64_t length = 1;

    for (size_t at = 0; at < size;) {
        unsigned flags;
        int header = frame_header(bytes + at, size - at, &flags, &length);
        if (header <= 0 || length > size - at - (size_t) header || (flags & ~(unsigned) FRAME_LONG) != FRAME_MORE)
            return false;
        at += (size_t) header + length;
    }
    return !length;
}

static void get_envelope(struct reading *reading, struct port *port)
{
    size_t size;
    const uint8_t *bytes = reading_bytes(reading, &size);

    if (reading->wrong)
        return;
    bool sound = size ? port->type == TYPE_REP && is_envelope(bytes, size) : port->type != TYPE_REP || !port->engaged;
    if (!reading_refuse_unless(reading, sound, "an envelope is malformed") || !size)
        return;
    if (!(port->envelope = slab_new(&port->wire->pool, size))) {
        reading_refuse(reading, "there is no memory for it");
        return;
    }
    memcpy(port->envelope->bytes, bytes, size);
    port->envelope_size = size;
}

static void get_partner(struct reading *reading, struct port *port)
{
    uint32_t number = reading_u32(reading);
    struct peer *partner;

    if (!reading_refuse_unless(reading, number <= reading->peer_count, "the partner of a request is no peer") || reading->wrong)
        return;
    partner = number ? reading->peers[number - 1] : NULL;
    bool sound = !partner && !port->engaged;
    if (port->type == TYPE_REP)
        sound = !partner || (port->engaged && partner->attached);
    else if (port->type == TYPE_REQ)
        sound = port->engaged ? partner && !partner->handshake : !partner;
    if (reading_refuse_unless(reading, sound, "a request and its partner contradict each other"))
        port->partner = partner;
}

/* Those that a message can be given to. What waits for another peer is given to the first one. */
static void find_room(struct port *port)
{
    if (!port_shares(port))
        return;
    for (struct link *link = port->peers.next; link != &port->peers; link = link->next) {
        struct peer *peer = LISTED(link, struct peer, all);
        if (peer->attached && peer_has_room(peer))
            port_has_room(port, peer);
    }
}

bool record_read(struct reading *reading, struct port *port, struct account *const *accounts, uint32_t account_count)
{
    reading->begin = reading->at;
    prefixes_free(&port->prefixes);
    port->prefixes_bytes = 0;
    reading_refuse_unless(reading, reading_u32(reading) == MAGIC, "it is not the record of a port");
    reading_refuse_unless(reading, reading_u32(reading) == RECORD_VERSION, "it is of another version");
    reading_refuse_unless(reading, reading_u8(reading) == port->type, "the port is of another type");
    uint8_t marks = reading_u8(reading);
    reading_refuse_unless(reading, marks <= ENGAGED && (!marks || port->type == TYPE_REP || port->type == TYPE_REQ),
                  "the marks of a port are malformed");
    port->engaged = !reading->wrong && marks;
    port->next_id = reading_u32(reading);
    port->discarded.frames = reading_u64(reading);
    port->discarded.bytes = reading_u64(reading);
    unsigned reasons = reading_u8(reading);
    reading_refuse_unless(reading, reasons <= REASON_COUNT, "connections have ended for reasons that there are not");
    for (unsigned reason = 0; reason < reasons && !reading->wrong; reason++)
        port->ended_by[reason] = reading_u64(reading);
    get_subscriptions(reading, port);
    get_prefixes(reading, port);
    get_envelope(reading, port);
    reading_queue(reading, port, &port->orphans, accounts, account_count);
    bool may_wait = (port->type == TYPE_PUSH || port->type == TYPE_DEALER) && !port->orphans.written;
    reading_refuse_unless(reading, !port->orphans.first || may_wait, "messages wait for another peer where none takes them");
    for (uint64_t left = reading_u64(reading); left && !reading->wrong; left--)
        reading_peer(reading, port, accounts, account_count);
    get_partner(reading, port);
    reading_refuse_unless(reading, reading_u32(reading) == END_MARK && reading->at == reading->end, "it goes on behind its end");
    reading_refuse_unless(reading, reading->descriptors_taken == reading->descriptor_count, "there are more descriptors than peers");
    if (!reading->wrong)
        find_room(port);
    return !reading->wrong;
}
