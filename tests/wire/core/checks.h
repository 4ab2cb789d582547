/* Checks: each simulates a port or two with some peers, and looks at what becomes of them, or at what they take. */
#ifndef TESTS_WIRE_CORE_CHECKS_H
#define TESTS_WIRE_CORE_CHECKS_H

#include "simulation.h"

struct check {
    const char *name; /* NULL at the end of a table */
    void (*run)(void);
};

extern const struct check MEMORY_CHECKS[], SUBSCRIPTION_CHECKS[], FAIRNESS_CHECKS[], MESSAGE_CHECKS[], TYPE_CHECKS[],
    HEARTBEAT_CHECKS[];

extern struct simulation simulation;

/* Begin a simulation of two ports. `report` ends it. */
void begin(enum socket_type source, enum socket_type sink);

/* A peer that has shaken hands with one of the ports. */
struct remote *join(int place, enum socket_type type, const char *identity);

/* Measure memory and time from now on. */
void measure(void);
size_t measured_bytes(void);
double used_s(void);

/* Tell what was measured, check that it was no more memory than this, and end the simulation. */
void report(const char *name, size_t most);

/* Take everything that has come, and forget it. Return the number of messages. */
uint64_t take_all(struct port *port);

/* Relay from one port to the other: from the first with flow 0. */
enum relayed move(int flow, uint64_t limit_messages, uint64_t limit_bytes);

/* Forget what a remote has sent and the port has not read. */
void forget_sent(struct remote *remote);

#endif
