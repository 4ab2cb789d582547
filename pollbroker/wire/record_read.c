/* A port, from its record. Whatever is wrong with that is found before the port is used. */
#include "record.h"

#include "frame.h"
#include "record_format.h"

#include <stdlib.h>
#include <string.h>

static bool refuse(struct reading *reading, const char *wrong)
{
    if (!reading->wrong) {
        reading->wrong = wrong;
        reading->wrong_at = (size_t) (reading->at - reading->begin);
        reading->at = reading->end; /* all that is read from now on is 0 */
    }
    return false;
}

static bool refuse_unless(struct reading *reading, bool right, const char *wrong)
{
    return right || refuse(reading, wrong);
}

static uint64_t get_number(struct reading *reading, int size)
{
    uint64_t number = 0;

    if (reading->end - reading->at < size) {
        refuse(reading, "it is cut");
        return 0;
    }
    for (int i = 0; i < size; i++)
        number |= (uint64_t) reading->at[i] << 8 * i;
    reading->at += size;
    return number;
}

static uint8_t get_u8(struct reading *reading)
{
    return (uint8_t) get_number(reading, 1);
}

static uint32_t get_u32(struct reading *reading)
{
    return (uint32_t) get_number(reading, 4);
}

static uint64_t get_u64(struct reading *reading)
{
    return get_number(reading, 8);
}

/* A string of bytes, which stays in the record. */
static const uint8_t *get_bytes(struct reading *reading, size_t *count)
{
    uint64_t size = get_u64(reading);
    const uint8_t *bytes = reading->at;

    *count = 0;
    if (size > (uint64_t) (reading->end - reading->at)) {
        refuse(reading, "a string of bytes is longer than the record");
        return bytes;
    }
    reading->at += size;
    *count = size;
    return bytes;
}

static struct amount get_amount(struct reading *reading)
{
    struct amount amount = {.messages = get_u64(reading)};

    amount.frames = get_u64(reading);
    amount.bytes = get_u64(reading);
    return amount;
}

static double get_seconds(struct reading *reading)
{
    double seconds = (double) (int64_t) get_u64(reading) / MICROSECONDS;

    if (seconds < -LONGEST_S || seconds > LONGEST_S) {
        refuse(reading, "a time is too far away");
        return 0;
    }
    return seconds;
}

static struct account *get_account(struct reading *reading, struct account *const *accounts, uint32_t count)
{
    uint32_t number = get_u32(reading);

    if (number > count)
        refuse(reading, "a queue has messages of a flow that there is not");
    return number && number <= count ? accounts[number - 1] : NULL;
}

/* Count the messages that end in these bytes, which must be whole frames. `in_message` says whether the first frame is the
 * rest of a message, and then whether more is to follow. */
static bool count_messages(const uint8_t *bytes, size_t size, bool *in_message, uint64_t *messages)
{
    for (size_t at = 0; at < size;) {
        unsigned flags;
        uint64_t length;
        int header = frame_header(bytes + at, size - at, &flags, &length);
        if (header <= 0 || length > size - at - (size_t) header)
            return false;
        at += (size_t) header + length;
        if (flags & FRAME_COMMAND)
            continue;
        *in_message = flags & FRAME_MORE;
        *messages += !*in_message;
    }
    return true;
}

/* Append one segment. Queues are cut at the boundaries of messages later, so that these must be what the record says. */
static void get_segment(struct reading *reading, struct port *port, struct queue *queue, bool *in_message,
                        struct account *const *accounts, uint32_t count)
{
    struct account *account = get_account(reading, accounts, count);
    struct run run = {.amount = get_amount(reading)};
    bool continues = *in_message;
    uint64_t messages = 0;
    size_t size;
    const uint8_t *bytes = get_bytes(reading, &size);

    if (reading->wrong)
        return;
    if (account && (!size || !count_messages(bytes, size, in_message, &messages) || messages != run.amount.messages)) {
        refuse(reading, "a queue has not the messages that it counts");
        return;
    }
    if (!account && (!size || continues || run.amount.messages > size)) {
        refuse(reading, "a queue has bytes of no flow in a message");
        return;
    }
    if (!(run.slab = slab_new(&port->wire->pool, size))) {
        refuse(reading, "there is no memory for it");
        return;
    }
    memcpy(run.slab->bytes, bytes, size);
    run.end = size;
    if (queue_share(queue, &run, account))
        queue->last->continues = continues;
    else
        refuse(reading, "there is no memory for it");
    slab_release(run.slab);
}

static void get_queue(struct reading *reading, struct port *port, struct queue *queue, struct account *const *accounts,
                      uint32_t count)
{
    uint32_t segments = get_u32(reading);
    uint64_t written = get_u64(reading);
    bool in_message = false;

    for (uint32_t i = 0; i < segments && !reading->wrong; i++)
        get_segment(reading, port, queue, &in_message, accounts, count);
    if (reading->wrong)
        return;
    if (in_message)
        refuse(reading, "a queue ends within a message");
    else if (written && (!queue->first || written >= queue->first->end))
        refuse(reading, "more of a queue was written than there is");
    else
        queue->written = written, queue->bytes -= written;
}

static void get_subscriptions(struct reading *reading, struct port *port)
{
    uint64_t count = get_u64(reading);

    refuse_unless(reading, !count || port->type == TYPE_XPUB, "subscriptions wait at a port that is not an XPUB");
    for (uint64_t i = 0; i < count && !reading->wrong; i++) {
        size_t size;
        const uint8_t *body = get_bytes(reading, &size);
        if (!refuse_unless(reading, size && body[0] <= 1, "a subscription is malformed"))
            return;
        uint8_t header[FRAME_LONG_HEADER];
        size_t header_size = frame_write_header(header, 0, size);
        struct slab *slab = slab_new(&port->wire->pool, header_size + size);
        if (!slab) {
            refuse(reading, "there is no memory for it");
            return;
        }
        memcpy(slab->bytes, header, header_size);
        memcpy(slab->bytes + header_size, body, size);
        struct amount one = {.messages = 1, .frames = 1, .bytes = size};
        if (!queue_copy(&port->subscriptions, &port->wire->pool, slab->bytes, header_size + size, one, NULL))
            refuse(reading, "there is no memory for it");
        slab_release(slab);
    }
}

static void get_prefixes(struct reading *reading, struct port *port)
{
    uint64_t count = get_u64(reading);

    refuse_unless(reading, !count || port->type == TYPE_SUB || port->type == TYPE_XSUB,
                  "a port subscribes that is no SUB and no XSUB");
    for (uint64_t i = 0; i < count && !reading->wrong; i++) {
        uint64_t times = get_u64(reading);
        size_t size;
        const uint8_t *bytes = get_bytes(reading, &size);
        if (reading->wrong)
            return;
        if (!times || prefixes_find(&port->prefixes, bytes, size)) {
            refuse(reading, "a port subscribes to a topic twice, or not at all");
            return;
        }
        /* Nobody is told: the peers, which are not there yet, were told already. */
        if (!port_subscribe(port, bytes, size)) {
            refuse(reading, "there is no memory for it");
            return;
        }
        prefixes_find(&port->prefixes, bytes, size)->count = times;
    }
}

/* The envelope of a request: frames of which each is followed by another, the last one empty. */
static bool is_envelope(const uint8_t *bytes, size_t size)
{
    bool in_message = false;
    uint64_t messages = 0;

    return size >= FRAME_SHORT_HEADER && count_messages(bytes, size, &in_message, &messages) && !messages && in_message &&
           bytes[size - 2] == FRAME_MORE && !bytes[size - 1];
}

static void get_envelope(struct reading *reading, struct port *port)
{
    size_t size;
    const uint8_t *bytes = get_bytes(reading, &size);

    if (reading->wrong)
        return;
    bool sound = size ? port->type == TYPE_REP && is_envelope(bytes, size) : port->type != TYPE_REP || !port->engaged;
    if (!refuse_unless(reading, sound, "an envelope is malformed") || !size)
        return;
    if (!(port->envelope = slab_new(&port->wire->pool, size))) {
        refuse(reading, "there is no memory for it");
        return;
    }
    memcpy(port->envelope->bytes, bytes, size);
    port->envelope_size = size;
}

static void get_handshake(struct reading *reading, struct peer *peer)
{
    uint8_t number = get_u8(reading), type = get_u8(reading), minor = get_u8(reading);
    size_t size;
    const uint8_t *identity = get_bytes(reading, &size);

    if (!reading->wrong && !handshake_restore(peer->handshake, peer->port->type, &peer->port->options, number, type, minor,
                                              identity, size))
        refuse(reading, "a handshake is at a stage that there is not");
}

static void get_id(struct reading *reading, struct peer *peer, bool attached)
{
    struct port *port = peer->port;
    size_t size;
    const uint8_t *id = get_bytes(reading, &size);

    if (!refuse_unless(reading, size <= ROUTING_ID_MAX, "a routing id is too long") || reading->wrong)
        return;
    bool needs_id = port->type == TYPE_ROUTER && !peer->handshake && (attached || peer->end);
    if (!refuse_unless(reading, size ? port->type == TYPE_ROUTER && !peer->handshake : !needs_id,
                       "a peer has no routing id, or has no use for one"))
        return;
    if (size) {
        if (!(peer->prefix = malloc(FRAME_SHORT_HEADER + size))) {
            refuse(reading, "there is no memory for it");
            return;
        }
        peer->prefix_size = frame_write_header(peer->prefix, FRAME_MORE, size) + size;
        memcpy(peer->prefix + FRAME_SHORT_HEADER, id, size);
        peer->id = (struct key){.hash = map_hash(id, size), .bytes = peer->prefix + FRAME_SHORT_HEADER, .size = size};
        if (attached && map_find(&port->ids, id, size, peer->id.hash)) {
            refuse(reading, "two peers have the same routing id");
            return;
        }
        if (attached && !map_put(&port->ids, &peer->id)) {
            refuse(reading, "there is no memory for it");
            return;
        }
    }
    if (!attached)
        return;
    port->peer_count++;
    if ((port->type == TYPE_PUB || port->type == TYPE_XPUB) && !publish_attach(port)) {
        port->peer_count--;
        refuse(reading, "there is no memory for it");
        return;
    }
    peer->attached = true;
}

static void get_user_id(struct reading *reading, struct peer *peer)
{
    size_t size;
    const uint8_t *user_id = get_bytes(reading, &size);

    if (reading->wrong || !size)
        return;
    if (!(peer->user_id = malloc(size))) {
        refuse(reading, "there is no memory for it");
        return;
    }
    memcpy(peer->user_id, user_id, size);
    peer->user_id_size = size;
}

static void get_topics(struct reading *reading, struct peer *peer)
{
    struct port *port = peer->port;
    uint64_t count = get_u64(reading);

    refuse_unless(reading, !count || (peer->attached && (port->type == TYPE_PUB || port->type == TYPE_XPUB)),
                  "a peer subscribes that cannot");
    for (uint64_t i = 0; i < count && !reading->wrong; i++) {
        size_t size;
        const uint8_t *topic = get_bytes(reading, &size);
        if (reading->wrong)
            return;
        enum subscribed subscribed = topics_subscribe(&port->topics, peer, &peer->subscriptions, topic, size);
        if (subscribed == SUBSCRIBED_NOT)
            refuse(reading, "there is no memory for it");
        else if (subscribed == SUBSCRIBED_AGAIN)
            refuse(reading, "a peer subscribes to a topic twice");
        else
            peer->subscription_count++;
    }
}

static void get_input(struct reading *reading, struct peer *peer)
{
    size_t size;
    const uint8_t *bytes = get_bytes(reading, &size);

    if (reading->wrong || !size)
        return;
    if (!(peer->in = slab_new(&peer->port->wire->pool, size))) {
        refuse(reading, "there is no memory for it");
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

/* A peer that has neither a stream nor a handshake, and is in its port's list. */
static struct peer *new_peer(struct port *port)
{
    struct peer *peer = calloc(1, sizeof *peer);

    if (!peer)
        return NULL;
    peer->port = port;
    peer->descriptor = -1;
    peer->deficit = PEER_QUANTUM_BYTES;
    link_init(&peer->all);
    link_init(&peer->readable_link);
    link_init(&peer->turn);
    link_init(&peer->dirty_link);
    link_init(&peer->unread_link);
    link_init(&peer->asking_link);
    link_init(&peer->subscriptions);
    list_append(&port->peers, &peer->all);
    port->wire->peers_alive++;
    return peer;
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

static void get_peer(struct reading *reading, struct port *port, struct account *const *accounts, uint32_t count)
{
    unsigned flags = get_u8(reading);
    double now_s = port->wire->now_s;
    struct peer *peer;

    if (!refuse_unless(reading, are_sound(flags), "the marks of a peer contradict each other") || reading->wrong)
        return;
    if (!refuse_unless(reading, !(flags & FLAG_STREAM) || reading->descriptors_taken < reading->descriptor_count,
                       "there are more peers than descriptors"))
        return;
    if (!(peer = new_peer(port))) {
        refuse(reading, "there is no memory for it");
        return;
    }
    if (flags & FLAG_STREAM) {
        peer->descriptor = reading->descriptors[reading->descriptors_taken++];
        port->connections++;
    }
    /* From here on the port ends this peer, whatever is wrong with the rest of its record. */
    list_append(&port->readable, &peer->readable_link);
    peer->leaves = flags & FLAG_LEAVES || peer->descriptor < 0;
    peer->discarding = flags & FLAG_DISCARDING;
    peer->readable = flags & FLAG_READABLE && peer->descriptor >= 0;
    if (!list_read_peer(reading, peer) ||
        (flags & FLAG_HANDSHAKE && !(peer->handshake = calloc(1, sizeof *peer->handshake)))) {
        refuse(reading, "there is no memory for it");
        return;
    }
    port->handshakes += peer->handshake != NULL;
    peer->minor = get_u8(reading);
    peer->reason = get_u8(reading) % REASON_COUNT;
    peer->since_s = now_s - get_seconds(reading);
    peer->heard_s = now_s - get_seconds(reading);
    peer->ping_s = flags & FLAG_PING ? now_s + get_seconds(reading) : 0;
    peer->ttl_s = get_seconds(reading);
    refuse_unless(reading, peer->ttl_s >= 0, "a time is too far away");
    peer->received = get_amount(reading);
    peer->sent = get_amount(reading);
    peer->dropped = get_u64(reading);
    if (peer->handshake)
        get_handshake(reading, peer);
    get_input(reading, peer);
    get_id(reading, peer, flags & FLAG_ATTACHED);
    get_user_id(reading, peer);
    peer->outstanding = get_u64(reading);
    get_topics(reading, peer);
    refuse_unless(reading, peer->descriptor >= 0 || peer->end, "a peer is recorded of which nothing is left");
    struct queue out = {0};
    get_queue(reading, port, &out, accounts, count);
    peer->out = out;
    refuse_unless(reading, peer->attached || peer->handshake || !out.first, "something waits for a peer that has left");
    peer->blocked = out.first && peer->descriptor >= 0;
}

static void get_partner(struct reading *reading, struct port *port)
{
    uint32_t number = get_u32(reading);
    struct peer *partner;

    if (!refuse_unless(reading, number <= reading->peer_count, "the partner of a request is no peer") || reading->wrong)
        return;
    partner = number ? reading->peers[number - 1] : NULL;
    bool sound = !partner && !port->engaged;
    if (port->type == TYPE_REP)
        sound = !partner || (port->engaged && partner->attached);
    else if (port->type == TYPE_REQ)
        sound = port->engaged ? partner && !partner->handshake : !partner;
    if (refuse_unless(reading, sound, "a request and its partner contradict each other"))
        port->partner = partner;
}

/* Those that a message can be given to. What waits for another peer is given to the first one. */
static void find_room(struct port *port)
{
    if (port->type != TYPE_PUSH && port->type != TYPE_DEALER && port->type != TYPE_REQ)
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
    refuse_unless(reading, get_u32(reading) == MAGIC, "it is not the record of a port");
    refuse_unless(reading, get_u32(reading) == RECORD_VERSION, "it is of another version");
    refuse_unless(reading, get_u8(reading) == port->type, "the port is of another type");
    uint8_t marks = get_u8(reading);
    refuse_unless(reading, marks <= ENGAGED && (!marks || port->type == TYPE_REP || port->type == TYPE_REQ),
                  "the marks of a port are malformed");
    port->engaged = !reading->wrong && marks;
    port->next_id = get_u32(reading);
    port->discarded.frames = get_u64(reading);
    port->discarded.bytes = get_u64(reading);
    unsigned reasons = get_u8(reading);
    refuse_unless(reading, reasons <= REASON_COUNT, "connections have ended for reasons that there are not");
    for (unsigned reason = 0; reason < reasons && !reading->wrong; reason++)
        port->ended_by[reason] = get_u64(reading);
    get_subscriptions(reading, port);
    get_prefixes(reading, port);
    get_envelope(reading, port);
    get_queue(reading, port, &port->orphans, accounts, account_count);
    bool may_wait = (port->type == TYPE_PUSH || port->type == TYPE_DEALER) && !port->orphans.written;
    refuse_unless(reading, !port->orphans.first || may_wait, "messages wait for another peer where none takes them");
    for (uint64_t left = get_u64(reading); left && !reading->wrong; left--)
        get_peer(reading, port, accounts, account_count);
    get_partner(reading, port);
    refuse_unless(reading, get_u32(reading) == END_MARK && reading->at == reading->end, "it goes on behind its end");
    refuse_unless(reading, reading->descriptors_taken == reading->descriptor_count, "there are more descriptors than peers");
    if (!reading->wrong)
        find_room(port);
    return !reading->wrong;
}
