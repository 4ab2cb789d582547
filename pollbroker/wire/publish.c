/* PUB and XPUB: to each peer what it has subscribed to. */
#include "publish.h"

#include <stdlib.h>
#include <string.h>

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
        struct subscriber *subscriber = LISTED(link, struct subscription, of_topic)->pair.subscriber;
        if (!subscriber->peer || subscriber->epoch == port->topics.epoch)
            continue; /* it has left, or has subscribed to another prefix of this topic, too */
        subscriber->epoch = port->topics.epoch;
        port->matched[matching->first + matching->count++] = subscriber->peer;
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

/* Give a peer as many of the messages as it has room for. The others are dropped. */
static void give(struct peer *peer, const struct message *message)
{
    uint64_t most = (uint64_t) peer->port->options.sndhwm, count = message->run.amount.messages;

    if (!peer_makes_room(peer)) {
        if (peer->attached)
            peer_drop(peer, count);
    } else if (count > 1 && most && peer->out.messages + count > most) {
        struct message one = *message;
        for (struct run rest = message->run; rest.start < rest.end && peer->attached; rest.start = one.run.end) {
            one.run = run_first(&rest);
            give(peer, &one);
        }
    } else if (peer->attached && !peer_enqueue(peer, message, NULL)) {
        peer_drop(peer, count);
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
                if (!peer_makes_room(port->matched[i]) && port->matched[i]->attached) {
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
