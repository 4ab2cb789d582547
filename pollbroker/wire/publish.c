#include "wire.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

/* -- PUB and XPUB: to each peer what it has subscribed to ------------------------------------------------------------- */

struct matching {
    struct port *port;
    size_t count;
    bool no_memory;
};

static bool match(struct prefix *prefix, void *data)
{
    struct matching *matching = data;
    struct port *port = matching->port;

    for (struct link *link = prefix->subscriptions.next; link != &prefix->subscriptions; link = link->next) {
        struct peer *peer = LISTED(link, struct subscription, of_topic)->pair.peer;
        if (peer->epoch == port->topics.epoch)
            continue; /* it has subscribed to another prefix of this topic, too */
        peer->epoch = port->topics.epoch;
        if (matching->count == port->matched_room) {
            size_t room = port->matched_room ? 2 * port->matched_room : 16;
            struct peer **grown = realloc(port->matched, room * sizeof *grown);
            if (!grown) {
                matching->no_memory = true;
                return false;
            }
            port->matched = grown;
            port->matched_room = room;
        }
        port->matched[matching->count++] = peer;
    }
    return true;
}

static bool has_room_after_flush(struct peer *peer)
{
    if (!peer_has_room(peer) && !peer->blocked)
        peer_flush(peer);
    return peer_has_room(peer);
}

enum put publish_put(struct port *port, const struct message *message, struct account *account)
{
    struct matching matching = {.port = port};
    const uint8_t *topic;
    size_t size, rest;

    port->topics.epoch++;
    message_first(message, &topic, &size, &rest);
    prefixes_of(&port->topics.prefixes, topic, size, match, &matching);
    if (matching.no_memory)
        return PUT_NO_MEMORY;
    if (port->options.xpub_nodrop)
        for (size_t i = 0; i < matching.count; i++)
            if (!has_room_after_flush(port->matched[i]) && port->matched[i]->attached) {
                port->awaited = port->matched[i];
                return PUT_FULL;
            }
    for (size_t i = 0; i < matching.count; i++) {
        struct peer *peer = port->matched[i];
        if (!has_room_after_flush(peer)) {
            peer->dropped += peer->attached;
        } else if (peer->attached) {
            peer_enqueue(peer, message, NULL);
        }
    }
    struct amount amount = message->run.amount;
    amount.frames += message->prefix_amount.frames;
    amount.bytes += message->prefix_amount.bytes;
    amount_add(&account->sent, amount);
    return PUT_ACCEPTED;
}

/* An XPUB tells its owner of a subscription, by a message of one frame. */
static bool tell(struct port *port, bool subscribe, const uint8_t *topic, size_t size)
{
    struct slab *slab = slab_new(&port->wire->pool, FRAME_LONG_HEADER + 1 + size);

    if (!slab)
        return false;
    size_t header = frame_write_header(slab->bytes, 0, 1 + size);
    slab->bytes[header] = subscribe;
    if (size)
        memcpy(slab->bytes + header + 1, topic, size);
    struct amount one = {.messages = 1, .frames = 1, .bytes = 1 + size};
    bool done = queue_copy(&port->subscriptions, &port->wire->pool, slab->bytes, header + 1 + size, one, NULL);
    slab_release(slab);
    port_note(port, NEWS_INPUT);
    return done;
}

static void tell_that_nobody_is_left(void *port, const uint8_t *topic, size_t size)
{
    tell(port, false, topic, size);
}

enum reason publish_on_subscription(struct port *port, struct peer *peer, bool subscribe, const uint8_t *topic, size_t size)
{
    const struct options *options = &port->options;

    if (port->type != TYPE_XPUB && port->type != TYPE_PUB)
        return REASON_BAD_COMMAND;
    if (!peer->attached)
        return NO_REASON; /* it has left meanwhile */
    if (subscribe) {
        if (size > options->subscription_max_bytes || peer->subscription_count >= options->subscriptions_max)
            return REASON_SUBSCRIPTIONS;
        enum subscribed subscribed = topics_subscribe(&port->topics, peer, &peer->subscriptions, topic, size);
        if (subscribed == SUBSCRIBED_NOT)
            return REASON_NO_MEMORY;
        peer->subscription_count += subscribed != SUBSCRIBED_AGAIN;
        if (port->type == TYPE_XPUB &&
            (subscribed == SUBSCRIBED_FIRST || options->xpub_verbose || options->xpub_verboser))
            return tell(port, true, topic, size) ? NO_REASON : REASON_NO_MEMORY;
        return NO_REASON;
    }
    enum cancelled cancelled = topics_cancel(&port->topics, peer, topic, size);
    peer->subscription_count -= cancelled != CANCELLED_NOTHING;
    if (port->type == TYPE_XPUB && (cancelled == CANCELLED_LAST || (cancelled && options->xpub_verboser)))
        return tell(port, false, topic, size) ? NO_REASON : REASON_NO_MEMORY;
    return NO_REASON;
}

void publish_detach(struct port *port, struct peer *peer)
{
    bool tells = port->type == TYPE_XPUB && !port->ended;

    while (!list_is_empty(&peer->subscriptions))
        topics_remove(&port->topics, LISTED(peer->subscriptions.next, struct subscription, of_peer),
                      tells ? tell_that_nobody_is_left : NULL, port);
    peer->subscription_count = 0;
    if (port->awaited == peer) {
        port->awaited = NULL;
        port_note(port, NEWS_ROOM);
    }
    queue_forget(&peer->out);
}

/* -- SUB and XSUB: to every peer what is subscribed to here ----------------------------------------------------------- */

enum { SUBSCRIPTION_START_MAX = FRAME_LONG_HEADER + sizeof "\11SUBSCRIBE" };

static void send_subscription(struct peer *peer, bool subscribe, const uint8_t *topic, size_t size)
{
    static const char commands[2][11] = {"\6CANCEL", "\11SUBSCRIBE"};
    uint8_t start[SUBSCRIPTION_START_MAX];
    size_t name_size = strlen(commands[subscribe]), header;

    if (peer->minor) { /* ZMTP 3.1 */
        header = frame_write_header(start, FRAME_COMMAND, name_size + size);
        memcpy(start + header, commands[subscribe], name_size);
        header += name_size;
    } else {
        header = frame_write_header(start, 0, 1 + size);
        start[header++] = subscribe;
    }
    peer_enqueue_bytes(peer, start, header);
    peer_enqueue_bytes(peer, topic, size);
}

void subscribe_attach(struct port *port, struct peer *peer)
{
    const struct map *map = &port->prefixes.map;

    for (size_t i = 0; i < map->capacity; i++)
        if (map->slots[i])
            send_subscription(peer, true, map->slots[i]->bytes, map->slots[i]->size);
}

static void send_to_all(struct port *port, bool subscribe, const uint8_t *topic, size_t size)
{
    for (struct link *link = port->peers.next, *next; link != &port->peers; link = next) {
        struct peer *peer = LISTED(link, struct peer, all);
        next = link->next;
        if (peer->attached && peer->out.bytes > PEER_QUEUE_BYTES + 2 * port->prefixes_bytes)
            peer_end(peer, REASON_SUBSCRIPTIONS); /* it is told all of them anew when it is connected again */
        else if (peer->attached)
            send_subscription(peer, subscribe, topic, size);
    }
}

bool port_subscribe(struct port *port, const uint8_t *topic, size_t size)
{
    struct prefix *prefix = prefixes_get(&port->prefixes, topic, size);

    if (!prefix)
        return false;
    if (!prefix->count++) {
        port->prefixes_bytes += SUBSCRIPTION_START_MAX + size;
        send_to_all(port, true, topic, size);
    }
    return true;
}

bool port_unsubscribe(struct port *port, const uint8_t *topic, size_t size)
{
    struct prefix *prefix = prefixes_find(&port->prefixes, topic, size);

    if (prefix && !--prefix->count) {
        port->prefixes_bytes -= SUBSCRIPTION_START_MAX + size;
        send_to_all(port, false, topic, size);
        prefixes_remove(&port->prefixes, prefix);
    }
    return true;
}

enum put subscribe_put(struct port *port, const struct message *message, struct account *account)
{
    const uint8_t *body;
    size_t size, rest;
    struct amount amount = message->run.amount;

    message_first(message, &body, &size, &rest);
    if (size && body[0] <= 1) {
        if (size - 1 > port->options.subscription_max_bytes)
            return PUT_LONG_SUBSCRIPTION;
        if (!(body[0] ? port_subscribe : port_unsubscribe)(port, body + 1, size - 1))
            return PUT_NO_MEMORY;
    } else {
        /* A message of the user's own goes to every publisher that has room for it. */
        for (struct link *link = port->peers.next, *next; link != &port->peers; link = next) {
            struct peer *peer = LISTED(link, struct peer, all);
            next = link->next;
            if (peer->attached && peer_has_room(peer))
                peer_enqueue(peer, message, NULL);
            else
                peer->dropped += peer->attached;
        }
    }
    amount.frames += message->prefix_amount.frames;
    amount.bytes += message->prefix_amount.bytes;
    amount_add(&account->sent, amount);
    return PUT_ACCEPTED;
}
