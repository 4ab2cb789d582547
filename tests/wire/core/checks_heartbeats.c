/* Who is taken for silent. */
#include "checks.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

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

const struct check HEARTBEAT_CHECKS[] = {
    {"heartbeats-after-a-pause", check_heartbeats_after_a_pause},
    {"heartbeats-after-months", check_heartbeats_after_months},
    {"heartbeats-to-slow-readers", check_heartbeats_to_slow_readers},
    {"heartbeats-amid-a-backlog", check_heartbeats_amid_a_backlog},
    {"heartbeats-that-wait", check_heartbeats_that_wait},
    {0},
};
