/* PUB and XPUB: the subscriptions of their peers.
 *
 * A peer may leave with a hundred thousand subscriptions. They are removed little by little, so many in each turn. Until then
 * they are those of a subscriber whose peer is gone. For each subscription that comes meanwhile one of these is removed, so that
 * they do not become more and more. */
#include "publish.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

#ifndef WIRE_REMOVALS_PER_TURN
#define WIRE_REMOVALS_PER_TURN 2000 /* about a millisecond; less in a fuzzer, so that it often takes several turns */
#endif

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

uint64_t peer_subscription_count(const struct peer *peer)
{
    return port_publishes(peer->port) && peer->subscriber ? peer->subscriber->count : 0;
}

enum subscribed peer_subscribe(struct peer *peer, const uint8_t *topic, size_t size)
{
    if (!peer->subscriber) {
        if (!(peer->subscriber = calloc(1, sizeof *peer->subscriber)))
            return SUBSCRIBED_NOT;
        peer->subscriber->port = peer->port;
        peer->subscriber->peer = peer;
        link_init(&peer->subscriber->subscriptions);
        link_init(&peer->subscriber->left);
    }
    return topics_subscribe(&peer->port->topics, peer->subscriber, topic, size);
}

/* Remove the first subscription of a subscriber, of whose peer nothing is left. */
static void remove_first(struct port *port, const struct subscriber *subscriber)
{
    struct subscription *first = LISTED(subscriber->subscriptions.next, struct subscription, of_subscriber);
    const struct prefix *topic = first->pair.topic;
    bool is_last = topic->subscriptions.next == topic->subscriptions.previous;

    /* If there is no memory for it, the publishers go on sending what nobody has subscribed to. */
    if (port->type == TYPE_XPUB && (is_last || port->options.xpub_verboser))
        tell(port, false, topic->key.bytes, topic->key.size);
    topics_remove(&port->topics, first);
}

static void free_subscriber(struct subscriber *subscriber)
{
    if (link_is_in(&subscriber->left))
        link_remove(&subscriber->left);
    free(subscriber);
}

static void remove_as_many_as_may_be(struct wire *wire)
{
    while (!list_is_empty(&wire->left)) {
        struct subscriber *subscriber = LISTED(wire->left.next, struct subscriber, left);
        for (; subscriber->count; wire->removals--) {
            if (!wire->removals)
                return;
            remove_first(subscriber->port, subscriber);
        }
        free_subscriber(subscriber);
    }
}

enum reason publish_on_subscription(struct port *port, struct peer *peer, bool subscribe, const uint8_t *topic, size_t size)
{
    const struct options *options = &port->options;

    if (!port_publishes(port))
        return REASON_BAD_COMMAND;
    if (!peer->attached)
        return NO_REASON; /* it has left meanwhile */
    if (subscribe) {
        bool has_all = peer_subscription_count(peer) >= options->subscriptions_max;
        if (size > options->subscription_max_bytes || (has_all && !topics_have(&port->topics, peer->subscriber, topic, size)))
            return REASON_SUBSCRIPTIONS;
        if (!list_is_empty(&port->wire->left)) {
            port->wire->removals++;
            remove_as_many_as_may_be(port->wire);
        }
        enum subscribed subscribed = peer_subscribe(peer, topic, size);
        if (subscribed == SUBSCRIBED_NOT)
            return REASON_NO_MEMORY;
        if (port->type == TYPE_XPUB &&
            (subscribed == SUBSCRIBED_FIRST || options->xpub_verbose))
            return tell(port, true, topic, size) ? NO_REASON : REASON_NO_MEMORY;
        return NO_REASON;
    }
    if (!peer->subscriber)
        return NO_REASON;
    enum cancelled cancelled = topics_cancel(&port->topics, peer->subscriber, topic, size);
    if (cancelled)
        wait_no_more(port, peer); /* the message that waits may not be for it any more */
    if (port->type == TYPE_XPUB && (cancelled == CANCELLED_LAST || (cancelled && options->xpub_verboser)))
        return tell(port, false, topic, size) ? NO_REASON : REASON_NO_MEMORY;
    return NO_REASON;
}

void wire_remove_subscriptions(struct wire *wire)
{
    wire->removals = WIRE_REMOVALS_PER_TURN;
    remove_as_many_as_may_be(wire);
}

void publish_detach(struct port *port, struct peer *peer)
{
    struct subscriber *subscriber = peer->subscriber;

    peer->subscriber = NULL;
    if (subscriber) {
        subscriber->peer = NULL;
        list_append(&port->wire->left, &subscriber->left);
        if (!port->ended)
            remove_as_many_as_may_be(port->wire);
    }
    wait_no_more(port, peer);
    queue_forget(&peer->out);
}

void publish_remove_all(struct port *port)
{
    for (struct link *link = port->wire->left.next, *next; link != &port->wire->left; link = next) {
        struct subscriber *subscriber = LISTED(link, struct subscriber, left);
        next = link->next;
        if (subscriber->port != port)
            continue;
        while (subscriber->count)
            remove_first(port, subscriber);
        free_subscriber(subscriber);
    }
}

void publish_end(struct port *port)
{
    for (struct link *link = port->wire->left.next, *next; link != &port->wire->left; link = next) {
        struct subscriber *subscriber = LISTED(link, struct subscriber, left);
        next = link->next;
        if (subscriber->port != port)
            continue;
        topics_forget(subscriber);
        free_subscriber(subscriber);
    }
    topics_free(&port->topics);
    free(port->matched);
}
