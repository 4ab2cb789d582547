/* Numbers, times, strings of bytes and queues, from a record. */
#include "record.h"

#include "frame.h"
#include "record_format.h"

#include <stdlib.h>
#include <string.h>

bool reading_refuse(struct reading *reading, const char *wrong)
{
    if (!reading->wrong) {
        reading->wrong = wrong;
        reading->wrong_at = (size_t) (reading->at - reading->begin);
        reading->at = reading->end; /* all that is read from now on is 0 */
    }
    return false;
}

bool reading_refuse_unless(struct reading *reading, bool right, const char *wrong)
{
    return right || reading_refuse(reading, wrong);
}

static uint64_t get_number(struct reading *reading, int size)
{
    uint64_t number = 0;

    if (reading->end - reading->at < size) {
        reading_refuse(reading, "it is cut");
        return 0;
    }
    for (int i = 0; i < size; i++)
        number |= (uint64_t) reading->at[i] << 8 * i;
    reading->at += size;
    return number;
}

uint8_t reading_u8(struct reading *reading)
{
    return (uint8_t) get_number(reading, 1);
}

uint32_t reading_u32(struct reading *reading)
{
    return (uint32_t) get_number(reading, 4);
}

uint64_t reading_u64(struct reading *reading)
{
    return get_number(reading, 8);
}

/* A string of bytes, which stays in the record. */
const uint8_t *reading_bytes(struct reading *reading, size_t *count)
{
    uint64_t size = reading_u64(reading);
    const uint8_t *bytes = reading->at;

    *count = 0;
    if (size > (uint64_t) (reading->end - reading->at)) {
        reading_refuse(reading, "a string of bytes is longer than the record");
        return bytes;
    }
    reading->at += size;
    *count = size;
    return bytes;
}

struct amount reading_amount(struct reading *reading)
{
    struct amount amount = {.messages = reading_u64(reading)};

    amount.frames = reading_u64(reading);
    amount.bytes = reading_u64(reading);
    return amount;
}

double reading_seconds(struct reading *reading)
{
    double seconds = (double) (int64_t) reading_u64(reading) / MICROSECONDS;

    if (seconds < -LONGEST_S || seconds > LONGEST_S) {
        reading_refuse(reading, "a time is too far away");
        return 0;
    }
    return seconds;
}

static struct account *get_account(struct reading *reading, struct account *const *accounts, uint32_t count)
{
    uint32_t number = reading_u32(reading);

    if (number > count)
        reading_refuse(reading, "a queue has messages of a flow that there is not");
    return number && number <= count ? accounts[number - 1] : NULL;
}

/* Count the messages that end in these bytes, which must be whole frames. `in_message` says whether the first frame is the
 * rest of a message, and then whether more is to follow. */
static bool count_messages(const uint8_t *bytes, size_t size, bool *in_message, uint64_t *messages)
{
    for (size_t at = 0; at < size;) {
        unsigned flags;
        uint64_t length;
        int header = frame_header(bytes + at, size - at, &flags, &length);
        if (header <= 0 || length > size - at - (size_t) header)
            return false;
        at += (size_t) header + length;
        if (flags & FRAME_COMMAND)
            continue;
        *in_message = flags & FRAME_MORE;
        *messages += !*in_message;
    }
    return true;
}

/* Append one segment. Queues are cut at the boundaries of messages later, so that these must be what the record says. */
static void get_segment(struct reading *reading, struct port *port, struct queue *queue, bool *in_message,
                        struct account *const *accounts, uint32_t count)
{
    struct account *account = get_account(reading, accounts, count);
    struct run run = {.amount = reading_amount(reading)};
    bool continues = *in_message;
    uint64_t messages = 0;
    size_t size;
    const uint8_t *bytes = reading_bytes(reading, &size);

    if (reading->wrong)
        return;
    if (account && (!size || !count_messages(bytes, size, in_message, &messages) || messages != run.amount.messages)) {
        reading_refuse(reading, "a queue has not the messages that it counts");
        return;
    }
    if (!account && (!size || continues || run.amount.messages > size)) {
        reading_refuse(reading, "a queue has bytes of no flow in a message");
        return;
    }
    if (!(run.slab = slab_new(&port->wire->pool, size))) {
        reading_refuse(reading, "there is no memory for it");
        return;
    }
    memcpy(run.slab->bytes, bytes, size);
    run.end = size;
    if (queue_share(queue, &run, account))
        queue->last->continues = continues;
    else
        reading_refuse(reading, "there is no memory for it");
    slab_release(run.slab);
}

void reading_queue(struct reading *reading, struct port *port, struct queue *queue, struct account *const *accounts,
                      uint32_t count)
{
    uint32_t segments = reading_u32(reading);
    uint64_t written = reading_u64(reading);
    bool in_message = false;

    for (uint32_t i = 0; i < segments && !reading->wrong; i++)
        get_segment(reading, port, queue, &in_message, accounts, count);
    if (reading->wrong)
        return;
    if (in_message)
        reading_refuse(reading, "a queue ends within a message");
    else if (written && (!queue->first || written >= queue->first->end))
        reading_refuse(reading, "more of a queue was written than there is");
    else
        queue->written = written, queue->bytes -= written;
}
