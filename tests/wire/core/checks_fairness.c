/* What one peer can take from another. */
#include "checks.h"

#include "frame.h"

#include <stdlib.h>
#include <string.h>

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

const struct check FAIRNESS_CHECKS[] = {
    {"fairness", check_fairness},
    {"newcomers", check_fairness_to_newcomers},
    {"beside-commands", check_fairness_beside_commands},
    {"beside-a-large-message", check_fairness_beside_a_large_message},
    {"beside-long-messages", check_fairness_beside_long_messages},
    {"orphans-are-written", check_orphans_are_written},
    {0},
};
