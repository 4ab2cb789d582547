/* Ports that are handed over: their records are written, the ports end without a word, and others are made of the
 * records, as in another process. */
#include "frame.h"
#include "record.h"
#include "simulation.h"

#include <malloc.h>
#include <string.h>

enum { CHANGED_MOST = 4000 };

void core_free(void *block);

/* An account as another process has it: with the same counts, and nothing held yet. */
static struct account *moved_account(const struct account *old)
{
    struct account *account = account_new();

    memory.blocks++;
    memory.bytes += malloc_usable_size(account);
    *account = *old;
    account->references = 1;
    account->held = (struct amount){0};
    return account;
}

/* Change some bytes of a record, take some out, or cut it. Return true if it was changed. */
static bool mutate(struct input *input, struct bytes *bytes)
{
    unsigned changes = draw(input, 4);

    for (unsigned i = 0; i < changes && bytes_left(bytes); i++) {
        size_t size = bytes_left(bytes), at = (draw(input, 65536) * (size_t) 7919 + draw(input, 256)) % size;
        uint8_t *byte = bytes->all + bytes->start + at;
        switch (draw(input, 5)) {
        case 0:
            *byte = (uint8_t) draw(input, 256);
            break;
        case 1:
            *byte ^= (uint8_t) (1 << draw(input, 8));
            break;
        case 2:
            *byte = draw(input, 2) ? 0xff : 0;
            break;
        case 3:
            bytes->end = bytes->start + at;
            break;
        default:
            memmove(byte, byte + 1, size - at - 1);
            bytes->end--;
        }
    }
    return changes;
}

static void write_port(struct simulation *simulation, int place, struct bytes *bytes, int *descriptors, size_t *count)
{
    struct record record = {0};

    publish_remove_all(&simulation->ports[place]);
    CHECK(record_write(&record, &simulation->ports[place], simulation->accounts, 2), "a port cannot be written");
    bytes_append(bytes, record.bytes, record.size);
    *count = 0;
    for (size_t i = 0; i < record.peer_count; i++)
        if (record.peers[i]->descriptor >= 0)
            descriptors[(*count)++] = record.peers[i]->descriptor;
    record_free(&record);
}

/* End a port as the old process does: its descriptors are closed, and the connections go on. */
static void leave_port(struct simulation *simulation, struct port *port)
{
    struct port old = *port;

    simulation->hands_over = true;
    port_end(port);
    wire_forget_dead(&simulation->wire);
    simulation->hands_over = false;
    memset(port, 0xa5, sizeof *port);
    port_init(port, &simulation->wire, old.type, old.calls);
    port->options = old.options;
    port->nobody_takes = old.nobody_takes;
    port->owner = old.owner;
    port->drops_slow_peer = old.drops_slow_peer;
    port->takes_copies = old.takes_copies;
}

/* What `net_resume` does. */
static void resume_port(struct simulation *simulation, struct port *port)
{
    for (struct link *link = port->peers.next; link != &port->peers; link = link->next) {
        struct peer *peer = LISTED(link, struct peer, all);
        if (peer->descriptor < 0)
            continue;
        struct remote *remote = simulation->remotes[peer->descriptor];
        remote->peer = peer;
        remote->events |= STREAM_INPUT | STREAM_OUTPUT | (remote->finished || remote->reset || remote->gone ? STREAM_END : 0);
        if (!peer->handshake) {
            peer_set_heartbeat(peer);
        } else if (port->options.handshake_ivl) {
            peer->deadline_s = peer->since_s + port->options.handshake_ivl / 1000.0;
            port->calls->set_deadline(peer);
        }
    }
    port_note(port, NEWS_INPUT | NEWS_ROOM);
}

/* Make a port of a record. If that is refused, there is an empty one, and all its connections have ended. */
static bool read_port(struct simulation *simulation, int place, const struct bytes *bytes, const int *descriptors,
                      size_t count)
{
    struct port *port = &simulation->ports[place];
    uint8_t *exact = malloc(bytes_left(bytes) + 1); /* so that a byte behind the end is not there */
    struct reading reading = {.at = exact, .end = exact + bytes_left(bytes), .descriptors = descriptors,
                              .descriptor_count = count};

    memcpy(exact, bytes->all + bytes->start, bytes_left(bytes));
    exact = realloc(exact, bytes_left(bytes) ? bytes_left(bytes) : 1);
    reading.at = exact;
    reading.end = exact + bytes_left(bytes);
    bool done = record_read(&reading, port, simulation->accounts, 2);
    CHECK(done == !reading.wrong, "it does not say whether it is wrong");
    CHECK(reading.descriptors_taken <= count, "more descriptors are taken than there are");
    core_free(reading.peers);
    free(exact);
    if (!done) {
        /* The engine that has read it throws its accounts away. Here they go on, without what was held. */
        for (struct link *link = port->peers.next; link != &port->peers; link = link->next)
            queue_drop(&LISTED(link, struct peer, all)->out);
        queue_drop(&port->orphans);
        leave_port(simulation, port);
    }
    return done;
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    return z ^ z >> 31;
}

/* Messages end in a queue where its segments say so. */
static void check_boundaries(const struct queue *queue)
{
    bool in_message = false;

    for (const struct segment *segment = queue->first; segment; segment = segment->next) {
        uint64_t messages = 0;
        CHECK(segment->continues == in_message || !segment->account, "a segment does not say that it continues a message");
        for (size_t at = segment->start; segment->account && at < segment->end;) {
            unsigned flags = 0;
            uint64_t length = 0;
            int header = frame_header(segment->slab->bytes + at, segment->end - at, &flags, &length);
            CHECK(header > 0 && length <= segment->end - at - (size_t) header, "a queue has half a frame");
            at += (size_t) header + length;
            if (!(flags & FRAME_COMMAND)) {
                in_message = flags & FRAME_MORE;
                messages += !in_message;
            }
        }
        CHECK(!segment->account || messages == segment->amount.messages, "a queue counts other messages than it has");
    }
    CHECK(!in_message, "a queue ends in a message");
}

/* Read a record of which some bytes are changed into a port of its own. It is refused, or its peers leave. */
static bool try_changed(struct simulation *simulation, const struct port *like, uint8_t *changed, size_t size,
                        const int *descriptors, size_t count)
{
    struct account *accounts[2];
    struct port port;
    struct reading reading = {.at = changed, .end = changed + size, .descriptors = descriptors, .descriptor_count = count};

    for (int i = 0; i < 2; i++)
        accounts[i] = moved_account(simulation->accounts[i]);
    port_init(&port, &simulation->wire, like->type, like->calls);
    port.options = like->options;
    simulation->hands_over = true;
    bool done = record_read(&reading, &port, accounts, 2);
    if (done) {
        check_boundaries(&port.orphans);
        for (size_t i = 0; i < reading.peer_count; i++)
            check_boundaries(&reading.peers[i]->out);
        for (size_t i = 0; i < reading.peer_count; i++)
            if (reading.peers[i]->descriptor >= 0)
                peer_leave(reading.peers[i]);
    }
    core_free(reading.peers);
    port_end(&port);
    wire_forget_dead(&simulation->wire);
    simulation->hands_over = false;
    for (int i = 0; i < 2; i++) {
        CHECK(accounts[i]->references == 1, "somebody has kept an account");
        core_free(accounts[i]);
    }
    return done;
}

/* Change a byte, or eight. */
static void try_some_change(struct simulation *simulation, const struct port *like, const struct bytes *bytes,
                            const int *descriptors, size_t count)
{
    static const uint8_t BYTES[] = {0, 1, 2, 0x7f, 0x80, 0xff};
    uint64_t state = bytes_left(bytes);
    size_t size = bytes_left(bytes);

    if (size > CHANGED_MOST)
        return; /* what is likely to be hit there is the messages' own bytes */
    uint8_t *changed = malloc(size);
    memcpy(changed, bytes->all + bytes->start, size);
    for (size_t i = 0; i < size; i++)
        state = state * 31 + changed[i];
    size_t at = next_random(&state) % size, most = next_random(&state) % 2 ? 1 : 8;
    uint8_t byte = next_random(&state) % 2 ? BYTES[next_random(&state) % sizeof BYTES] : (uint8_t) next_random(&state);
    for (size_t i = at; i < size && i < at + most; i++)
        changed[i] = byte;
    try_changed(simulation, like, changed, size, descriptors, count);
    free(changed);
}

size_t simulation_try_changes(struct simulation *simulation, int place)
{
    static const uint8_t BYTES[] = {0, 1, 2, 0x80, 0xff};
    struct bytes bytes = {0};
    int descriptors[REMOTES_MAX];
    size_t count, accepted = 0;

    write_port(simulation, place, &bytes, descriptors, &count);
    size_t size = bytes_left(&bytes);
    uint8_t *changed = malloc(size);
    for (size_t at = 0; at < size; at++)
        for (size_t i = 0; i < sizeof BYTES; i++) {
            memcpy(changed, bytes.all + bytes.start, size);
            changed[at] = BYTES[i];
            accepted += try_changed(simulation, &simulation->ports[place], changed, size, descriptors, count);
        }
    free(changed);
    bytes_free(&bytes);
    return accepted;
}

void simulation_move(struct simulation *simulation, struct input *mutations)
{
    struct bytes bytes[2] = {{0}};
    int descriptors[2][REMOTES_MAX];
    size_t counts[2];
    uint64_t fail_in = memory.fail_in;
    bool is_changed = false;

    memory.fail_in = 0;
    wire_forget_dead(&simulation->wire);
    for (int i = 0; i < simulation->port_count; i++)
        write_port(simulation, i, &bytes[i], descriptors[i], &counts[i]);
    for (int i = 0; i < simulation->port_count; i++)
        try_some_change(simulation, &simulation->ports[i], &bytes[i], descriptors[i], counts[i]);
    struct account *old[2] = {simulation->accounts[0], simulation->accounts[1]};
    for (int i = 0; i < 2; i++)
        simulation->accounts[i] = moved_account(old[i]);
    for (int i = 0; i < simulation->port_count; i++)
        leave_port(simulation, &simulation->ports[i]);
    for (int i = 0; i < 2; i++) {
        CHECK(old[i]->references == 1, "somebody has kept an account");
        core_free(old[i]);
    }
    for (unsigned i = 0; i < simulation->remote_count; i++)
        simulation->remotes[i]->peer = NULL;
    for (int i = 0; i < simulation->port_count; i++) {
        if (mutations) {
            is_changed |= mutate(mutations, &bytes[i]);
            memory.fail_in = draw(mutations, 8) ? 0 : 1 + draw(mutations, 20);
            is_changed |= memory.fail_in != 0;
        }
        bool done = read_port(simulation, i, &bytes[i], descriptors[i], counts[i]);
        CHECK(done || is_changed, "a port cannot be read");
        memory.fail_in = 0;
        if (done)
            resume_port(simulation, &simulation->ports[i]);
        bytes_free(&bytes[i]);
    }
    for (unsigned i = 0; i < simulation->remote_count; i++) {
        struct remote *remote = simulation->remotes[i];
        remote->ignores |= is_changed;
        if (is_changed && !remote->peer)
            remote->gone = remote->finished = true; /* it was left out, or its port was refused */
    }
    for (int i = 0; i < 2 && is_changed; i++) { /* the queues may count anything */
        struct account *account = simulation->accounts[i];
        account->received.messages = account->sent.messages + account->held.messages + account->unroutable +
                                     account->slow_peer + account->interrupted + account->too_many_frames +
                                     account->long_subscription + account->filtered;
    }
    memory.fail_in = fail_in;
}
