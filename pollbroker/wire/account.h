/* The account of one flow: received = sent + held + what was dropped, by rule. See `Counters` in statistics.py. */
#ifndef POLLBROKER_WIRE_ACCOUNT_H
#define POLLBROKER_WIRE_ACCOUNT_H

#include <stdint.h>
#include <stdlib.h>

/* A number of whole messages, and what they are made of. */
struct amount {
    uint64_t messages, frames, bytes; /* the bytes of the frames' bodies */
};

static inline void amount_add(struct amount *sum, struct amount more)
{
    sum->messages += more.messages;
    sum->frames += more.frames;
    sum->bytes += more.bytes;
}

static inline void amount_subtract(struct amount *sum, struct amount less)
{
    sum->messages -= less.messages;
    sum->frames -= less.frames;
    sum->bytes -= less.bytes;
}

struct account {
    uint64_t references; /* the flow has one, and so has each segment of a queue that holds messages of the flow */
    struct amount received;
    struct amount sent; /* handed to the kernel, whole */
    struct amount held; /* accepted by a port, and waiting in the queue of a peer */
    uint64_t unroutable, slow_peer, interrupted, too_many_frames, long_subscription, filtered;
};

static inline struct account *account_hold(struct account *account)
{
    account->references++;
    return account;
}

static inline void account_release(struct account *account)
{
    if (!--account->references)
        free(account);
}

#endif
