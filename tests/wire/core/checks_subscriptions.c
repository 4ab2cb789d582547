/* What subscriptions take, of which peers may make many. */
#include "checks.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

static void check_unread_subscriptions(void)
{
    begin(TYPE_XSUB, TYPE_XPUB);
    struct port *port = &simulation.ports[0];
    struct remote *remote = join(0, TYPE_PUB, "");
    remote->window = 0;
    measure();
    for (int i = 0; i < 1000000; i++) {
        port_subscribe(port, (const uint8_t *) "topic", 5);
        port_unsubscribe(port, (const uint8_t *) "topic", 5);
    }
    CHECK(port->ended_by[REASON_SUBSCRIPTIONS] == 1, "the connection has not ended");
    for (size_t i = 0; i < 20000; i++) {
        uint8_t topic[1000] = {0};
        memcpy(topic, &i, sizeof i);
        port_subscribe(port, topic, sizeof topic);
    }
    remote = join(0, TYPE_PUB, "");
    remote->window = 0;
    for (size_t i = 0; i < 1000; i++)
        port_subscribe(port, (const uint8_t *) &i, sizeof i);
    CHECK(remote->peer, "a publisher is to be given the time to read what there is");
    report("two million subscriptions to one topic, 21,000 to others, and a publisher that reads nothing", 60 << 20);
}

static void subscribe_to(struct remote *remote, size_t first, size_t count, size_t size)
{
    uint8_t topic[4096];

    memset(topic, 'x', sizeof topic);
    for (size_t i = first; i < first + count; i++) {
        memcpy(topic + size - 8, &i, 8);
        remote_send_command(remote, "SUBSCRIBE", topic, size);
    }
    remote_deliver(remote, SIZE_MAX);
}

static void check_long_subscriptions(void)
{
    enum { COUNT = 20000, SIZE = 4000 };

    begin(TYPE_XPUB, TYPE_XSUB);
    struct remote *remote = join(0, TYPE_SUB, "");
    measure();
    subscribe_to(remote, 0, COUNT, SIZE);
    CHECK(take_all(&simulation.ports[0]) == COUNT, "subscriptions are lost");
    printf("  a subscription of %d bytes takes %zu\n", SIZE, measured_bytes() / COUNT);
    CHECK(used_s() < 5, "it takes too long");
    report("20,000 subscriptions of 4,000 bytes", COUNT * (SIZE + 300) + 4 * SLAB_LARGE);
}

/* No turn removes more subscriptions than some, and each that is removed is told of. */
static void check_removal_in_turns(size_t count)
{
    enum { MOST = 2000 };
    struct port *port = &simulation.ports[0];
    double longest_s = 0;

    for (size_t left = port->topics.subscriptions.count; left;) {
        double before_s = used_s();
        CHECK(simulation_serve(&simulation), "nobody goes on removing them");
        longest_s = used_s() - before_s > longest_s ? used_s() - before_s : longest_s;
        CHECK(left - port->topics.subscriptions.count <= MOST, "%zu are removed in a turn",
              left - port->topics.subscriptions.count);
        left = port->topics.subscriptions.count;
    }
    CHECK(take_all(port) == count, "the owner of the port is not told of each");
    printf("  the longest turn that removes some of them takes %.2f ms\n", longest_s * 1000);
}

static void check_many_subscriptions(void)
{
    enum { PEERS = 10, COUNT = 100000, SIZE = 16 };
    struct remote *remotes[PEERS];

    begin(TYPE_XPUB, TYPE_XSUB);
    for (int i = 0; i < PEERS; i++)
        remotes[i] = join(0, TYPE_SUB, "");
    measure();
    for (int i = 0; i < PEERS; i++) {
        subscribe_to(remotes[i], (size_t) i * COUNT, COUNT, SIZE);
        CHECK(take_all(&simulation.ports[0]) == COUNT, "subscriptions are lost");
    }
    printf("  a subscription of %d bytes takes %zu\n", SIZE, measured_bytes() / (PEERS * COUNT));
    CHECK(used_s() < 10, "it takes too long");
    for (int i = 0; i < PEERS; i++)
        remote_leave(remotes[i], false);
    check_removal_in_turns(PEERS * COUNT);
    CHECK(measured_bytes() < (1 << 20) + 2 * WIRE_POOL_KEEPS * SLAB_LARGE, "%zu bytes are kept", measured_bytes());
    report("a million subscriptions of 16 bytes", PEERS * COUNT * (SIZE + 300));
}

/* Subscribers that leave as soon as they have subscribed: what they leave is removed as quickly as more comes. */
static void check_subscriptions_come_and_go(void)
{
    enum { PEERS = 10, COUNT = 100000, SIZE = 16 };

    begin(TYPE_PUB, TYPE_XSUB);
    struct port *port = &simulation.ports[0];
    measure();
    for (int i = 0; i < PEERS; i++) {
        struct remote *remote = join(0, TYPE_SUB, "");
        subscribe_to(remote, (size_t) i * COUNT, COUNT, SIZE);
        while (bytes_left(&remote->out) || peer_subscription_count(remote->peer) < COUNT) {
            struct message message;
            simulation_serve(&simulation);
            port->may_read = 1 << 20;
            CHECK(port_take(port, &message, 1000) != TAKEN_MESSAGE, "a PUB has something to tell");
        }
        remote_leave(remote, false);
        simulation_serve(&simulation);
        CHECK(port->topics.subscriptions.count <= COUNT, "%zu are left", port->topics.subscriptions.count);
    }
    take_all(port);
    CHECK(!port->topics.subscriptions.count, "%zu are left in the end", port->topics.subscriptions.count);
    report("a million subscriptions, of which a hundred thousand are there at a time", 2 * COUNT * (SIZE + 300));
}

/* Topics of a subscriber that wants all of them to be looked for in the same place of a map, if that place is the low bits of
 * a sum that anybody can make of a short topic. */
static void subscribe_to_chosen_topics(struct remote *remote, size_t count)
{
    enum { SIZE = 6, SLOTS = 1 << 16, PLACES = 256 };
    uint8_t topic[SIZE];

    for (uint64_t number = 0; count; number++) {
        uint64_t sum = (number | (uint64_t) 1 << 8 * SIZE) * 0x9e3779b97f4a7c15;
        if (((sum ^ sum >> 32) & (SLOTS - 1)) >= PLACES)
            continue;
        for (size_t i = 0; i < SIZE; i++)
            topic[i] = (uint8_t) (number >> 8 * (SIZE - 1 - i));
        remote_send_command(remote, "SUBSCRIBE", topic, sizeof topic);
        count--;
    }
    remote_deliver(remote, SIZE_MAX);
}

/* The most slots that follow one another and are all in use: whoever looks for a key may have to look at so many. */
static size_t longest_row(const struct map *map)
{
    size_t longest = 0, row = 0;

    for (size_t i = 0; i < 2 * map->capacity; i++) { /* the first slot follows the last */
        row = map->slots[i & (map->capacity - 1)] ? row + 1 : 0;
        longest = row > longest ? row : longest;
    }
    return longest;
}

static void check_chosen_topics(void)
{
    enum { COUNT = 20000 };

    begin(TYPE_XPUB, TYPE_XSUB);
    struct remote *remote = join(0, TYPE_SUB, "");
    measure();
    subscribe_to_chosen_topics(remote, COUNT);
    CHECK(take_all(&simulation.ports[0]) == COUNT, "subscriptions are lost");
    size_t row = longest_row(&simulation.ports[0].topics.prefixes.map);
    CHECK(row < 200, "%zu slots have to be looked at for a topic", row);
    report("20,000 topics that were chosen to be in the same place of a map", COUNT * 300 + 4 * SLAB_LARGE);
}

const struct check SUBSCRIPTION_CHECKS[] = {
    {"unread-subscriptions", check_unread_subscriptions},
    {"long-subscriptions", check_long_subscriptions},
    {"many-subscriptions", check_many_subscriptions},
    {"subscriptions-come-and-go", check_subscriptions_come_and_go},
    {"chosen-topics", check_chosen_topics},
    {0},
};
