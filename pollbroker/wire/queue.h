/* A queue of bytes that are to be written to a peer. It is made of segments, which refer to parts of slabs: long runs of
 * bytes are shared with the slab that they were read into, and short ones are copied behind one another.
 *
 * Messages enter a queue whole. A segment counts the messages that end in it. */
#ifndef POLLBROKER_WIRE_QUEUE_H
#define POLLBROKER_WIRE_QUEUE_H

#include "account.h"
#include "slab.h"

#include <stdbool.h>
#include <sys/uio.h>

/* Runs of so many bytes are shared, and shorter ones copied: each that is shared keeps a whole slab in memory. A queue that
 * may hold many megabytes shares longer ones only. */
enum { QUEUE_SHARES_FROM = 4 << 10, LONG_QUEUE_SHARES_FROM = 32 << 10 };

struct segment {
    struct segment *next;
    struct slab *slab;
    size_t start, end;
    struct amount amount;
    struct account *account; /* whose messages these are; NULL if no flow counts them */
    bool continues;          /* its first frame is not the first of a message, which began in the segment before */
    bool copied;             /* the slab is the queue's own, so that bytes can be copied behind `end` of the last segment */
};

struct queue {
    struct segment *first, *last;
    size_t bytes;      /* in the queue, and not yet written */
    uint64_t messages; /* that are not yet written whole */
    size_t written;    /* bytes of the first segment that were written */
    size_t open;       /* the last bytes are so many of a message whose rest is to follow */
};

/* A piece of a message, or of several, on its way into a queue: an encoded part of a slab. */
struct run {
    struct slab *slab;
    size_t start, end;
    struct amount amount;
};

/* Append bytes by copying them. Return false, and append nothing, if there is no memory. `reserve` more bytes will follow that
 * are to be copied behind them. */
bool queue_copy_begin(struct queue *queue, struct pool *pool, const uint8_t *bytes, size_t count, size_t reserve,
                      struct amount amount, struct account *account);

static inline bool queue_copy(struct queue *queue, struct pool *pool, const uint8_t *bytes, size_t count,
                              struct amount amount, struct account *account)
{
    return queue_copy_begin(queue, pool, bytes, count, 0, amount, account);
}

/* Append a run by sharing its slab. Return false, and append nothing, if there is no memory. */
bool queue_share(struct queue *queue, const struct run *run, struct account *account);

/* Append a run by the cheaper of both ways. */
static inline bool queue_run(struct queue *queue, const struct run *run, struct account *account, size_t shares_from)
{
    if (run->end - run->start >= shares_from)
        return queue_share(queue, run, account);
    return queue_copy(queue, run->slab->pool, run->slab->bytes + run->start, run->end - run->start, run->amount,
                      account);
}

/* The first pieces of the queue, for writev(2). Return their number. */
int queue_pieces(const struct queue *queue, struct iovec *pieces, int most);

/* So many bytes were written. Count the messages that are written whole as sent. Return their number. */
uint64_t queue_note_written(struct queue *queue, size_t bytes);

/* Take the whole messages of which nothing was written out of the queue, and append them to another. A message that was
 * written in part is counted as interrupted, and its bytes are dropped. */
void queue_take_over(struct queue *into, struct queue *from);

/* The frame at the beginning of a queue that is read here, and not written to a peer. Return false if it is empty. */
bool queue_first_frame(const struct queue *queue, struct run *run);

/* Remove that frame. */
void queue_remove_frame(struct queue *queue, const struct run *run);

/* Drop everything: the peer that it was for has left. Its messages are counted as unroutable, and one that was written in
 * part as interrupted. */
void queue_drop(struct queue *queue);

/* Count what was written whole as sent: nothing more is written. A message that was written in part stays held. */
void queue_settle(struct queue *queue);

/* Forget everything, without counting. What was held stays so in the account. */
void queue_forget(struct queue *queue);

#endif
