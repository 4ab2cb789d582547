/* Bounds of memory, of time, and of what one peer can take from another. */
#include "simulation.h"

#include "frame.h"

#include <string.h>
#include <time.h>

static struct simulation simulation;
static size_t memory_before;
static double began_s;

static double used_s(void)
{
    return (double) clock() / CLOCKS_PER_SEC - began_s;
}

static void begin(enum socket_type source, enum socket_type sink)
{
    simulation_begin(&simulation);
    simulation_add_port(&simulation, source);
    simulation_add_port(&simulation, sink);
}

static struct remote *join(int place, enum socket_type type, const char *identity)
{
    struct remote *remote = remote_new(&simulation, place, type, ZMTP_31);

    CHECK(remote, "a simulation has no more than %d remotes", REMOTES_MAX);
    remote->identity_size = strlen(identity);
    memcpy(remote->identity, identity, remote->identity_size);
    remote_send_greeting(remote);
    remote_deliver(remote, SIZE_MAX);
    simulation_serve(&simulation);
    CHECK(remote->peer && remote->peer->attached, "hands were not shaken");
    remote_parse(remote);
    return remote;
}

static void measure(void)
{
    memory.peak = memory_before = memory.bytes;
    began_s = (double) clock() / CLOCKS_PER_SEC;
}

static void report(const char *name, size_t most)
{
    size_t peak = memory.peak - memory_before;

    printf("%s: %zu bytes at most, %.2f s of the processor\n", name, peak, used_s());
    CHECK(peak <= most, "%s: more than %zu bytes", name, most);
    simulation_check(&simulation);
    for (unsigned i = 0; i < simulation.remote_count; i++)
        free(simulation.remotes[i]->model);
    simulation_end(&simulation);
}

/* Take everything that has come, and forget it. */
static uint64_t take_all(struct port *port)
{
    struct message message;
    uint64_t count = 0;

    simulation_serve(&simulation);
    for (;;) {
        port->may_read = 1 << 20;
        enum taken taken = port_take(port, &message, 1000);
        if (taken == TAKEN_NOTHING && !simulation_serve(&simulation))
            break;
        if (taken == TAKEN_MESSAGE) {
            count += message.run.amount.messages;
            port_consume(port, &message);
        }
    }
    port_flush(port);
    return count;
}

static void forget_sent(struct remote *remote)
{
    remote->out.start = remote->out.end = remote->available = 0;
}

/* -- memory
 * ------------------------------------------------------------------------------------------------------------ */

static void check_announced_frame(void)
{
    static const uint8_t header[] = {FRAME_LONG, 0x40, 0, 0, 0, 0, 0, 0, 0};

    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *remote = join(0, TYPE_PUSH, "");
    measure();
    bytes_append(&remote->out, header, sizeof header);
    remote_deliver(remote, SIZE_MAX);
    take_all(&simulation.ports[0]);
    CHECK(remote->peer, "the connection has ended");
    bytes_append(&remote->out, header, sizeof header);
    remote_deliver(remote, SIZE_MAX);
    take_all(&simulation.ports[0]);
    report("a frame of 2^62 bytes is announced", SLAB_LARGE + 2 * SLAB_SMALL);
}

static uint8_t long_body[5 << 20];
enum { MEBIBYTE = 1 << 20 };

/* From the second one on, each of several long messages of one size is read into a slab that it fits into, and is not moved. */
static void check_long_messages(void)
{
    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *remote = join(0, TYPE_PUSH, "");
    struct port *port = &simulation.ports[0];
    measure();
    for (int i = 0; i < 4; i++) {
        const struct slab *first = NULL;
        forget_sent(remote);
        remote_send_frame(remote, 0, long_body, MEBIBYTE);
        remote_send_frame(remote, 0, long_body, MEBIBYTE);
        for (uint64_t taken = 0; taken < 2;) {
            struct message message;
            simulation_serve(&simulation);
            remote_deliver(remote, 70000);
            port->may_read = 1 << 20;
            if (port_take(port, &message, 1000) == TAKEN_MESSAGE) {
                CHECK(!i || message.run.slab == first, "a long message was moved");
                taken += message.run.amount.messages;
                port_consume(port, &message);
                first = NULL;
            } else if (!first && remote->peer->in) {
                first = remote->peer->in;
            }
        }
    }
    report("messages of a mebibyte", 8 << 20);
}

/* Whoever has sent a long message, and then sends less, does not keep that much. */
static void check_after_a_long_message(void)
{
    static const uint8_t header[] = {FRAME_LONG, 0, 0, 0, 0, 0, 0x10, 0, 0};
    static const struct {
        size_t before, count, most;
    } CASES[] = {{MEBIBYTE, 20000, SLAB_LARGE}, {sizeof long_body, 70000, 2 * MEBIBYTE}};

    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        begin(TYPE_PULL, TYPE_PUSH);
        struct remote *remote = join(0, TYPE_PUSH, "");
        remote_send_frame(remote, 0, long_body, CASES[i].before);
        remote_deliver(remote, SIZE_MAX);
        CHECK(take_all(&simulation.ports[0]) == 1, "a message is lost");
        pool_empty(&simulation.wire.pool);
        measure();
        bytes_append(&remote->out, header, sizeof header); /* of a mebibyte */
        bytes_append(&remote->out, long_body, CASES[i].count);
        remote_deliver(remote, SIZE_MAX);
        take_all(&simulation.ports[0]);
        const struct peer *peer = remote->peer;
        size_t held = peer && peer->in ? peer->in->capacity : 0;
        CHECK(held && held <= CASES[i].most, "%zu bytes are held for %zu", held, CASES[i].count);
        report("a few bytes after a long message", 8 << 20);
    }
}

/* Where a long message waits to be written, no other one is read. */
static void check_long_messages_for_a_slow_peer(void)
{
    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *source = join(0, TYPE_PUSH, ""), *slow = join(1, TYPE_PULL, "");
    slow->window = 0;
    measure();
    for (int i = 0; i < 5; i++) {
        forget_sent(source);
        remote_send_frame(source, 0, long_body, MEBIBYTE);
        remote_deliver(source, SIZE_MAX);
        for (int turn = 0; turn < 20; turn++) {
            simulation_serve(&simulation);
            relay(&simulation.ports[0], &simulation.ports[1], simulation.accounts[0], 10, 1 << 20);
        }
    }
    CHECK(slow->peer->out.messages == 1, "%u messages are queued", (unsigned) slow->peer->out.messages);
    report("messages of a mebibyte for a peer that reads nothing", 4 << 20);
}

/* A port that is not read holds no more than it looks at, and still answers what comes behind its heartbeats. */
static void check_look_ahead(void)
{
    static uint8_t part[300];

    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *remote = join(0, TYPE_PUSH, "");
    measure();
    for (int i = 0; i < 5000; i++)
        remote_send_command(remote, "PONG", "", 0);
    remote_send_command(remote, "PING", "\0\0", 2);
    remote->pings = 1;
    for (int i = 0; i < 5000; i++)
        remote_send_frame(remote, 0, part, sizeof part);
    remote_deliver(remote, SIZE_MAX);
    for (int i = 0; i < 20; i++) {
        simulation_serve(&simulation);
        simulation.wire.now_s += 2 * LOOK_AFTER_S;
    }
    simulation_check(&simulation);
    remote_parse(remote);
    CHECK(remote->pongs == 1, "%u PINGs were answered", (unsigned) remote->pongs);
    const struct peer *peer = remote->peer;
    CHECK(peer->in && peer->in->capacity <= SLAB_MIDDLE, "%zu bytes are held of what nobody takes", peer->in ? peer->in->capacity : 0);
    CHECK(take_all(&simulation.ports[0]) == 5000, "messages are lost");
    report("a million bytes for a port that was not read", 2 << 20);
}

static void check_heartbeats_ahead(void)
{
    enum { TURNS = 10000, MOST = LOOK_AHEAD_BYTES / 7 - 10 };

    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *remote = join(0, TYPE_PUSH, "");
    remote_send_frame(remote, 0, "not taken", 9);
    measure();
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < MOST; i++)
            bytes_append(&remote->out, "\4\5\4PONG", 7);
        remote_deliver(remote, SIZE_MAX);
        simulation_serve(&simulation);
        simulation.wire.now_s += 2 * LOOK_AFTER_S;
        simulation_serve(&simulation);
        forget_sent(remote);
    }
    CHECK(used_s() < 1, "it takes too long");
    CHECK(take_all(&simulation.ports[0]) == 1, "the message is lost");
    report("millions of heartbeats for a port that is not read", 1 << 20);
}

/* What a SUB has not subscribed to is left out, also in the middle of a run, and behind a command. */
static void check_run_with_others(void)
{
    begin(TYPE_SUB, TYPE_PUSH);
    port_subscribe(&simulation.ports[0], (const uint8_t *) "a", 1);
    struct remote *remote = join(0, TYPE_PUB, "");
    measure();
    for (int i = 0; i < 300; i++) {
        remote_send_frame(remote, 0, i % 3 ? "b" : "a", 1);
        if (i % 7 == 0)
            remote_send_command(remote, "PONG", "", 0);
    }
    remote_deliver(remote, SIZE_MAX);
    CHECK(take_all(&simulation.ports[0]) == 100, "other messages were taken than those that were subscribed to");
    report("messages of which a third was subscribed to", 2 << 20);
}

static void check_empty_frames(void)
{
    enum { FRAMES = 5000000 };

    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *remote = join(0, TYPE_PUSH, "");
    for (int i = 0; i < FRAMES; i++)
        bytes_append(&remote->out, i + 1 < FRAMES ? "\1" : "\0", 2);
    remote->read_most = 1000;
    measure();
    remote_deliver(remote, SIZE_MAX);
    CHECK(take_all(&simulation.ports[0]) == 1, "the message is lost");
    CHECK(used_s() < 5, "it takes too long");
    report("five million empty frames, ten million bytes, in reads of 1,000", 6 * 2 * FRAMES);
}

static void check_commands_in_a_message(void)
{
    enum { FRAMES = 300000 };

    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *remote = join(0, TYPE_PUSH, "");
    for (int i = 0; i < FRAMES; i++) {
        bytes_append(&remote->out, i + 1 < FRAMES ? "\1\2ab" : "\0\2ab", 4);
        bytes_append(&remote->out, "\4\5\4PONG", 7);
    }
    measure();
    remote_deliver(remote, SIZE_MAX);
    CHECK(take_all(&simulation.ports[0]) == 1, "the message is lost");
    CHECK(used_s() < 2, "it takes too long");
    report("a message of 300,000 frames with a command between any two", 6 * 11 * FRAMES);
}

static void check_commands_between_messages(void)
{
    enum { MESSAGES = 300000 };

    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *remote = join(0, TYPE_PUSH, "");
    for (int i = 0; i < MESSAGES; i++)
        bytes_append(&remote->out, "\0\0\4\5\4PONG", 9);
    measure();
    remote_deliver(remote, SIZE_MAX);
    CHECK(take_all(&simulation.ports[0]) == MESSAGES, "messages are lost");
    CHECK(used_s() < 1, "it takes too long");
    report("300,000 messages with a command between any two", 3 * SLAB_LARGE);
}

static void check_unread_pongs(void)
{
    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *remote = join(0, TYPE_PUSH, "");
    remote->window = 0;
    measure();
    for (int i = 0; i < 200; i++) {
        forget_sent(remote);
        for (int j = 0; j < 10000; j++)
            bytes_append(&remote->out, "\4\13\4PING\0\0abcd", 13);
        remote_deliver(remote, SIZE_MAX);
        take_all(&simulation.ports[0]);
    }
    report("two million PINGs from a peer that reads nothing", 2 << 20);
}

static void check_unread_replies(void)
{
    static uint8_t body[1000];

    begin(TYPE_REP, TYPE_REQ);
    struct remote *client = join(0, TYPE_REQ, ""), *server = join(1, TYPE_REP, "");
    client->window = 0;
    measure();
    for (int i = 0; i < 20000; i++) {
        forget_sent(client);
        forget_sent(server);
        server->in.start = server->in.end = 0;
        remote_send_frame(client, FRAME_MORE, "", 0);
        remote_send_frame(client, 0, "?", 1);
        remote_deliver(client, SIZE_MAX);
        simulation_serve(&simulation);
        relay(&simulation.ports[0], &simulation.ports[1], simulation.accounts[0], 10, 100000);
        remote_send_frame(server, FRAME_MORE, "", 0);
        remote_send_frame(server, 0, body, sizeof body);
        remote_deliver(server, SIZE_MAX);
        simulation_serve(&simulation);
        relay(&simulation.ports[1], &simulation.ports[0], simulation.accounts[1], 10, 100000);
    }
    CHECK(simulation.accounts[1]->received.messages == 20000, "replies are lost");
    report("20,000 replies to a peer that reads nothing", 2 << 20);
}

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

static void check_pings_between_messages_for_a_slow_peer(void)
{
    begin(TYPE_DEALER, TYPE_DEALER);
    struct remote *slow = join(0, TYPE_DEALER, ""), *other = join(1, TYPE_DEALER, "");
    simulation.ports[0].options.sndhwm = 0;
    slow->window = 0;
    measure();
    for (int i = 0; i < 20000; i++) {
        forget_sent(slow);
        forget_sent(other);
        remote_send_command(slow, "PING", "\0\0", 2);
        remote_send_frame(other, 0, "0123456789", 10);
        remote_deliver(slow, SIZE_MAX);
        remote_deliver(other, SIZE_MAX);
        simulation_serve(&simulation);
        relay(&simulation.ports[0], &simulation.ports[1], simulation.accounts[0], 10, 100000);
        relay(&simulation.ports[1], &simulation.ports[0], simulation.accounts[1], 10, 100000);
    }
    report("messages and PONGs by turns for a peer that reads nothing", 8 << 20);
}

static void check_lone_messages_for_a_slow_peer(void)
{
    static uint8_t body[4096];

    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *source = join(0, TYPE_PUSH, ""), *slow = join(1, TYPE_PULL, "");
    slow->window = 0;
    measure();
    for (int i = 0; i < 200; i++) {
        forget_sent(source);
        remote_send_frame(source, 0, body, sizeof body);
        remote_deliver(source, SIZE_MAX);
        simulation_serve(&simulation);
        relay(&simulation.ports[0], &simulation.ports[1], simulation.accounts[0], 10, 100000);
    }
    report("messages of 4,096 bytes, one at a time, for a peer that reads nothing",
           PEER_QUEUE_BYTES / 4096 * (SLAB_LARGE + 1024) + (1 << 20));
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
    printf("  a subscription of %d bytes takes %zu\n", SIZE, (memory.bytes - memory_before) / COUNT);
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
    printf("  a subscription of %d bytes takes %zu\n", SIZE, (memory.bytes - memory_before) / (PEERS * COUNT));
    CHECK(used_s() < 10, "it takes too long");
    for (int i = 0; i < PEERS; i++)
        remote_leave(remotes[i], false);
    check_removal_in_turns(PEERS * COUNT);
    CHECK(memory.bytes < memory_before + (1 << 20) + 2 * WIRE_POOL_KEEPS * SLAB_LARGE, "%zu bytes are kept",
          memory.bytes - memory_before);
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

static void check_refused_ready(void)
{
    static uint8_t megabytes[4 << 20];

    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *remote = remote_new(&simulation, 0, TYPE_PUSH, ZMTP_31);
    measure();
    remote_send_greeting(remote);
    remote->out.end = 64; /* READY is sent anew */
    remote_send_command(remote, "READY", megabytes, sizeof megabytes);
    remote_deliver(remote, SIZE_MAX);
    simulation_serve(&simulation);
    CHECK(!remote->peer && simulation.ports[0].ended_by[REASON_BAD_COMMAND] == 1, "it was not refused");
    report("READY with four megabytes", SLAB_LARGE + 2 * SLAB_SMALL);
}

static void check_endless_commands(void)
{
    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *remote = join(0, TYPE_PUSH, "");
    for (int i = 0; i < 10000; i++)
        remote_send_command(remote, "PONG", "", 0);
    remote->endless = true;
    remote_deliver(remote, SIZE_MAX);
    simulation_serve(&simulation);
    measure();
    CHECK(port_count_unread(&simulation.ports[0], 1000) == 0, "messages were counted that nobody has sent");
    report("commands without end, when unread messages are counted", 2 * (SLAB_LARGE + SLAB_SMALL));
}

/* -- fairness
 * ---------------------------------------------------------------------------------------------------------- */

static size_t bytes_from[2];

static void count_source(struct remote *remote, const uint8_t *bytes, size_t size)
{
    (void) remote;
    bytes_from[bytes[size - 1] == 'b'] += size;
}

static void relay_for_a_while(int turns)
{
    bytes_from[0] = bytes_from[1] = 0;
    for (int i = 0; i < turns; i++) {
        simulation_serve(&simulation);
        relay(&simulation.ports[0], &simulation.ports[1], simulation.accounts[0], 100, 64 << 10);
        for (unsigned j = 0; j < simulation.remote_count; j++)
            remote_parse(simulation.remotes[j]);
    }
}

static struct remote *endless_source(const char *mark, size_t size)
{
    static uint8_t body[1 << 20];
    struct remote *remote = join(0, TYPE_PUSH, "");

    forget_sent(remote);
    memset(body, *mark, sizeof body);
    for (int i = 0; i < 3 * 7; i++)
        remote_send_frame(remote, 0, body, size);
    remote->endless = true;
    remote_deliver(remote, SIZE_MAX);
    return remote;
}

static void check_share(const char *name)
{
    double share = (double) bytes_from[1] / (double) (bytes_from[0] + bytes_from[1]);

    printf("%s: the second one has %.0f %%\n", name, 100 * share);
    CHECK(share > 0.4 && share < 0.6, "%s: it is not fair", name);
}

static void begin_fairness(void)
{
    begin(TYPE_PULL, TYPE_PUSH);
    simulation.on_message = count_source;
    join(1, TYPE_PULL, "");
    measure();
}

static void check_fairness(void)
{
    begin_fairness();
    endless_source("a", 50);
    endless_source("b", 5000);
    relay_for_a_while(2000);
    check_share("small messages and large ones");
    report("two sources without end", 8 << 20);
}

static void check_fairness_to_newcomers(void)
{
    begin_fairness();
    endless_source("a", 5000);
    relay_for_a_while(3000);
    endless_source("b", 5000);
    relay_for_a_while(2000);
    check_share("one that was alone, and a newcomer");
    report("a source that was alone", 8 << 20);
}

static void check_fairness_beside_commands(void)
{
    begin_fairness();
    struct remote *remote = join(0, TYPE_PUSH, "");
    forget_sent(remote);
    for (int i = 0; i < 20000; i++)
        remote_send_command(remote, "PONG", "", 0);
    remote->endless = true;
    remote_deliver(remote, SIZE_MAX);
    endless_source("b", 1000);
    relay_for_a_while(200);
    CHECK(bytes_from[1] > 200 * 10000, "%zu bytes have come through", bytes_from[1]);
    report("a source beside one that sends commands without end", 8 << 20);
}

static void check_fairness_beside_a_large_message(void)
{
    static uint8_t part[1 << 20];

    begin_fairness();
    struct remote *large = join(0, TYPE_PUSH, "");
    bytes_append(&large->out, (uint8_t[]){FRAME_LONG, 0x40, 0, 0, 0, 0, 0, 0, 0}, 9);
    for (int i = 0; i < 100; i++)
        bytes_append(&large->out, part, sizeof part);
    remote_deliver(large, SIZE_MAX);
    endless_source("b", 1000);
    relay_for_a_while(200);
    CHECK(bytes_from[1] > 200 * 10000, "%zu bytes have come through", bytes_from[1]);
    report("a source beside a message that does not end", 512 << 20);
}

static void check_fairness_beside_long_messages(void)
{
    begin_fairness();
    simulation.ports[0].options.maxframes = 2;
    struct remote *remote = join(0, TYPE_PUSH, "");
    forget_sent(remote);
    for (int i = 0; i < 20000; i++)
        bytes_append(&remote->out, "\1\1a\1\1a\1\1a\0\1a", 12);
    remote->endless = true;
    remote_deliver(remote, SIZE_MAX);
    endless_source("b", 1000);
    relay_for_a_while(1000);
    CHECK(bytes_from[1] > 1000 * 500, "%zu bytes have come through", bytes_from[1]);
    report("a source beside one that sends messages of too many frames", 8 << 20);
}

/* -- orphans
 * -------------------------------------------------------------------------------------------------------------- */

/* What was queued for a peer that has left is written to another one at the end of the turn, though nothing else is sent. */
static void check_orphans_are_written(void)
{
    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *source = join(0, TYPE_PUSH, ""), *slow = join(1, TYPE_PULL, "");
    measure();
    slow->window = 0;
    remote_send_frame(source, 0, "one", 3);
    remote_deliver(source, SIZE_MAX);
    simulation_serve(&simulation);
    relay(&simulation.ports[0], &simulation.ports[1], simulation.accounts[0], 10, 1000);
    struct remote *other = join(1, TYPE_PULL, "");
    wire_flush(&simulation.wire);
    size_t before = other->written;
    peer_end(slow->peer, REASON_SILENT);
    wire_flush(&simulation.wire);
    CHECK(other->written == before + 5, "%zu bytes are written of a message", other->written - before);
    report("a message whose peer was silent", 1 << 20);
}

/* -- single steps
 * ------------------------------------------------------------------------------------------------------ */

static unsigned arrived;

/* A message that has come from a ROUTER: a routing id of one byte, and one frame. */
static void count_whole(struct remote *remote, const uint8_t *bytes, size_t size)
{
    struct amount amount = encoded_amount(bytes, size);

    CHECK(amount.messages == 1 && amount.frames == 2 && amount.bytes == 5001, "remote %u was given half a message",
          remote->number);
    arrived++;
}

static enum relayed move(int flow, uint64_t limit_messages, uint64_t limit_bytes)
{
    enum relayed outcome;

    simulation_serve(&simulation);
    outcome = relay(&simulation.ports[flow], &simulation.ports[1 - flow], simulation.accounts[flow], limit_messages,
                    limit_bytes);
    simulation_check(&simulation);
    for (unsigned i = 0; i < simulation.remote_count; i++)
        remote_parse(simulation.remotes[i]);
    return outcome;
}

/* The peer that leaves when the routing id was written; whether the port is handed over before that. */
static void check_cut(const char *name, bool moves)
{
    static uint8_t body[5000];

    begin(TYPE_ROUTER, TYPE_DEALER);
    simulation.on_message = count_whole;
    arrived = 0;
    struct remote *client = join(0, TYPE_DEALER, "A"), *leaver = join(1, TYPE_DEALER, "");
    measure();
    leaver->window = 3; /* the frame of the routing id */
    remote_send_frame(client, 0, body, sizeof body);
    remote_deliver(client, SIZE_MAX);
    move(0, 10, 10000);
    if (moves)
        simulation_move(&simulation, NULL);
    remote_leave(leaver, false);
    simulation_serve(&simulation);
    join(1, TYPE_DEALER, "");
    move(0, 10, 10000);
    CHECK(!arrived && simulation.accounts[0]->interrupted == 1, "%u have arrived", arrived);
    report(name, 1 << 20);
}

static void check_cut_behind_a_prefix(void)
{
    check_cut("a peer that leaves when the routing id was written", false);
}

static void check_cut_behind_a_prefix_and_moved(void)
{
    check_cut("a peer that leaves, after a hand over, when the routing id was written", true);
}

static void check_rest_behind_a_prefix(void)
{
    static uint8_t body[5000];

    begin(TYPE_ROUTER, TYPE_DEALER);
    simulation.on_message = count_whole;
    arrived = 0;
    struct remote *client = join(0, TYPE_DEALER, "A"), *worker = join(1, TYPE_DEALER, "");
    measure();
    worker->window = 3;
    remote_send_frame(client, 0, body, sizeof body);
    remote_deliver(client, SIZE_MAX);
    move(0, 10, 10000);
    for (int i = 0; i < 3; i++)
        simulation_move(&simulation, NULL);
    worker->window = SIZE_MAX;
    worker->events |= STREAM_OUTPUT;
    move(0, 10, 10000);
    CHECK(arrived == 1 && simulation.accounts[0]->sent.messages == 1, "%u have arrived", arrived);
    report("the rest of a message, after hand overs, when the routing id was written", 1 << 20);
}

static void check_no_memory(void)
{
    static uint8_t body[5000];

    for (uint64_t fail_in = 1; fail_in < 40; fail_in++) {
        begin(TYPE_ROUTER, TYPE_DEALER);
        simulation.on_message = count_whole;
        arrived = 0;
        struct remote *client = join(0, TYPE_DEALER, "A");
        join(1, TYPE_DEALER, "");
        for (int i = 0; i < 10; i++)
            remote_send_frame(client, 0, body, sizeof body);
        remote_deliver(client, SIZE_MAX);
        memory.fail_in = fail_in;
        move(0, 10, 100000);
        memory.fail_in = 0;
        join(1, TYPE_DEALER, "");
        move(0, 10, 100000);
        CHECK(arrived == simulation.accounts[0]->received.messages, "%u messages have arrived", arrived);
        simulation_end(&simulation);
    }
    puts("no memory, at each place where some is needed: every message that was taken has arrived");
}

static void count_message(struct remote *remote, const uint8_t *bytes, size_t size)
{
    (void) remote, (void) bytes, (void) size;
    arrived++;
}

static void check_request_without_memory(void)
{
    static uint8_t envelope[5000] = {1};

    for (uint64_t fail_in = 1; fail_in < 40; fail_in++) {
        begin(TYPE_REP, TYPE_REQ);
        simulation.on_message = count_message;
        arrived = 0;
        struct remote *client = join(0, TYPE_DEALER, "");
        join(1, TYPE_REP, "");
        remote_send_frame(client, FRAME_MORE, envelope, sizeof envelope);
        remote_send_frame(client, FRAME_MORE, "", 0);
        remote_send_frame(client, 0, "?", 1);
        remote_deliver(client, SIZE_MAX);
        memory.fail_in = fail_in;
        move(0, 10, 100000);
        memory.fail_in = 0;
        join(1, TYPE_REP, "");
        move(0, 10, 100000);
        CHECK(arrived || !client->peer, "a request is lost, and its client waits for a reply");
        simulation_end(&simulation);
    }
    puts("no memory for a request, at each place where some is needed: it has arrived, or its connection has ended");
}

static void check_reply_of_another(void)
{
    begin(TYPE_REP, TYPE_REQ);
    struct remote *client = join(0, TYPE_REQ, ""), *servers[] = {join(1, TYPE_REP, ""), join(1, TYPE_REP, "")};
    measure();
    size_t before = client->written;
    remote_send_frame(client, FRAME_MORE, "", 0);
    remote_send_frame(client, 0, "?", 1);
    remote_deliver(client, SIZE_MAX);
    move(0, 10, 1000);
    int other = simulation.ports[1].partner == servers[0]->peer;
    for (int i = 0; i < 2; i++) {
        CHECK(client->written == before, "the reply of another was taken");
        struct remote *server = servers[i ? !other : other];
        remote_send_frame(server, FRAME_MORE, "", 0);
        remote_send_frame(server, 0, "!", 1);
        remote_deliver(server, SIZE_MAX);
        move(1, 10, 1000);
    }
    CHECK(client->written == before + 5, "the reply was not taken");
    report("a reply of a peer that was not asked", 1 << 20);
}

static char replies[8];

static void answer_from(struct remote *server, enum socket_type asker, char with)
{
    remote_send_frame(server, FRAME_MORE, "", 0);
    if (asker == TYPE_ROUTER) { /* the request had the envelope of its client */
        remote_send_frame(server, FRAME_MORE, "A", 1);
        remote_send_frame(server, FRAME_MORE, "", 0);
    }
    remote_send_frame(server, 0, &with, 1);
    remote_deliver(server, SIZE_MAX);
}

static void note_reply(struct remote *remote, const uint8_t *bytes, size_t size)
{
    CHECK(remote->number == 0 && arrived < sizeof replies - 1, "%u messages for remote %u", arrived, remote->number);
    replies[arrived++] = (char) bytes[size - 1];
}

/* A server that answers a request twice: at once, and when it is about to be asked again. */
static void check_reply_before_the_request(void)
{
    static const struct {
        bool at_once;
        enum socket_type source;
    } CASES[] = {{true, TYPE_ROUTER}, {false, TYPE_ROUTER}, {true, TYPE_REP}, {false, TYPE_REP}};

    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        begin(CASES[i].source, TYPE_REQ);
        simulation.on_message = NULL;
        struct remote *client = join(0, TYPE_REQ, "A"), *server = join(1, TYPE_REP, "");
        measure();
        for (const char *reply = "1234"; *reply; reply++) {
            arrived = 0;
            simulation.on_message = NULL;
            if (!CASES[i].at_once && *reply > '1')
                answer_from(server, CASES[i].source, reply[-1]);
            remote_send_frame(client, FRAME_MORE, "", 0);
            remote_send_frame(client, 0, "?", 1);
            remote_deliver(client, SIZE_MAX);
            move(0, 10, 1000);
            simulation.on_message = note_reply;
            answer_from(server, CASES[i].source, *reply);
            if (CASES[i].at_once)
                answer_from(server, CASES[i].source, '!');
            move(1, 10, 1000);
            CHECK(arrived == 1 && replies[0] == *reply, "%u replies to request %c: %s", arrived, *reply, replies);
        }
        report("a server that answers twice", 1 << 20);
    }
}

static void check_budget(void)
{
    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *source = join(0, TYPE_PUSH, "");
    join(1, TYPE_PULL, "");
    join(1, TYPE_PULL, "");
    measure();
    for (int i = 0; i < 100; i++)
        remote_send_frame(source, 0, "0123456789", 10);
    remote_deliver(source, SIZE_MAX);
    CHECK(move(0, 100, 1) == RELAYED_UNTIL_LIMIT && simulation.accounts[0]->received.messages == 1,
          "the budget of bytes");
    CHECK(move(0, 7, 1000) == RELAYED_UNTIL_LIMIT && simulation.accounts[0]->received.messages == 8,
          "the budget of messages");
    CHECK(move(0, 1000, 100000) == RELAYED_ALL && simulation.accounts[0]->received.messages == 100, "all of them");
    report("budgets", 1 << 20);
}

static void check_awaited_peer_leaves(void)
{
    begin(TYPE_DEALER, TYPE_ROUTER);
    struct remote *source = join(0, TYPE_DEALER, ""), *slow = join(1, TYPE_DEALER, "A");
    measure();
    simulation.ports[1].options.sndhwm = 1;
    slow->window = 0;
    for (int i = 0; i < 4; i++) {
        remote_send_frame(source, FRAME_MORE, "A", 1);
        remote_send_frame(source, 0, "!", 1);
    }
    remote_deliver(source, SIZE_MAX);
    CHECK(move(0, 100, 1000) == RELAYED_UNTIL_FULL, "the peer is slow");
    CHECK(simulation.ports[1].awaited == slow->peer, "nobody is awaited");
    remote_leave(slow, false);
    CHECK(move(0, 100, 1000) == RELAYED_ALL, "somebody is awaited who has left");
    CHECK(simulation.accounts[0]->unroutable == 4, "they are not counted");
    report("a slow peer of a ROUTER that leaves", 1 << 20);
}

static void check_awaited_subscriber_cancels(void)
{
    begin(TYPE_XSUB, TYPE_XPUB);
    simulation.ports[1].options.sndhwm = 1;
    simulation.ports[1].options.xpub_nodrop = true;
    struct remote *source = join(0, TYPE_PUB, ""), *slow = join(1, TYPE_SUB, "");
    measure();
    remote_send_command(slow, "SUBSCRIBE", "a", 1);
    remote_deliver(slow, SIZE_MAX);
    simulation_serve(&simulation);
    CHECK(move(1, 100, 1000) == RELAYED_ALL, "the subscription is not passed on");
    slow->window = 0;
    for (int i = 0; i < 4; i++)
        remote_send_frame(source, 0, "a", 1);
    remote_deliver(source, SIZE_MAX);
    CHECK(move(0, 100, 1000) == RELAYED_UNTIL_FULL, "the subscriber is slow");
    CHECK(simulation.ports[1].awaited == slow->peer, "nobody is awaited");
    remote_send_command(slow, "CANCEL", "a", 1);
    remote_deliver(slow, SIZE_MAX);
    simulation_serve(&simulation);
    CHECK(move(1, 100, 1000) == RELAYED_ALL, "the cancellation is not passed on");
    CHECK(move(0, 100, 1000) == RELAYED_ALL, "somebody is awaited who has cancelled");
    report("a slow peer of an XPUB that cancels", 1 << 20);
}

/* Of two peers that have answered the last PING nobody is taken for silent, however long the engine stands still. Then one of
 * them answers again. */
static void check_heartbeats_after_a_pause(void)
{
    begin(TYPE_PULL, TYPE_PUSH);
    simulation.ports[0].options.heartbeat_ivl = 100;
    simulation.ports[0].options.heartbeat_timeout = 200;
    struct remote *lively = join(0, TYPE_PUSH, ""), *dead = join(0, TYPE_PUSH, "");
    measure();
    simulation.wire.now_s += 0.15;
    simulation_serve(&simulation);
    for (int i = 0; i < 2; i++) {
        remote_send_command(i ? dead : lively, "PONG", "", 0);
        remote_deliver(i ? dead : lively, SIZE_MAX);
    }
    simulation_serve(&simulation);
    CHECK(take_all(&simulation.ports[0]) == 0, "they have sent heartbeats alone");
    simulation.wire.now_s += 1000;
    simulation_serve(&simulation);
    CHECK(lively->peer && dead->peer, "a peer is taken for silent that nobody has asked");
    simulation.wire.now_s += 0.15;
    remote_send_command(lively, "PONG", "", 0);
    remote_deliver(lively, SIZE_MAX);
    simulation_serve(&simulation);
    CHECK(lively->peer && dead->peer, "a peer is given no time to answer");
    simulation.wire.now_s += 0.1;
    simulation_serve(&simulation);
    CHECK(lively->peer, "a peer that has answered is taken for silent");
    CHECK(!dead->peer, "a peer that does not answer is kept");
    CHECK(simulation.ports[0].ended_by[REASON_SILENT] == 1, "the reason");
    report("peers that are asked after a pause", 1 << 20);
}

/* When a peer was asked is told from when it was heard, which may be months ago. */
static void check_heartbeats_after_months(void)
{
    for (int i = 0; i < 100; i++) {
        begin(TYPE_PULL, TYPE_PUSH);
        simulation.ports[0].options.heartbeat_ivl = 100;
        simulation.ports[0].options.heartbeat_timeout = 100;
        struct remote *quiet = join(0, TYPE_PUSH, "");
        measure();
        simulation.wire.now_s += 40e6 + i * 0.37;
        simulation_serve(&simulation);
        CHECK(quiet->peer, "a peer is taken for silent in the moment in which it is asked");
    }
    report("peers that were quiet for a year", 1 << 20);
}

/* A peer that reads slowly is not taken for silent, although it answers only what it has read. One that reads nothing is. */
static void check_heartbeats_to_slow_readers(void)
{
    enum { BYTES = 20000, READ_AT_ONCE = 100 };
    static const uint8_t body[BYTES];

    begin(TYPE_PULL, TYPE_PUSH);
    simulation.ports[1].options.heartbeat_ivl = 100;
    simulation.ports[1].options.heartbeat_timeout = 150;
    struct remote *source = join(0, TYPE_PUSH, ""), *slow = join(1, TYPE_PULL, ""), *stuck = join(1, TYPE_PULL, "");
    measure();
    slow->window = stuck->window = 0;
    for (int i = 0; i < 2; i++)
        remote_send_frame(source, 0, body, BYTES);
    remote_deliver(source, SIZE_MAX);
    move(0, 100, 100000);
    CHECK(slow->peer->out.messages == 1 && stuck->peer->out.messages == 1, "each has one of the messages");
    for (size_t read = 0; read < BYTES; read += READ_AT_ONCE) {
        simulation.wire.now_s += 0.1;
        remote_accept(slow, READ_AT_ONCE);
        simulation_serve(&simulation);
        remote_parse(slow);
        CHECK(slow->peer, "a peer that reads is taken for silent");
    }
    CHECK(!stuck->peer, "a peer that reads nothing is kept");
    remote_accept(slow, 10 * BYTES);
    simulation_serve(&simulation);
    remote_parse(slow);
    size_t answers = bytes_left(&slow->out) / (FRAME_SHORT_HEADER + 5);
    CHECK(answers == 1, "%zu PINGs have waited for it", answers);
    for (int i = 0; i < 3; i++) {
        simulation.wire.now_s += 0.1;
        simulation_serve(&simulation);
    }
    CHECK(!slow->peer, "a peer that has read a PING and does not answer is kept");
    report("peers that read slowly", 1 << 20);
}

/* A peer that has answered a PING, while there is more to read for it, is asked anew before it is taken for silent. */
static void check_heartbeats_amid_a_backlog(void)
{
    enum { BYTES = 20000 };
    static const uint8_t body[BYTES];

    begin(TYPE_PULL, TYPE_PUSH);
    simulation.ports[1].options.heartbeat_ivl = 1000;
    simulation.ports[1].options.heartbeat_timeout = 300;
    struct remote *source = join(0, TYPE_PUSH, ""), *slow = join(1, TYPE_PULL, "");
    measure();
    slow->window = 0;
    for (int i = 0; i < 2; i++) {
        simulation.wire.now_s += i; /* a PING comes between the two messages */
        simulation_serve(&simulation);
        remote_send_frame(source, 0, body, BYTES);
        remote_deliver(source, SIZE_MAX);
        move(0, 100, 100000);
    }
    remote_accept(slow, BYTES + 1000);
    simulation_serve(&simulation);
    remote_parse(slow);
    remote_deliver(slow, SIZE_MAX); /* the answer */
    take_all(&simulation.ports[1]);
    CHECK(slow->peer && !slow->peer->asked_after_s, "the answer is not heard");
    CHECK(slow->peer->out.first, "there is nothing more to read");
    simulation.wire.now_s += 1;
    simulation_serve(&simulation);
    remote_accept(slow, 10 * BYTES);
    simulation_serve(&simulation);
    remote_parse(slow);
    CHECK(bytes_left(&slow->out), "it is not asked again");
    remote_deliver(slow, SIZE_MAX);
    take_all(&simulation.ports[1]);
    simulation.wire.now_s += 0.4;
    simulation_serve(&simulation);
    CHECK(slow->peer, "a peer that has answered each PING is taken for silent");
    report("a peer that answers amid a backlog", 1 << 20);
}

static void check_heartbeats_that_wait(void)
{
    begin(TYPE_PULL, TYPE_PUSH);
    simulation.ports[1].options.heartbeat_ivl = 100;
    simulation.ports[1].options.heartbeat_timeout = 0;
    struct remote *slow = join(1, TYPE_PULL, "");
    measure();
    slow->window = 0;
    for (int i = 0; i < 100000; i++) {
        simulation.wire.now_s += 0.1;
        simulation_serve(&simulation);
    }
    CHECK(slow->peer, "nobody is to be taken for silent");
    report("a peer that does not read its heartbeats", 1 << 10);
}

static void check_looks_have_a_limit(void)
{
    enum { PEERS = 150, MOST = 64 };
    struct remote *remotes[PEERS];
    int looked;

    begin(TYPE_PULL, TYPE_PUSH);
    for (int i = 0; i < PEERS; i++)
        remotes[i] = join(0, TYPE_PUSH, "");
    measure();
    for (int i = 0; i < PEERS; i++) {
        remote_send_command(remotes[i], "PING", "\0\0", 2);
        remotes[i]->pings = 1;
        remote_deliver(remotes[i], SIZE_MAX);
    }
    simulation_serve(&simulation);
    simulation.wire.now_s += 2 * LOOK_AFTER_S;
    for (int before = 0; before < PEERS; before = looked) {
        simulation_serve(&simulation);
        looked = 0;
        for (int i = 0; i < PEERS; i++) {
            remote_parse(remotes[i]);
            looked += remotes[i]->pongs != 0;
        }
        CHECK(looked > before && looked <= before + MOST, "%d of them are looked at in a turn", looked - before);
    }
    report("many peers at a port that is not read", 8 << 20);
}

/* A record of which a byte is changed is refused, or its queues are sound. */
static void check_changed_records(void)
{
    static const size_t SIZES[] = {3, 300, 5000, 0};

    begin(TYPE_PULL, TYPE_PUSH);
    struct remote *source = join(0, TYPE_PUSH, ""), *slow = join(1, TYPE_PULL, "");
    measure();
    slow->window = 10;
    for (int i = 0; i < 4; i++) {
        static const uint8_t body[5000];
        remote_send_frame(source, FRAME_MORE, "begins", 6);
        remote_send_frame(source, 0, body, SIZES[i]);
    }
    remote_deliver(source, SIZE_MAX);
    move(0, 100, 100000);
    CHECK(simulation.accounts[0]->held.messages == 4, "they are not held");
    CHECK(slow->peer->out.written, "none of them is written in part");
    CHECK(simulation_try_changes(&simulation, 0) && simulation_try_changes(&simulation, 1), "all are refused");
    report("records of which a byte is changed", 1 << 20);
}

/* Memory for each connection that says nothing, with what malloc itself needs for a block. */
static void check_idle_connections(void)
{
    enum { COUNT = 40, MALLOC_HEADER = 8, BYTES_EACH = 480 };
    static const struct {
        enum socket_type ours, theirs;
    } PAIRS[] = {{TYPE_PULL, TYPE_PUSH}, {TYPE_ROUTER, TYPE_DEALER}, {TYPE_XPUB, TYPE_SUB}, {TYPE_DEALER, TYPE_REP}};

    for (size_t i = 0; i < sizeof PAIRS / sizeof *PAIRS; i++) {
        begin(PAIRS[i].ours, TYPE_PUSH);
        join(0, PAIRS[i].theirs, ""); /* what all connections share is allocated now */
        measure();
        size_t blocks_before = memory.blocks;
        for (int j = 0; j < COUNT; j++)
            join(0, PAIRS[i].theirs, "");
        size_t blocks = memory.blocks - blocks_before;
        size_t each = (memory.bytes - memory_before + MALLOC_HEADER * blocks) / COUNT;
        CHECK(each <= BYTES_EACH, "a connection that says nothing takes %zu bytes", each);
        printf("%zu bytes for each of the ", each);
        report("connections that say nothing", 32 << 10);
    }
}

void run_checks(const char *only)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } CHECKS[] = {
        {"announced-frame", check_announced_frame},
        {"long-messages", check_long_messages},
        {"after-a-long-message", check_after_a_long_message},
        {"unread-long-messages", check_long_messages_for_a_slow_peer},
        {"look-ahead", check_look_ahead},
        {"heartbeats-ahead", check_heartbeats_ahead},
        {"run-with-others", check_run_with_others},
        {"empty-frames", check_empty_frames},
        {"commands-in-a-message", check_commands_in_a_message},
        {"commands-between-messages", check_commands_between_messages},
        {"unread-pongs", check_unread_pongs},
        {"unread-replies", check_unread_replies},
        {"unread-subscriptions", check_unread_subscriptions},
        {"pings-between-messages", check_pings_between_messages_for_a_slow_peer},
        {"lone-messages", check_lone_messages_for_a_slow_peer},
        {"long-subscriptions", check_long_subscriptions},
        {"many-subscriptions", check_many_subscriptions},
        {"subscriptions-come-and-go", check_subscriptions_come_and_go},
        {"chosen-topics", check_chosen_topics},
        {"refused-ready", check_refused_ready},
        {"endless-commands", check_endless_commands},
        {"fairness", check_fairness},
        {"newcomers", check_fairness_to_newcomers},
        {"beside-commands", check_fairness_beside_commands},
        {"beside-a-large-message", check_fairness_beside_a_large_message},
        {"beside-long-messages", check_fairness_beside_long_messages},
        {"orphans-are-written", check_orphans_are_written},
        {"cut-behind-a-prefix", check_cut_behind_a_prefix},
        {"cut-behind-a-prefix-and-moved", check_cut_behind_a_prefix_and_moved},
        {"rest-behind-a-prefix", check_rest_behind_a_prefix},
        {"no-memory", check_no_memory},
        {"request-without-memory", check_request_without_memory},
        {"reply-of-another", check_reply_of_another},
        {"reply-before-the-request", check_reply_before_the_request},
        {"budget", check_budget},
        {"awaited-peer-leaves", check_awaited_peer_leaves},
        {"awaited-subscriber-cancels", check_awaited_subscriber_cancels},
        {"heartbeats-after-a-pause", check_heartbeats_after_a_pause},
        {"heartbeats-after-months", check_heartbeats_after_months},
        {"heartbeats-to-slow-readers", check_heartbeats_to_slow_readers},
        {"heartbeats-amid-a-backlog", check_heartbeats_amid_a_backlog},
        {"heartbeats-that-wait", check_heartbeats_that_wait},
        {"looks-have-a-limit", check_looks_have_a_limit},
        {"changed-records", check_changed_records},
        {"idle-connections", check_idle_connections},
    };
    bool any = false;

    for (size_t i = 0; i < sizeof CHECKS / sizeof *CHECKS; i++)
        if (!*only || !strcmp(only, CHECKS[i].name)) {
            any = true;
            CHECKS[i].run();
        } else if (!strcmp(only, "names")) {
            any = true;
            puts(CHECKS[i].name);
        }
    CHECK(any, "there is no check %s", only);
}
