#include "relay.h"

/* Count what was dropped by a rule. Return false if the message is to be kept. */
static bool count_dropped(enum put outcome, struct account *account, uint64_t messages)
{
    switch (outcome) {
    case PUT_UNROUTABLE:
        account->unroutable += messages;
        return true;
    case PUT_LONG_SUBSCRIPTION:
        account->long_subscription += messages;
        return true;
    case PUT_SLOW_PEER:
        account->slow_peer += messages;
        return true;
    default:
        return false;
    }
}

static void count_received(struct account *account, const struct message *message)
{
    amount_add(&account->received, message->run.amount);
    account->received.frames += message->prefix_amount.frames;
    account->received.bytes += message->prefix_amount.bytes;
}

enum relayed relay(struct port *source, struct port *sink, struct account *account, uint64_t limit_messages,
                   uint64_t limit_bytes)
{
    return relay_watched(source, sink, account, limit_messages, limit_bytes, NULL, NULL);
}

enum relayed relay_watched(struct port *source, struct port *sink, struct account *account, uint64_t limit_messages,
                           uint64_t limit_bytes, watched_run accepted, void *who)
{
    enum relayed outcome = RELAYED_UNTIL_LIMIT;
    uint64_t messages = 0, bytes = 0;

    source->may_read = limit_bytes < INT64_MAX ? (int64_t) limit_bytes : INT64_MAX;
    if (source->may_read < SLAB_LARGE)
        source->may_read = SLAB_LARGE;
    while (messages < limit_messages && bytes < limit_bytes) {
        struct message message;
        uint64_t most = port_run_max(sink);
        if (!port_has_room_for_any(sink)) {
            port_flush(sink);
            if (!port_has_room_for_any(sink)) {
                outcome = RELAYED_UNTIL_FULL;
                break;
            }
        }
        if (most > limit_messages - messages)
            most = limit_messages - messages;
        enum taken taken = port_take(source, &message, most);
        if (source->discarded.frames) {
            account->received.frames += source->discarded.frames;
            account->received.bytes += source->discarded.bytes;
            source->discarded = (struct amount){0};
        }
        if (taken == TAKEN_NOTHING || taken == TAKEN_LATER) {
            outcome = taken == TAKEN_NOTHING ? RELAYED_ALL : RELAYED_UNTIL_LIMIT;
            break;
        }
        if (taken == TAKEN_TOO_LONG) {
            account->received.messages++;
            account->too_many_frames++;
            messages++;
            continue;
        }
        enum put put = port_put(sink, &message, account);
        if (put != PUT_ACCEPTED && !count_dropped(put, account, message.run.amount.messages)) {
            outcome = put == PUT_NO_MEMORY ? RELAYED_WITHOUT_MEMORY : RELAYED_UNTIL_FULL;
            break;
        }
        if (accepted && put == PUT_ACCEPTED)
            accepted(who, &message);
        messages += message.run.amount.messages;
        bytes += message.run.end - message.run.start;
        count_received(account, &message);
        port_consume(source, &message);
    }
    port_flush(sink);
    port_flush(source); /* answers to heartbeats */
    return outcome;
}
