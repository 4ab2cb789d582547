#include "simulation.h"

#include "frame.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

/* -- memory of the core: it is compiled with these functions in the place of malloc and the others --------------------
 */

struct memory memory;
uint64_t each_fails_in;

bool memory_is_to_fail(struct input *input, unsigned one_in)
{
    return !draw(input, one_in) || each_fails_in;
}

void memory_fail(struct input *input, unsigned most)
{
    memory.fail_in = each_fails_in ? each_fails_in : 1 + draw(input, most);
}

static bool fails(void)
{
    if (!memory.fail_in || --memory.fail_in)
        return false;
    memory.failed++;
    return true;
}

static void *note(void *block)
{
    if (block) {
        memory.blocks++;
        memory.bytes += malloc_usable_size(block);
        if (memory.bytes > memory.peak)
            memory.peak = memory.bytes;
    }
    return block;
}

void *core_malloc(size_t size);
void *core_calloc(size_t count, size_t size);
void *core_realloc(void *block, size_t size);
void core_free(void *block);

void *core_malloc(size_t size)
{
    return fails() ? NULL : note(malloc(size));
}

void *core_calloc(size_t count, size_t size)
{
    return fails() ? NULL : note(calloc(count, size));
}

void core_free(void *block)
{
    if (block) {
        memory.blocks--;
        memory.bytes -= malloc_usable_size(block);
    }
    free(block);
}

void *core_realloc(void *block, size_t size)
{
    if (fails())
        return NULL;
    if (block) {
        memory.blocks--;
        memory.bytes -= malloc_usable_size(block);
    }
    return note(realloc(block, size)); /* it does not fail in a test */
}

/* -- buffers
 * ----------------------------------------------------------------------------------------------------------- */

void bytes_append(struct bytes *bytes, const void *more, size_t count)
{
    if (bytes->end + count > bytes->room) {
        if (bytes->start) {
            memmove(bytes->all, bytes->all + bytes->start, bytes_left(bytes));
            bytes->end -= bytes->start;
            bytes->start = 0;
        }
        if (bytes->end + count > bytes->room) {
            bytes->room = 2 * (bytes->end + count);
            bytes->all = realloc(bytes->all, bytes->room);
        }
    }
    if (count)
        memcpy(bytes->all + bytes->end, more, count);
    bytes->end += count;
}

void bytes_free(struct bytes *bytes)
{
    free(bytes->all);
    *bytes = (struct bytes){0};
}

/* -- streams
 * ----------------------------------------------------------------------------------------------------------- */

static struct simulation *simulation_of(const struct peer *peer)
{
    return (struct simulation *) peer->port->wire;
}

static struct remote *remote_of(const struct peer *peer)
{
    CHECK(peer->descriptor >= 0, "a stream is used after it was closed");
    return simulation_of(peer)->remotes[peer->descriptor];
}

static ssize_t stream_read(struct peer *peer, void *bytes, size_t count)
{
    struct remote *remote = remote_of(peer);
    size_t most = remote->available < count ? remote->available : count;

    CHECK(count > 0, "a read of nothing");
    ((uint8_t *) bytes)[count - 1] = 0xa5; /* all of it must be there */
    if (remote->reset)
        return -ECONNRESET;
    if (!most)
        return remote->finished && !bytes_left(&remote->out) ? 0 : -EAGAIN;
    if (remote->read_most && most > remote->read_most)
        most = remote->read_most;
    size_t done = 0;
    for (;;) {
        memcpy((uint8_t *) bytes + done, remote->out.all + remote->out.start, most);
        remote->out.start += most;
        remote->available -= most;
        done += most;
        if (!remote->endless)
            break;
        if (!bytes_left(&remote->out)) { /* it has always more than can be read */
            remote->out.start = 0;
            remote->available = bytes_left(&remote->out);
        }
        most = remote->available < count - done ? remote->available : count - done;
        if (!most)
            break;
    }
    remote->taken += done;
    if (done < count && remote->available)
        remote->events |= STREAM_INPUT; /* the rest comes later, since less was read than was asked for */
    return (ssize_t) done;
}

static ssize_t stream_write(struct peer *peer, const struct iovec *pieces, int count)
{
    struct remote *remote = remote_of(peer);
    size_t done = 0;

    if (remote->gone)
        return remote->reset ? -ECONNRESET : -EPIPE;
    for (int i = 0; i < count; i++) {
        size_t left = remote->window - done, most = pieces[i].iov_len < left ? pieces[i].iov_len : left;
        bytes_append(&remote->in, pieces[i].iov_base, most);
        done += most;
        if (most < pieces[i].iov_len) {
            remote->was_refused = true;
            break;
        }
    }
    remote->window -= done;
    remote->written += done;
    return !done && remote->was_refused ? -EAGAIN : (ssize_t) done;
}

static void stream_close(struct peer *peer)
{
    struct remote *remote = remote_of(peer);

    if (simulation_of(peer)->hands_over)
        return;
    CHECK(remote->peer == peer || !remote->peer, "another's stream was closed");
    remote->peer = NULL;
}

static void stream_set_deadline(struct peer *peer)
{
    if (!deadlines_set(&simulation_of(peer)->deadlines, peer))
        peer->deadline_s = 0;
}

static const struct stream_calls CALLS = {stream_read, stream_write, stream_close, stream_set_deadline, NULL};

void simulation_begin(struct simulation *simulation)
{
    *simulation = (struct simulation){.remotes_most = REMOTES_MOST};
    wire_init(&simulation->wire);
    simulation->wire.now_s = 1000;
    simulation->accounts[0] = account_new();
    simulation->accounts[1] = account_new();
    memory = (struct memory){0};
    memory.bytes = malloc_usable_size(simulation->accounts[0]) + malloc_usable_size(simulation->accounts[1]);
    memory.blocks = 2;
    memory.peak = memory.bytes;
}

struct port *simulation_add_port(struct simulation *simulation, enum socket_type type)
{
    struct port *port = &simulation->ports[simulation->port_count++];

    port_init(port, &simulation->wire, type, &CALLS);
    return port;
}

void simulation_end(struct simulation *simulation)
{
    struct wire *wire = &simulation->wire;

    memory.fail_in = 0;
    for (int i = 0; i < simulation->port_count; i++) {
        port_end(&simulation->ports[i]);
        memset(&simulation->ports[i], 0xa5, sizeof simulation->ports[i]);
    }
    wire_forget_dead(wire);
    deadlines_free(&simulation->deadlines);
    pool_empty(&wire->pool);
    CHECK(!wire->pool.slabs_alive, "%zu slabs are left", wire->pool.slabs_alive);
    CHECK(!wire->pool.segments_alive, "%zu segments are left", wire->pool.segments_alive);
    CHECK(!wire->ports_alive && !wire->peers_alive, "%zu peers are left", wire->peers_alive);
    CHECK(list_is_empty(&wire->changed) && list_is_empty(&wire->dead), "a list is not empty");
    CHECK(list_is_empty(&wire->asking), "somebody asks who is gone");
    CHECK(list_is_empty(&wire->left), "a subscriber is left");
    for (int i = 0; i < 2; i++) {
        CHECK(simulation->accounts[i]->references == 1, "somebody has kept an account");
        core_free(simulation->accounts[i]);
    }
    for (unsigned i = 0; i < simulation->remote_count; i++) {
        CHECK(!simulation->remotes[i]->peer, "a connection was not closed");
        bytes_free(&simulation->remotes[i]->in);
        bytes_free(&simulation->remotes[i]->out);
        free(simulation->remotes[i]);
    }
    CHECK(!memory.blocks && !memory.bytes, "%zu blocks are left", memory.blocks);
}

/* -- remotes
 * ----------------------------------------------------------------------------------------------------------- */

static const char *const NAMES[TYPE_COUNT] = {"PAIR",   "PUB",  "SUB",  "REQ",  "REP", "DEALER",
                                              "ROUTER", "PULL", "PUSH", "XPUB", "XSUB"};

struct remote *remote_new(struct simulation *simulation, int place, enum socket_type type, enum version version)
{
    struct remote *remote;

    if (simulation->remote_count == simulation->remotes_most)
        return NULL;
    remote = calloc(1, sizeof *remote);
    remote->simulation = simulation;
    remote->number = simulation->remote_count;
    remote->place = place;
    remote->type = type;
    remote->version = version;
    remote->window = SIZE_MAX / 2;
    simulation->remotes[simulation->remote_count++] = remote;
    struct peer *peer = peer_new(&simulation->ports[place], (int) remote->number, NULL);
    if (peer && peer->descriptor >= 0) {
        remote->peer = peer;
        peer_flush(peer);
    } else {
        remote->gone = true;
    }
    return remote;
}

void remote_send_frame(struct remote *remote, unsigned flags, const void *body, size_t size)
{
    uint8_t header[FRAME_LONG_HEADER];

    bytes_append(&remote->out, header, frame_write_header(header, flags, size));
    bytes_append(&remote->out, body, size);
}

void remote_send_command(struct remote *remote, const char *name, const void *body, size_t size)
{
    struct bytes whole = {0};
    uint8_t name_size = (uint8_t) strlen(name);

    bytes_append(&whole, &name_size, 1);
    bytes_append(&whole, name, name_size);
    bytes_append(&whole, body, size);
    remote_send_frame(remote, FRAME_COMMAND, whole.all, bytes_left(&whole));
    bytes_free(&whole);
}

void remote_send_greeting(struct remote *remote)
{
    uint8_t greeting[64] = {0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, remote->version == ZMTP_31, 'N', 'U', 'L', 'L'};
    struct bytes ready = {0};
    const char *name = NAMES[remote->type];
    uint8_t name_size = (uint8_t) strlen(name), identity_size = (uint8_t) remote->identity_size;

    if (remote->version == ZMTP_2) {
        greeting[10] = 1;
        greeting[11] = (uint8_t) remote->type;
        bytes_append(&remote->out, greeting, 12);
        remote_send_frame(remote, 0, remote->identity, remote->identity_size);
        return;
    }
    bytes_append(&remote->out, greeting, sizeof greeting);
    bytes_append(&ready, "\13Socket-Type\0\0\0", 15);
    bytes_append(&ready, &name_size, 1);
    bytes_append(&ready, name, name_size);
    bytes_append(&ready, "\10Identity\0\0\0", 12);
    bytes_append(&ready, &identity_size, 1);
    bytes_append(&ready, remote->identity, remote->identity_size);
    remote_send_command(remote, "READY", ready.all, bytes_left(&ready));
    bytes_free(&ready);
}

void remote_deliver(struct remote *remote, size_t count)
{
    size_t hidden = bytes_left(&remote->out) - remote->available;

    if (count > hidden)
        count = hidden;
    remote->available += count;
    if (count)
        remote->events |= STREAM_INPUT;
}

void remote_accept(struct remote *remote, size_t count)
{
    if (remote->window > SIZE_MAX / 4)
        return;
    remote->window += count;
    if (count && remote->was_refused) {
        remote->was_refused = false;
        remote->events |= STREAM_OUTPUT;
    }
}

void remote_leave(struct remote *remote, bool reset)
{
    remote->finished = remote->gone = true;
    remote->reset |= reset;
    remote_deliver(remote, SIZE_MAX);
    remote->events |= STREAM_INPUT | STREAM_OUTPUT | STREAM_END;
}

/* Parse the port's part of the handshake. Return how many bytes were used. */
static size_t parse_greeting(struct remote *remote, const uint8_t *bytes, size_t count)
{
    unsigned flags;
    uint64_t length;
    int header;

    switch (remote->stage) {
    case AWAITS_SIGNATURE:
        if (count < 11)
            return 0;
        CHECK(bytes[0] == 0xff && bytes[9] == 0x7f && bytes[10] == 3, "the signature is wrong");
        remote->stage = remote->version == ZMTP_2 ? AWAITS_TYPE_2 : AWAITS_GREETING;
        return 11;
    case AWAITS_GREETING:
        if (count < 53)
            return 0;
        CHECK(bytes[0] == 1 && !memcmp(bytes + 1, "NULL\0", 5), "the greeting is wrong");
        remote->stage = AWAITS_READY;
        return 53;
    case AWAITS_TYPE_2:
        CHECK(bytes[0] == (uint8_t) remote->simulation->ports[remote->place].type, "the type is wrong");
        remote->stage = AWAITS_IDENTITY_2;
        return 1;
    default:
        header = frame_header(bytes, count, &flags, &length);
        if (header <= 0 || count < (size_t) header + length) {
            CHECK(header >= 0, "a frame is malformed");
            return 0;
        }
        CHECK((flags & FRAME_COMMAND) == (remote->stage == AWAITS_READY ? FRAME_COMMAND : 0),
              "the first frame is wrong");
        CHECK(remote->stage != AWAITS_READY || !memcmp(bytes + header, "\5READY", 6), "READY was expected");
        remote->stage = AWAITS_FRAMES;
        return (size_t) header + length;
    }
}

void remote_parse(struct remote *remote)
{
    struct bytes *in = &remote->in;

    if (remote->ignores)
        in->start = in->end;
    while (bytes_left(in) > remote->frames_size) {
        const uint8_t *at = in->all + in->start + remote->frames_size;
        size_t count = bytes_left(in) - remote->frames_size;
        unsigned flags = 0;
        uint64_t length = 0;
        if (remote->stage != AWAITS_FRAMES) {
            size_t used = parse_greeting(remote, at, count);
            if (!used)
                return;
            in->start += used;
            continue;
        }
        int header = frame_header(at, count, &flags, &length);
        CHECK(header >= 0, "a malformed frame was sent to remote %u", remote->number);
        if (!header || count < (size_t) header + length)
            return;
        remote->frames_parsed++;
        if (flags & FRAME_COMMAND) {
            CHECK(!remote->frames_size, "a command stands in a message");
            in->start += (size_t) header + length;
            if (length >= 5 && !memcmp(at + header, "\4PONG", 5)) {
                CHECK(++remote->pongs <= remote->pings, "a PONG without a PING");
            } else if (length >= 5 && !memcmp(at + header, "\4PING", 5)) {
                if (!remote->finished)
                    remote_send_command(remote, "PONG", at + header + 7, length - 7);
            } else if (remote->simulation->on_command) {
                remote->simulation->on_command(remote, at + header, length);
            }
            continue;
        }
        remote->frames_size += (size_t) header + length;
        if (flags & FRAME_MORE)
            continue;
        size_t size = remote->frames_size;
        remote->frames_size = 0;
        in->start += size;
        if (remote->simulation->on_message)
            remote->simulation->on_message(remote, in->all + in->start - size, size);
    }
}

/* -- what net.c does ------------------------------------------------------------------------------------------------ */

bool simulation_serve(struct simulation *simulation)
{
    struct wire *wire = &simulation->wire;
    struct peer *first;
    bool any = !list_is_empty(&wire->left);

    wire_forget_dead(wire);
    wire_remove_subscriptions(wire);
    for (unsigned i = 0; i < simulation->remote_count; i++) {
        struct remote *remote = simulation->remotes[i];
        unsigned events = remote->events;
        if (!events || !remote->peer)
            continue;
        any = true;
        remote->events = 0;
        peer_on_stream(remote->peer, events);
    }
    for (int i = 0; (first = deadlines_first(&simulation->deadlines)) && first->deadline_s <= wire->now_s; i++) {
        CHECK(i < 1000, "deadlines are due without end");
        any = true;
        peer_on_deadline(first);
    }
    wire_look_ahead(wire);
    return any || !list_is_empty(&wire->left);
}

/* -- what must be true
 * -------------------------------------------------------------------------------------------------- */

struct amount encoded_amount(const uint8_t *bytes, size_t size)
{
    struct amount amount = {0};
    unsigned flags = 0;

    for (size_t at = 0; at < size;) {
        uint64_t length = 0;
        int header = frame_header(bytes + at, size - at, &flags, &length);
        CHECK(header > 0 && size - at - (size_t) header >= length, "a frame is not whole");
        CHECK(!(flags & FRAME_COMMAND), "a command stands in a message");
        at += (size_t) header + length;
        amount.frames++;
        amount.bytes += length;
        amount.messages += !(flags & FRAME_MORE);
    }
    CHECK(!(flags & FRAME_MORE), "a message is not whole");
    return amount;
}

static void check_queue(const struct simulation *simulation, const struct queue *queue, struct amount *held)
{
    size_t bytes = 0;
    uint64_t messages = 0;

    for (const struct segment *segment = queue->first; segment; segment = segment->next) {
        CHECK(segment->start < segment->end && segment->end <= segment->slab->capacity, "a segment is not in its slab");
        CHECK(segment->slab->references, "a segment's slab is free");
        CHECK(segment->next || segment == queue->last, "the end of a queue is lost");
        bytes += segment->end - segment->start;
        messages += segment->amount.messages;
        for (int i = 0; i < 2; i++)
            if (segment->account == simulation->accounts[i])
                amount_add(&held[i], segment->amount);
    }
    CHECK(queue->first || (!queue->last && !queue->written), "an empty queue is not");
    CHECK(queue->bytes == bytes - queue->written, "%zu bytes, not %zu", queue->bytes, bytes - queue->written);
    CHECK(queue->messages == messages, "%llu messages", (unsigned long long) queue->messages);
}

static void check_peer(const struct simulation *simulation, struct port *port, struct peer *peer, struct amount *held)
{
    CHECK(peer->port == port, "a peer is in the list of another port");
    CHECK(peer->start <= peer->ready_end && peer->ready_end <= peer->scanned && peer->scanned + peer->gap <= peer->end,
          "input");
    CHECK(peer->in ? peer->end <= peer->in->capacity && peer->in->references : !peer->end, "input");
    if (peer->in && peer->ready.messages) {
        struct amount ready = encoded_amount(peer->in->bytes + peer->start, peer->ready_end - peer->start);
        CHECK(!memcmp(&ready, &peer->ready, sizeof ready), "what is ready is counted wrongly");
    }
    check_queue(simulation, &peer->out, held);
    CHECK(!peer->attached || !peer->handshake, "attached before the handshake");
    CHECK(peer_is_asking(peer) == (peer->handshake && peer->handshake->stage == STAGE_ASKING), "who asks");
    CHECK(peer->descriptor >= 0 || !peer->attached, "attached after the end");
    CHECK(peer->descriptor >= 0 || peer->unread_end || peer->start == peer->end || port->nobody_takes,
          "what a peer has left counts nowhere");
    CHECK(peer->descriptor < 0 || !peer->unread_end, "an end that was none");
    CHECK(peer->descriptor >= 0 || (!peer->deadline_s && !peer->timer), "a deadline after the end");
    CHECK(peer->attached || peer->handshake || !peer->out.first, "something waits for a peer that has left");
    CHECK(!peer->out.first || peer->blocked || link_is_in(&peer->dirty_link), "nobody will write what waits");
    if (port_shares(port)) {
        bool has_turn = link_is_in(&peer->sharer.turn);
        CHECK(!has_turn || peer->attached, "a peer has room by mistake");
        CHECK(!has_turn || !turns_next(&port->turns) || !port->orphans.first, "orphans wait, and a peer has room");
        CHECK(has_turn || !peer->attached || !peer_has_room(peer), "a peer with room is not used");
    }
    if (peer->descriptor < 0 || (peer->readable && !peer->handshake))
        CHECK(link_is_in(&peer->readable_link), "a peer will never be read");
    if (port_routes(port) && peer->attached) {
        const struct key *id = &peer->routed.id;
        CHECK(map_find(&port->ids, id->bytes, id->size, id->hash) == id, "a peer cannot be found");
    }
}

static void check_port(const struct simulation *simulation, struct port *port, struct amount *held)
{
    uint64_t attached = 0, subscriptions = 0, connections = 0, unread_ends = 0;

    for (struct link *link = port->peers.next; link != &port->peers; link = link->next) {
        struct peer *peer = LISTED(link, struct peer, all);
        CHECK(link->next->previous == link, "a list is broken");
        check_peer(simulation, port, peer, held);
        attached += peer->attached;
        subscriptions += peer_subscription_count(peer);
        connections += peer->descriptor >= 0;
        unread_ends += peer->unread_end;
    }
    for (struct link *link = port->wire->left.next; link != &port->wire->left; link = link->next) {
        const struct subscriber *subscriber = LISTED(link, struct subscriber, left);
        CHECK(!subscriber->peer, "somebody who is there is taken for one who has left");
        subscriptions += subscriber->port == port ? subscriber->count : 0;
    }
    CHECK(connections == port->connections && unread_ends == port->unread_ends, "connections are counted wrongly");
    CHECK(attached == port->peer_count, "peers are counted wrongly");
    CHECK(port->type != TYPE_ROUTER || port->ids.count == attached, "a routing id without a peer");
    CHECK(port->topics.subscriptions.count == subscriptions, "subscriptions are counted wrongly");
    CHECK(!port->awaited || (port->awaited->attached && !peer_has_room(port->awaited)), "nobody has to be awaited");
    CHECK(port->type != TYPE_REQ || port->engaged == (port->partner != NULL), "a reply is awaited from nobody");
    CHECK(!port->partner || port->engaged, "a partner without a request");
    check_queue(simulation, &port->orphans, held);
    check_queue(simulation, &port->subscriptions, held);
}

void simulation_check(struct simulation *simulation)
{
    struct amount held[2] = {{0}};

    for (int i = 0; i < simulation->port_count; i++)
        check_port(simulation, &simulation->ports[i], held);
    for (int i = 0; i < 2; i++) {
        const struct account *account = simulation->accounts[i];
        CHECK(!memcmp(&held[i], &account->held, sizeof held[i]),
              "held: %llu messages %llu frames %llu bytes, not %llu %llu %llu",
              (unsigned long long) account->held.messages, (unsigned long long) account->held.frames,
              (unsigned long long) account->held.bytes, (unsigned long long) held[i].messages,
              (unsigned long long) held[i].frames, (unsigned long long) held[i].bytes);
        uint64_t counted = account->sent.messages + account->held.messages + account->unroutable + account->slow_peer +
                           account->interrupted + account->too_many_frames + account->long_subscription +
                           account->filtered;
        CHECK(account->received.messages == counted, "%llu messages were received, and %llu counted",
              (unsigned long long) account->received.messages, (unsigned long long) counted);
    }
}
