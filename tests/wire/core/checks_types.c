/* What the types of sockets do with messages, where one peer could stop a port, or take more than its share. */
#include "checks.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

/* What a peer sends is of no use to a port that only sends, be it little or much. It keeps nobody else from being heard. */
static void check_port_that_nobody_takes_from(void)
{
    static const uint8_t much[300000];

    begin(TYPE_PULL, TYPE_XPUB);
    struct port *port = &simulation.ports[1];
    struct remote *talker = join(1, TYPE_XSUB, ""), *subscriber = join(1, TYPE_SUB, "");
    port->nobody_takes = true;
    measure();
    remote_send_frame(talker, 0, "\2hello", 6);
    remote_deliver(talker, SIZE_MAX);
    CHECK(take_all(port) == 0, "a message is taken that nobody wants");
    remote_send_command(subscriber, "SUBSCRIBE", "a", 1);
    remote_deliver(subscriber, SIZE_MAX);
    take_all(port);
    CHECK(peer_subscription_count(subscriber->peer) == 1, "the subscription of another is not heard");
    report("a message for an XPUB that only sends", 1 << 20);

    begin(TYPE_PULL, TYPE_DEALER);
    port = &simulation.ports[1];
    port->nobody_takes = true;
    measure();
    for (int i = 0; i < 100; i++) {
        struct remote *remote = join(1, TYPE_DEALER, "");
        struct message message;
        remote_send_frame(remote, 0, much, i % 2 ? sizeof much : 1);
        remote_deliver(remote, SIZE_MAX);
        simulation_serve(&simulation);
        port->may_read = 1 << 20;
        CHECK(port_take(port, &message, 1) == TAKEN_MESSAGE, "it is not looked at");
        remote_leave(remote, false);
        simulation_serve(&simulation);
        CHECK(!remote->peer && !port->connections && !port->unread_ends, "a peer that has left counts");
    }
    report("peers that leave something to a DEALER that only sends", 1 << 20);

    begin(TYPE_PULL, TYPE_DEALER);
    port = &simulation.ports[1];
    port->nobody_takes = true;
    measure();
    struct remote *brief = remote_new(&simulation, 1, TYPE_DEALER, ZMTP_31);
    remote_send_greeting(brief);
    remote_send_frame(brief, 0, much, sizeof much);
    remote_leave(brief, false); /* it is heard of once, with all that it has sent, and its end */
    simulation_serve(&simulation);
    CHECK(!brief->peer && !port->connections, "a peer that has left with its handshake stays");
    report("a peer whose end comes with its handshake", 1 << 20);
}

/* A reply that has too many frames is dropped. It is an answer all the same. */
static void check_reply_of_too_many_frames(void)
{
    begin(TYPE_ROUTER, TYPE_REQ);
    simulation.ports[1].options.maxframes = 5;
    struct remote *client = join(0, TYPE_DEALER, "A"), *server = join(1, TYPE_REP, "");
    measure();
    for (int i = 0; i < 2; i++) {
        remote_send_frame(client, 0, "?", 1);
        remote_deliver(client, SIZE_MAX);
        move(0, 10, 1000);
        CHECK(simulation.accounts[0]->received.messages == (uint64_t) i + 1, "request %d is not passed on", i);
        for (int frame = 0; frame < 10; frame++)
            remote_send_frame(server, frame < 9 ? FRAME_MORE : 0, "", 0);
        remote_deliver(server, SIZE_MAX);
        move(1, 10, 1000);
    }
    CHECK(simulation.accounts[1]->too_many_frames == 2, "the replies are not counted");
    report("a REQ whose peer answers with too many frames", 1 << 20);

    begin(TYPE_PULL, TYPE_DEALER);
    CHECK(turns_compare_loads(&simulation.ports[1].turns), "there is no memory");
    simulation.ports[1].options.maxframes = 5;
    struct remote *source = join(0, TYPE_PUSH, ""), *worker = join(1, TYPE_DEALER, "");
    measure();
    remote_send_frame(source, 0, "?", 1);
    remote_deliver(source, SIZE_MAX);
    move(0, 10, 1000);
    CHECK(worker->peer->sharer.outstanding == 1, "it was given nothing");
    for (int frame = 0; frame < 10; frame++)
        remote_send_frame(worker, frame < 9 ? FRAME_MORE : 0, "", 0);
    remote_deliver(worker, SIZE_MAX);
    take_all(&simulation.ports[1]);
    CHECK(worker->peer->sharer.outstanding == 0, "it has answered");
    report("a worker that answers with too many frames", 1 << 20);
}

/* Loads that differ much are told apart, however great they are. */
static void check_great_loads(void)
{
    static const uint64_t LOADS[] = {0, 15, 16, 100, 10000, 20000, 1000000, 3000000};

    begin(TYPE_PULL, TYPE_DEALER);
    CHECK(turns_compare_loads(&simulation.ports[1].turns), "there is no memory");
    struct remote *busy = join(1, TYPE_DEALER, ""), *busier = join(1, TYPE_DEALER, "");
    measure();
    for (size_t i = 0; i + 1 < sizeof LOADS / sizeof *LOADS; i++)
        for (int swapped = 0; swapped < 2; swapped++) {
            struct peer *first = (swapped ? busier : busy)->peer, *second = (swapped ? busy : busier)->peer;
            first->sharer.outstanding = LOADS[i];
            second->sharer.outstanding = LOADS[i + 1];
            turns_weigh(&simulation.ports[1].turns, first);
            turns_weigh(&simulation.ports[1].turns, second);
            CHECK(turns_next(&simulation.ports[1].turns) == first, "%ju is not less than %ju", (uintmax_t) LOADS[i],
                  (uintmax_t) LOADS[i + 1]);
        }
    report("workers of different loads", 1 << 20);
}

/* What is sent to publishers is written before it is dropped for lack of room. */
static void check_messages_to_publishers(void)
{
    enum { COUNT = 100, SIZE = 10000 };
    static const uint8_t body[SIZE] = {2};

    begin(TYPE_XPUB, TYPE_XSUB);
    simulation.ports[1].options.sndhwm = 10;
    struct remote *source = join(0, TYPE_XSUB, ""), *publisher = join(1, TYPE_XPUB, "");
    measure();
    for (int i = 0; i < COUNT; i++)
        remote_send_frame(source, 0, body, SIZE);
    remote_deliver(source, SIZE_MAX);
    while (move(0, 1000, 1 << 20) != RELAYED_ALL)
        ;
    CHECK(publisher->peer->sent == COUNT && !publisher->peer->dropped, "%ju of them were sent",
          (uintmax_t) publisher->peer->sent);
    report("messages from subscribers to a publisher", 8 << 20);
}

/* Each message that a peer was to be given and was not is counted: for lack of room, at its end, and at the end of the port,
 * unless its connections go on at another. */
static void check_missed_by(enum socket_type type, enum socket_type peer_type, bool given_away)
{
    enum { COUNT = 25, ROOM = 10 };
    struct remote *source, *remotes[3];

    begin(TYPE_PULL, type);
    struct port *port = &simulation.ports[1];
    const struct stream_calls *calls = port->calls;
    port->options.sndhwm = ROOM;
    source = join(0, TYPE_PUSH, "");
    for (int i = 0; i < 3; i++) {
        remotes[i] = join(1, peer_type, "");
        if (peer_type == TYPE_SUB)
            remote_send_command(remotes[i], "SUBSCRIBE", "", 0);
        remote_deliver(remotes[i], SIZE_MAX);
        remotes[i]->window = i ? 0 : SIZE_MAX;
    }
    take_all(port);
    measure();
    for (int i = 0; i < COUNT; i++) {
        remote_send_frame(source, 0, "\2x", 2);
        remote_deliver(source, SIZE_MAX);
        move(0, 1, SIZE_MAX);
    }
    CHECK(port->missed == 2 * (COUNT - ROOM), "%ju were missed for lack of room", (uintmax_t) port->missed);
    remote_leave(remotes[1], false);
    simulation_serve(&simulation);
    CHECK(port->missed == 2 * COUNT - ROOM, "%ju were missed when one had left", (uintmax_t) port->missed);
    port->given_away = given_away;
    port_end(port);
    CHECK(port->missed == 2 * COUNT - (given_away ? ROOM : 0), "%ju were missed in the end", (uintmax_t) port->missed);
    port_init(port, &simulation.wire, type, calls);
    report("messages that peers miss", 1 << 20);
}

static void check_missed(void)
{
    for (int given_away = 0; given_away < 2; given_away++) {
        check_missed_by(TYPE_XPUB, TYPE_SUB, given_away);
        check_missed_by(TYPE_XSUB, TYPE_XPUB, given_away);
    }
}

/* Each reply to a peer that does not read takes about as much memory as it has bytes. */
static void check_replies_that_wait(void)
{
    enum { COUNT = 500, SIZE = 5000 };
    static const uint8_t body[SIZE];

    begin(TYPE_DEALER, TYPE_REP);
    struct remote *worker = join(0, TYPE_DEALER, ""), *client = join(1, TYPE_REQ, "");
    client->window = 0;
    measure();
    for (int i = 0; i < COUNT; i++) {
        remote_send_frame(client, FRAME_MORE, "", 0);
        remote_send_frame(client, 0, "?", 1);
        remote_deliver(client, SIZE_MAX);
        move(1, 1, 1000);
        forget_sent(worker);
        remote_send_frame(worker, 0, body, SIZE);
        remote_deliver(worker, SIZE_MAX);
        move(0, 1, SIZE);
    }
    CHECK(client->peer->out.messages == COUNT, "%ju replies are queued", (uintmax_t) client->peer->out.messages);
    report("500 replies of 5,000 bytes to a peer that reads nothing", COUNT * SIZE + (2 << 20));
}

/* A message behind a prefix, of which each of many subscribers that do not read has a copy. */
static void check_copies_behind_a_prefix(void)
{
    enum { SUBSCRIBERS = 100, SIZE = 5000 };
    static const uint8_t body[SIZE];
    struct remote *subscribers[SUBSCRIBERS];

    begin(TYPE_ROUTER, TYPE_PUB);
    struct remote *source = join(0, TYPE_DEALER, "A");
    for (int i = 0; i < SUBSCRIBERS; i++) {
        subscribers[i] = join(1, TYPE_SUB, "");
        remote_send_command(subscribers[i], "SUBSCRIBE", "", 0);
        remote_deliver(subscribers[i], SIZE_MAX);
        subscribers[i]->window = 0;
    }
    take_all(&simulation.ports[1]);
    measure();
    remote_send_frame(source, 0, body, SIZE);
    remote_deliver(source, SIZE_MAX);
    move(0, 1, 1 << 20);
    for (int i = 0; i < SUBSCRIBERS; i++)
        CHECK(subscribers[i]->peer->out.messages == 1, "it is not queued");
    report("a message of 5,000 bytes for 100 subscribers", SUBSCRIBERS * SLAB_MIDDLE * 5 / 4 + (1 << 20));
}

/* What a SUB passes over within a run counts for its turn. */
static void check_passing_over(void)
{
    enum { COUNT = 100000 };

    begin(TYPE_SUB, TYPE_PUSH);
    struct port *port = &simulation.ports[0];
    struct message message;
    port_subscribe(port, (const uint8_t *) "a", 1);
    struct remote *remote = join(0, TYPE_PUB, "");
    measure();
    remote_send_frame(remote, 0, "a", 1);
    for (int i = 0; i < COUNT; i++)
        remote_send_frame(remote, 0, "", 0);
    remote_deliver(remote, SIZE_MAX);
    simulation_serve(&simulation);
    port->may_read = 1 << 20;
    CHECK(port_take(port, &message, 1000) == TAKEN_MESSAGE && message.run.amount.messages == 1, "one is taken");
    uint64_t passed_over = remote->peer->received;
    CHECK(passed_over <= (1 << 20) / PASSED_OVER_BYTES + 1, "%ju are passed over in a turn", (uintmax_t) passed_over);
    port_consume(port, &message);
    take_all(port);
    CHECK(remote->peer->received == COUNT + 1, "the others are not passed over later");
    report("many messages that were not subscribed to", 1 << 20);
}

/* The frame in front of a reply is empty, whatever the header says it with. */
static void check_long_delimiter(void)
{
    static const uint8_t delimiter[9] = {FRAME_LONG | FRAME_MORE};

    begin(TYPE_ROUTER, TYPE_REQ);
    struct remote *client = join(0, TYPE_DEALER, "A"), *server = join(1, TYPE_REP, "");
    measure();
    remote_send_frame(client, 0, "?", 1);
    remote_deliver(client, SIZE_MAX);
    move(0, 10, 1000);
    bytes_append(&server->out, delimiter, sizeof delimiter);
    remote_send_frame(server, FRAME_MORE, "A", 1);
    remote_send_frame(server, 0, "!", 1);
    remote_deliver(server, SIZE_MAX);
    move(1, 10, 1000);
    CHECK(simulation.accounts[1]->sent.messages == 1, "the reply is not passed on");
    report("a reply behind a long empty frame", 1 << 20);
}

static void check_long_envelope(void)
{
    static const uint8_t envelope[8 << 20] = {1};

    begin(TYPE_REP, TYPE_REQ);
    struct remote *client = join(0, TYPE_DEALER, ""), *server = join(1, TYPE_REP, "");
    remote_send_frame(client, FRAME_MORE, envelope, sizeof envelope);
    remote_send_frame(client, FRAME_MORE, "", 0);
    remote_send_frame(client, 0, "?", 1);
    remote_deliver(client, SIZE_MAX);
    while (!simulation.ports[1].engaged)
        move(0, 10, 100000);
    remote_send_frame(server, FRAME_MORE, "", 0);
    remote_send_frame(server, 0, "!", 1);
    remote_deliver(server, SIZE_MAX);
    move(1, 10, 100000);
    CHECK(simulation.accounts[1]->sent.messages == 1, "the reply is not passed on");
    CHECK(!simulation.ports[0].envelope, "the envelope is kept");
    measure();
    report("a REP after a long envelope", 0);
}

const struct check TYPE_CHECKS[] = {
    {"port-that-nobody-takes-from", check_port_that_nobody_takes_from},
    {"reply-of-too-many-frames", check_reply_of_too_many_frames},
    {"great-loads", check_great_loads},
    {"messages-to-publishers", check_messages_to_publishers},
    {"missed", check_missed},
    {"replies-that-wait", check_replies_that_wait},
    {"copies-behind-a-prefix", check_copies_behind_a_prefix},
    {"passing-over", check_passing_over},
    {"long-delimiter", check_long_delimiter},
    {"long-envelope", check_long_envelope},
    {0},
};
