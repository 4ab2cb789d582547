/* What becomes of messages, step by step. */
#include "checks.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

static unsigned arrived;

/* A message that has come from a ROUTER: a routing id of one byte, and one frame. */
static void count_whole(struct remote *remote, const uint8_t *bytes, size_t size)
{
    struct amount amount = encoded_amount(bytes, size);

    CHECK(amount.messages == 1 && amount.frames == 2 && amount.bytes == 5001, "remote %u was given half a message",
          remote->number);
    arrived++;
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

const struct check MESSAGE_CHECKS[] = {
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
    {0},
};
