#include "wire.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

/* -- PUB and XPUB: to each peer what it has subscribed to ------------------------------------------------------------- */

bool publish_attach(struct port *port)
{
    if (port->matched_room < 2 * port->peer_count) { /* two sets of peers are compared */
        size_t room = 4 * port->peer_count + 16;
        struct peer **grown = realloc(port->matched, room * sizeof *grown);
        if (!grown)
            return false;
        port->matched = grown;
        port->matched_room = room;
    }
    return true;
}

/* The peers that are to be given a message are in `port->matched`, from `first` on. */
struct matching {
    struct port *port;
    size_t first, count;
};

static bool match(struct prefix *prefix, void *data)
{
    struct matching *matching = data;
    struct port *port = matching->port;

    for (struct link *link = prefix->subscriptions.next; link != &prefix->subscriptions; link = link->next) {
        struct peer *peer = LISTED(link, struct subscription, of_topic)->pair.peer;
        if (peer->subscriber.epoch == port->topics.epoch)
            continue; /* it has subscribed to another prefix of this topic, too */
        peer->subscriber.epoch = port->topics.epoch;
        port->matched[matching->first + matching->count++] = peer;
    }
    return true;
}

/* Find the peers that have subscribed to a message. */
static void find_subscribers(struct matching *matching, const struct message *message)
{
    struct topics *topics = &matching->port->topics;
    const uint8_t *topic;
    size_t size, rest;

    topics->epoch++;
    matching->count = 0;
    message_first(message, &topic, &size, &rest);
    prefixes_of(&topics->prefixes, topic, size, match, matching);
}

static bool has_room_after_flush(struct peer *peer)
{
    if (!peer_has_room(peer) && !peer->blocked)
        peer_flush(peer);
    return peer_has_room(peer);
}

/* Give a peer as many of the messages as it has room for. The others are dropped. */
static void give(struct peer *peer, const struct message *message)
{
    uint64_t most = (uint64_t) peer->port->options.sndhwm, count = message->run.amount.messages;

    if (!has_room_after_flush(peer)) {
        peer->dropped += peer->attached ? count : 0;
    } else if (count > 1 && most && peer->out.messages + count > most) {
        struct message one = *message;
        for (struct run rest = message->run; rest.start < rest.end && peer->attached; rest.start = one.run.end) {
            one.run = run_first(&rest);
            give(peer, &one);
        }
    } else if (peer->attached) {
        peer_enqueue(peer, message, NULL);
    }
}

static void give_to_all(const struct matching *matching, const struct message *message)
{
    for (size_t i = 0; i < matching->count; i++)
        give(matching->port->matched[matching->first + i], message);
}

/* Give a run of messages to those that have subscribed to them. Messages that follow one another and go to the same peers
 * are given to them as one run. */
static void give_run(struct matching *matching, const struct message *message)
{
    struct peer **matched = matching->port->matched;
    struct message part = *message, one = *message;
    struct run rest = message->run;

    part.run.end = part.run.start;
    part.run.amount = (struct amount){0};
    while (rest.start < rest.end) {
        struct matching next = {.port = matching->port, .first = matching->count};
        one.run = run_first(&rest);
        find_subscribers(&next, &one);
        if (next.count != matching->count || memcmp(matched, matched + next.first, next.count * sizeof *matched)) {
            give_to_all(matching, &part);
            memmove(matched, matched + next.first, next.count * sizeof *matched);
            matching->count = next.count;
            part.run = one.run;
        } else {
            part.run.end = one.run.end;
            amount_add(&part.run.amount, one.run.amount);
        }
        rest.start = one.run.end;
    }
    give_to_all(matching, &part);
}

enum put publish_put(struct port *port, const struct message *message, struct account *account)
{
    struct matching matching = {.port = port};

    if (message->run.amount.messages > 1 && port->topics.prefixes.longest) {
        give_run(&matching, message);
    } else { /* one message, or all peers have subscribed to everything */
        find_subscribers(&matching, message);
        if (port->options.xpub_nodrop)
            for (size_t i = 0; i < matching.count; i++)
                if (!has_room_after_flush(port->matched[i]) && port->matched[i]->attached) {
                    port->awaited = port->matched[i];
                    return PUT_FULL;
                }
        give_to_all(&matching, message);
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

static void wait_no_more(struct port *port, const struct peer *peer)
{
    if (port->awaited == peer) {
        port->awaited = NULL;
        port_note(port, NEWS_ROOM);
    }
}

enum reason publish_on_subscription(struct port *port, struct peer *peer, bool subscribe, const uint8_t *topic, size_t size)
{
    const struct options *options = &port->options;
    struct subscriber *subscriber = &peer->subscriber;

    if (!port_publishes(port))
        return REASON_BAD_COMMAND;
    if (!peer->attached)
        return NO_REASON; /* it has left meanwhile */
    if (subscribe) {
        if (size > options->subscription_max_bytes || subscriber->subscription_count >= options->subscriptions_max)
            return REASON_SUBSCRIPTIONS;
        enum subscribed subscribed = topics_subscribe(&port->topics, peer, &subscriber->subscriptions, topic, size);
        if (subscribed == SUBSCRIBED_NOT)
            return REASON_NO_MEMORY;
        subscriber->subscription_count += subscribed != SUBSCRIBED_AGAIN;
        if (port->type == TYPE_XPUB &&
            (subscribed == SUBSCRIBED_FIRST || options->xpub_verbose))
            return tell(port, true, topic, size) ? NO_REASON : REASON_NO_MEMORY;
        return NO_REASON;
    }
    enum cancelled cancelled = topics_cancel(&port->topics, peer, topic, size);
    subscriber->subscription_count -= cancelled != CANCELLED_NOTHING;
    if (cancelled)
        wait_no_more(port, peer); /* the message that waits may not be for it any more */
    if (port->type == TYPE_XPUB && (cancelled == CANCELLED_LAST || (cancelled && options->xpub_verboser)))
        return tell(port, false, topic, size) ? NO_REASON : REASON_NO_MEMORY;
    return NO_REASON;
}

void publish_detach(struct port *port, struct peer *peer)
{
    bool tells = port->type == TYPE_XPUB && !port->ended;

    while (!list_is_empty(&peer->subscriber.subscriptions)) {
        struct link *first = peer->subscriber.subscriptions.next;
        struct subscription *subscription = LISTED(first, struct subscription, of_peer);
        const struct prefix *topic = subscription->pair.topic;
        bool is_last = topic->subscriptions.next == topic->subscriptions.previous;
        if (tells && (is_last || port->options.xpub_verboser))
            tell(port, false, topic->key.bytes, topic->key.size);
        topics_remove(&port->topics, subscription);
    }
    peer->subscriber.subscription_count = 0;
    wait_no_more(port, peer);
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
    if (!prefix->count++)
        port->prefixes_bytes += SUBSCRIPTION_START_MAX + size;
    send_to_all(port, true, topic, size); /* each one, since the other side may be told of all that there are */
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
