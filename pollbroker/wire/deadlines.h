/* The deadlines of peers, the earliest first: a binary heap in which each peer knows its place. */
#ifndef POLLBROKER_WIRE_DEADLINES_H
#define POLLBROKER_WIRE_DEADLINES_H

#include <stdbool.h>
#include <stddef.h>

struct peer;

struct deadlines {
    struct peer **heap; /* from 1 on */
    size_t count, room;
};

/* Put a peer where its deadline belongs, or take it out if it has none. Return false if there is no memory. */
bool deadlines_set(struct deadlines *deadlines, struct peer *peer);

/* The peer with the earliest deadline; NULL if there is none. */
struct peer *deadlines_first(const struct deadlines *deadlines);

void deadlines_free(struct deadlines *deadlines);

#endif
