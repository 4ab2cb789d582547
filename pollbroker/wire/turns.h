/* Which peer of a PUSH, DEALER or REQ port is given the next message: of those that have room, the next in turn, or one of
 * those with the least load. The load of a DEALER's peer is what it was sent and has not answered; that of a PUSH's, or if
 * nobody takes answers, is what is in its queue. */
#ifndef POLLBROKER_WIRE_TURNS_H
#define POLLBROKER_WIRE_TURNS_H

#include "list.h"

#include <stdbool.h>
#include <stdint.h>

struct peer;
struct port;

/* Loads up to 31 are told apart, and greater ones, up to a million, if one is about half as much again as the other. */
enum { LOAD_LEVELS = 64 };

struct turns {
    struct link in_turn;  /* those that have room; empty if loads are compared */
    struct link *by_load; /* the same, a list for each level. NULL if loads are not compared */
    uint64_t levels;      /* a bit for each level whose list is not empty */
};

void turns_init(struct turns *turns);

/* Compare loads from now on. To be called before there are peers. Return false if there is no memory. */
bool turns_compare_loads(struct turns *turns);

void turns_free(struct turns *turns);

/* The peer whose turn it is. NULL if none has room. */
struct peer *turns_next(const struct turns *turns);

/* True if one peer has room, and no other. */
bool turns_has_one(const struct turns *turns);

/* A peer has room, and is not among them yet. */
void turns_add(struct turns *turns, struct peer *peer);

void turns_remove(struct turns *turns, struct peer *peer);

/* A peer was given a message, and others come first now. */
void turns_pass(struct turns *turns, struct peer *peer);

/* The load of a peer may have changed. */
void turns_weigh(struct turns *turns, struct peer *peer);

#endif
