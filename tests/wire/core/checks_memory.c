/* How much memory, and how much time, peers can take. */
#include "checks.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

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
        size_t each = (measured_bytes() + MALLOC_HEADER * blocks) / COUNT;
        CHECK(each <= BYTES_EACH, "a connection that says nothing takes %zu bytes", each);
        printf("%zu bytes for each of the ", each);
        report("connections that say nothing", 32 << 10);
    }
}

const struct check MEMORY_CHECKS[] = {
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
    {"pings-between-messages", check_pings_between_messages_for_a_slow_peer},
    {"lone-messages", check_lone_messages_for_a_slow_peer},
    {"refused-ready", check_refused_ready},
    {"endless-commands", check_endless_commands},
    {"looks-have-a-limit", check_looks_have_a_limit},
    {"changed-records", check_changed_records},
    {"idle-connections", check_idle_connections},
    {0},
};
