#include "queue.h"

#include "frame.h"

#include <string.h>

static struct segment *segment_new(struct pool *pool)
{
    struct segment *segment = pool->segments;

    if (segment) {
        pool->segments = segment->next;
        pool->segments_free--;
    } else if (!(segment = malloc(sizeof *segment))) {
        return NULL;
    }
    pool->segments_alive++;
    return segment;
}

static void segment_free(struct segment *segment)
{
    struct pool *pool = segment->slab->pool;

    if (segment->account)
        account_release(segment->account);
    slab_release(segment->slab);
    pool->segments_alive--;
    if (pool->segments_free < POOL_KEEPS) {
        segment->next = pool->segments;
        pool->segments = segment;
        pool->segments_free++;
    } else {
        free(segment);
    }
}

static void append(struct queue *queue, struct segment *segment)
{
    segment->next = NULL;
    if (queue->last)
        queue->last->next = segment;
    else
        queue->first = segment;
    queue->last = segment;
    queue->bytes += segment->end - segment->start;
    queue->messages += segment->amount.messages;
}

static void take_first(struct queue *queue)
{
    queue->first = queue->first->next;
    if (!queue->first)
        queue->last = NULL;
    queue->written = 0;
}

static void count_held(struct account *account, struct amount amount)
{
    if (account)
        amount_add(&account->held, amount);
}

bool queue_copy_begin(struct queue *queue, struct pool *pool, const uint8_t *bytes, size_t count, size_t reserve,
                      struct amount amount, struct account *account)
{
    struct segment *last = queue->last;
    size_t needed = count + reserve;

    if (last && last->copied && last->account == account && last->slab->capacity - last->end >= needed) {
        memcpy(last->slab->bytes + last->end, bytes, count);
        last->end += count;
        amount_add(&last->amount, amount);
        queue->bytes += count;
        queue->messages += amount.messages;
    } else {
        /* Behind another's bytes in their slab, if they fit. Else a slab that is small, unless the last one was filled,
         * since most queues never hold more. */
        bool filled = last && last->copied && last->slab->capacity - last->end < needed;
        struct segment *segment = segment_new(pool);
        if (!segment)
            return false;
        segment->start = 0;
        if (last && last->copied && !filled) {
            segment->slab = slab_hold(last->slab);
            segment->start = last->end;
        } else if (!(segment->slab = slab_new(pool, filled && needed < SLAB_LARGE ? SLAB_LARGE : needed))) {
            pool->segments_alive--;
            free(segment);
            return false;
        }
        memcpy(segment->slab->bytes + segment->start, bytes, count);
        segment->end = segment->start + count;
        segment->amount = amount;
        segment->account = account ? account_hold(account) : NULL;
        segment->continues = queue->open != 0;
        segment->copied = true;
        append(queue, segment);
    }
    queue->open = account && !amount.messages ? count : 0;
    count_held(account, amount);
    return true;
}

bool queue_share(struct queue *queue, const struct run *run, struct account *account)
{
    struct segment *segment = segment_new(run->slab->pool);

    if (!segment)
        return false;
    segment->slab = slab_hold(run->slab);
    segment->start = run->start;
    segment->end = run->end;
    segment->amount = run->amount;
    segment->account = account ? account_hold(account) : NULL;
    segment->continues = queue->open != 0;
    segment->copied = false;
    append(queue, segment);
    queue->open = 0;
    count_held(account, run->amount);
    return true;
}

int queue_pieces(const struct queue *queue, struct iovec *pieces, int most)
{
    int count = 0;
    size_t skipped = queue->written;

    for (struct segment *segment = queue->first; segment && count < most; segment = segment->next) {
        pieces[count].iov_base = segment->slab->bytes + segment->start + skipped;
        pieces[count].iov_len = segment->end - segment->start - skipped;
        skipped = 0;
        count++;
    }
    return count;
}

uint64_t queue_note_written(struct queue *queue, size_t bytes)
{
    uint64_t messages = 0;

    queue->bytes -= bytes;
    while (queue->first) {
        struct segment *first = queue->first;
        size_t left = first->end - first->start - queue->written;
        if (bytes < left)
            break;
        bytes -= left;
        messages += first->amount.messages;
        if (first->account) {
            amount_subtract(&first->account->held, first->amount);
            amount_add(&first->account->sent, first->amount);
        }
        take_first(queue);
        segment_free(first);
    }
    queue->written += bytes;
    queue->messages -= messages;
    return messages;
}

/* Free the first segment, in which no message is left. Its amount is not 0 if its messages were counted with other frames
 * than they are written with: a routing id, say. */
static void free_first(struct queue *queue)
{
    struct segment *first = queue->first;

    if (first->account)
        amount_subtract(&first->account->held, first->amount);
    take_first(queue);
    segment_free(first);
}

/* Remove a message that was written in part from the beginning of the queue, and those before it in its segment, which
 * were written whole. No frame is in two segments, but a message may be. Frames and bytes of these messages are counted as
 * they were written. */
static void drop_cut_message(struct queue *queue, bool stays_held)
{
    struct segment *segment = queue->first;
    size_t at = segment->start, passed = 0;
    struct amount message = {0};
    bool in_message = segment->continues;

    while (passed < queue->written || in_message) {
        unsigned flags = 0;
        uint64_t length = 0;
        if (at == segment->end) {
            size_t written = queue->written;
            free_first(queue);
            queue->written = written;
            segment = queue->first;
            at = segment->start;
        }
        int header = frame_header(segment->slab->bytes + at, segment->end - at, &flags, &length);
        at += (size_t) header + length;
        passed += (size_t) header + length;
        if (flags & FRAME_COMMAND)
            continue;
        message.frames++;
        message.bytes += length;
        in_message = flags & FRAME_MORE;
        if (in_message)
            continue;
        message.messages = 1;
        amount_subtract(&segment->amount, message);
        queue->messages--;
        if (segment->account) {
            bool cut = passed > queue->written;
            if (!cut || !stays_held)
                amount_subtract(&segment->account->held, message);
            if (!cut)
                amount_add(&segment->account->sent, message);
            else if (!stays_held)
                segment->account->interrupted++;
        }
        message = (struct amount){0};
    }
    queue->bytes -= passed - queue->written;
    queue->written = 0;
    segment->start = at;
    segment->continues = false;
    if (at == segment->end)
        free_first(queue);
}

/* Take out what was written, and the rest of a message of which a part was written. */
static void take_out_written(struct queue *queue, bool stays_held)
{
    if (queue->open) { /* there was no memory for the rest */
        queue->last->end -= queue->open;
        queue->bytes -= queue->open;
        queue->open = 0;
    }
    if (queue->first && queue->first->account && (queue->written || queue->first->continues))
        drop_cut_message(queue, stays_held);
}

void queue_settle(struct queue *queue)
{
    take_out_written(queue, true);
}

/* Leave whole messages only. What no flow counts is of no use to another peer: greetings and commands. */
static void keep_messages(struct queue *queue)
{
    struct queue kept = {0};

    take_out_written(queue, false);
    while (queue->first) {
        struct segment *first = queue->first;
        take_first(queue);
        if (first->account && first->start < first->end)
            append(&kept, first);
        else
            segment_free(first);
    }
    *queue = kept;
}

void queue_take_over(struct queue *into, struct queue *from)
{
    keep_messages(from);
    if (from->first) {
        if (into->last)
            into->last->next = from->first;
        else
            into->first = from->first;
        into->last = from->last;
        into->bytes += from->bytes;
        into->messages += from->messages;
    }
    *from = (struct queue){0};
}

void queue_drop(struct queue *queue)
{
    keep_messages(queue);
    for (struct segment *segment = queue->first; segment; segment = segment->next)
        if (segment->account) {
            amount_subtract(&segment->account->held, segment->amount);
            segment->account->unroutable += segment->amount.messages;
        }
    queue_forget(queue);
}

void queue_forget(struct queue *queue)
{
    while (queue->first) {
        struct segment *first = queue->first;
        take_first(queue);
        segment_free(first);
    }
    *queue = (struct queue){0};
}

bool queue_first_frame(const struct queue *queue, struct run *run)
{
    const struct segment *first = queue->first;
    unsigned flags;
    uint64_t length = 0;

    if (!first)
        return false;
    int header = frame_header(first->slab->bytes + first->start, first->end - first->start, &flags, &length);
    run->slab = first->slab;
    run->start = first->start;
    run->end = first->start + (size_t) header + length;
    run->amount = (struct amount){.messages = 1, .frames = 1, .bytes = length};
    return true;
}

void queue_remove_frame(struct queue *queue, const struct run *run)
{
    struct segment *first = queue->first;

    queue->bytes -= run->end - run->start;
    queue->messages--;
    amount_subtract(&first->amount, run->amount);
    first->start = run->end;
    if (first->start == first->end) {
        take_first(queue);
        segment_free(first);
    }
}
