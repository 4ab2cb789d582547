/* SUB and XSUB: what is subscribed to here, which every publisher is told. */
#include "publish.h"

#include "frame.h"

#include <string.h>

enum {
    SUBSCRIPTION_START_MAX = FRAME_LONG_HEADER + sizeof "\11SUBSCRIBE",
    /* A publisher that has more to read than that, beside the subscriptions that there are, is taken for one that does not read.
     * It is enough for the end of a hundred thousand short ones at a time. */
    UNREAD_SUBSCRIPTIONS_BYTES = 16 << 20
};

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
        if (peer->attached && peer->out.bytes > UNREAD_SUBSCRIPTIONS_BYTES + 2 * port->prefixes_bytes)
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
            if (!peer->attached)
                continue;
            bool has_room = peer_makes_room(peer);
            if (peer->attached && !(has_room && peer_enqueue(peer, message, NULL)))
                peer_drop(peer, message->run.amount.messages);
        }
    }
    amount.frames += message->prefix_amount.frames;
    amount.bytes += message->prefix_amount.bytes;
    amount_add(&account->sent, amount);
    return PUT_ACCEPTED;
}
