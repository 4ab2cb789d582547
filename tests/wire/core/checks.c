/* Bounds of memory, of time, and of what one peer can take from another: what all checks have in common. */
#include "checks.h"

#include <string.h>
#include <time.h>

struct simulation simulation;
static size_t memory_before;
static double began_s;

double used_s(void)
{
    return (double) clock() / CLOCKS_PER_SEC - began_s;
}

void begin(enum socket_type source, enum socket_type sink)
{
    simulation_begin(&simulation);
    simulation.remotes_most = REMOTES_MAX;
    simulation_add_port(&simulation, source);
    simulation_add_port(&simulation, sink);
}

struct remote *join(int place, enum socket_type type, const char *identity)
{
    struct remote *remote = remote_new(&simulation, place, type, ZMTP_31);

    CHECK(remote, "a simulation has no more than %u remotes", simulation.remotes_most);
    remote->identity_size = strlen(identity);
    memcpy(remote->identity, identity, remote->identity_size);
    remote_send_greeting(remote);
    remote_deliver(remote, SIZE_MAX);
    simulation_serve(&simulation);
    CHECK(remote->peer && remote->peer->attached, "hands were not shaken");
    remote_parse(remote);
    return remote;
}

void measure(void)
{
    memory.peak = memory_before = memory.bytes;
    began_s = (double) clock() / CLOCKS_PER_SEC;
}

size_t measured_bytes(void)
{
    return memory.bytes - memory_before;
}

void report(const char *name, size_t most)
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
uint64_t take_all(struct port *port)
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

void forget_sent(struct remote *remote)
{
    remote->out.start = remote->out.end = remote->available = 0;
}

enum relayed move(int flow, uint64_t limit_messages, uint64_t limit_bytes)
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

void run_checks(const char *only)
{
    static const struct check *const TABLES[] = {MEMORY_CHECKS,  SUBSCRIPTION_CHECKS, FAIRNESS_CHECKS,
                                                 MESSAGE_CHECKS, TYPE_CHECKS,         HEARTBEAT_CHECKS};
    bool any = false;

    for (size_t i = 0; i < sizeof TABLES / sizeof *TABLES; i++)
        for (const struct check *check = TABLES[i]; check->name; check++)
            if (!*only || !strcmp(only, check->name)) {
                any = true;
                check->run();
            } else if (!strcmp(only, "names")) {
                any = true;
                puts(check->name);
            }
    CHECK(any, "there is no check %s", only);
}
