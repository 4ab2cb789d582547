/* Any bytes from peers to a port of each type, before and after the handshake. If one peer sends to a PULL, DEALER or
 * ROUTER, then what is taken is compared with what a simple parser finds in all of its bytes. */
#include "simulation.h"

#include "frame.h"

#include <string.h>

static const size_t SIZES[] = {0,          1,
                               2,          3,
                               5,          7,
                               64,         254,
                               255,        256,
                               257,        1023,
                               1024,       2048,
                               4095,       4096,
                               4097,       8192,
                               8193,       65535,
                               65536,      SLAB_LARGE - 9,
                               SLAB_LARGE, SLAB_LARGE + 1,
                               70000};
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

static const enum socket_type TYPES[] = {TYPE_PULL, TYPE_PUSH, TYPE_ROUTER, TYPE_DEALER, TYPE_REP,
                                         TYPE_REQ,  TYPE_XPUB, TYPE_PUB,    TYPE_XSUB,   TYPE_SUB};
static const enum socket_type PARTNERS[TYPE_COUNT] = {
    [TYPE_PULL] = TYPE_PUSH, [TYPE_PUSH] = TYPE_PULL, [TYPE_ROUTER] = TYPE_DEALER, [TYPE_DEALER] = TYPE_ROUTER,
    [TYPE_REP] = TYPE_REQ,   [TYPE_REQ] = TYPE_REP,   [TYPE_XPUB] = TYPE_XSUB,     [TYPE_PUB] = TYPE_SUB,
    [TYPE_XSUB] = TYPE_XPUB, [TYPE_SUB] = TYPE_PUB,
};

struct raw {
    struct simulation simulation;
    struct bytes sent; /* by the only remote, after its greeting */
    bool compares;
    uint64_t taken_hash, taken;
};

static uint64_t hash_of(uint64_t hash, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash * 31 + size;
}

static void send(struct raw *raw, struct remote *remote, const void *bytes, size_t count)
{
    bytes_append(&remote->out, bytes, count);
    if (raw->compares)
        bytes_append(&raw->sent, bytes, count);
}

static void send_frame(struct raw *raw, struct remote *remote, unsigned flags, const void *body, size_t size,
                       bool as_long)
{
    uint8_t header[FRAME_LONG_HEADER] = {(uint8_t) (flags | FRAME_LONG)};
    size_t header_size = FRAME_LONG_HEADER;

    if (as_long)
        for (int i = 0; i < 8; i++)
            header[1 + i] = (uint8_t) ((uint64_t) size >> (56 - 8 * i));
    else
        header_size = frame_write_header(header, flags, size);
    send(raw, remote, header, header_size);
    send(raw, remote, body, size);
}

static void send_something(struct raw *raw, struct input *input, struct remote *remote)
{
    static uint8_t body[300010];
    static const char *const COMMANDS[] = {"\4PING\0\0", "\4PING\0\12", "\4PONG",  "\11SUBSCRIBE",
                                           "\6CANCEL",   "\5ERROR",     "\5READY", "\3ABC"};
    static const uint8_t COMMAND_SIZES[] = {7, 7, 5, 10, 7, 6, 6, 4};
    size_t size, count;
    unsigned what = draw(input, 12), flags;

    if (what < 2) { /* any bytes */
        count = draw(input, 32);
        if (count > (size_t) (input->end - input->at))
            count = (size_t) (input->end - input->at);
        send(raw, remote, input->at, count);
        input->at += count;
    } else if (what < 7) { /* frames of a valid message */
        for (unsigned frames = 1 + draw(input, 6); frames; frames--) {
            size = SIZES[draw(input, SIZE_COUNT - (what < 6 ? 8 : 0))];
            memset(body, draw(input, 4), size);
            send_frame(raw, remote, frames > 1 ? FRAME_MORE : 0, body, size, !draw(input, 8));
            if (!draw(input, 4))
                send_frame(raw, remote, FRAME_COMMAND, "\4PING\0\0abc", 7 + draw(input, 4), false);
        }
    } else if (what < 9) { /* a command with something behind it */
        unsigned which = draw(input, 8);
        memcpy(body, COMMANDS[which], COMMAND_SIZES[which]);
        size = draw(input, 4) ? draw(input, 18) : SIZES[draw(input, SIZE_COUNT)];
        memset(body + COMMAND_SIZES[which], draw(input, 3), size);
        send_frame(raw, remote, FRAME_COMMAND, body, COMMAND_SIZES[which] + size, !draw(input, 8));
    } else if (what < 11) { /* a frame with flags that may be wrong, or a size that is never sent */
        flags = draw(input, 9);
        size = SIZES[draw(input, SIZE_COUNT)];
        memset(body, draw(input, 4), size);
        send_frame(raw, remote, flags, body, size, !draw(input, 4));
    } else {
        uint8_t header[FRAME_LONG_HEADER] = {(uint8_t) (FRAME_LONG | draw(input, 2)), (uint8_t) draw(input, 256)};
        header[8] = (uint8_t) draw(input, 256);
        send(raw, remote, header, sizeof header);
    }
}

static void check_message(const struct port *port, const struct message *message)
{
    struct amount amount =
        encoded_amount(message->run.slab->bytes + message->run.start, message->run.end - message->run.start);

    CHECK(!memcmp(&amount, &message->run.amount, sizeof amount), "a message is counted wrongly");
    CHECK(port->type != TYPE_ROUTER || message->prefix_size, "a message without the routing id of its peer");
    if (message->prefix_size)
        CHECK(message->prefix[0] == FRAME_MORE && message->prefix_size == 2u + message->prefix[1], "the routing id");
}

static void take(struct raw *raw, unsigned most, unsigned count)
{
    struct port *port = &raw->simulation.ports[0];
    struct message message;

    port->may_read = SLAB_LARGE;
    for (unsigned i = 0; i < count; i++) {
        enum taken taken = port_take(port, &message, most);
        if (taken == TAKEN_NOTHING || taken == TAKEN_LATER)
            break;
        if (taken == TAKEN_TOO_LONG)
            continue;
        check_message(port, &message);
        CHECK(message.run.amount.messages <= most, "too many messages at once");
        if (raw->compares) {
            const uint8_t *at = message.run.slab->bytes + message.run.start;
            for (size_t left = message.run.end - message.run.start; left;) { /* one message after the other */
                unsigned flags = FRAME_MORE;
                size_t size = 0;
                while (flags & FRAME_MORE) {
                    uint64_t length = 0;
                    int header = frame_header(at + size, left - size, &flags, &length);
                    size += (size_t) header + length;
                }
                raw->taken_hash = hash_of(raw->taken_hash, at, size);
                raw->taken++;
                at += size;
                left -= size;
            }
        }
        port_consume(port, &message);
    }
    port_flush(port);
    port->discarded = (struct amount){0};
}

static bool is_named(const uint8_t *command, const char *name)
{
    return command[0] == strlen(name) && !memcmp(command + 1, name, command[0]);
}

/* What must be taken, by a parser that sees all bytes at once. */
static void compare(const struct raw *raw)
{
    const struct port *port = &raw->simulation.ports[0];
    const uint8_t *bytes = raw->sent.all; /* nothing was taken out */
    size_t size = bytes_left(&raw->sent);
    uint64_t hash = 0, count = 0, frames = port->type == TYPE_ROUTER;
    struct bytes message = {0};

    for (size_t at = 0; at < size;) {
        unsigned flags;
        uint64_t length = 0;
        int header = frame_header(bytes + at, size - at, &flags, &length);
        if (header <= 0)
            break;
        if (flags & FRAME_COMMAND ? length > 8192
                                  : port->options.maxmsgsize >= 0 && length > (uint64_t) port->options.maxmsgsize)
            break;
        if (size - at - (size_t) header < length)
            break;
        const uint8_t *body = bytes + at + header;
        if (flags & FRAME_COMMAND) {
            if (!length || !body[0] || 1u + body[0] > length) /* no name */
                break;
            if (is_named(body, "PING") ? length < 7 || length > 23
                                       : is_named(body, "SUBSCRIBE") || is_named(body, "CANCEL") ||
                                             is_named(body, "ERROR") || is_named(body, "READY"))
                break;
        } else {
            frames++;
            bytes_append(&message, bytes + at, (size_t) header + length);
            if (!(flags & FRAME_MORE)) {
                if (frames <= port->options.maxframes) {
                    hash = hash_of(hash, message.all + message.start, bytes_left(&message));
                    count++;
                }
                message.start = message.end = 0;
                frames = port->type == TYPE_ROUTER;
            }
        }
        at += (size_t) header + length;
    }
    bytes_free(&message);
    CHECK(count == raw->taken, "%llu messages were taken of %llu", (unsigned long long) raw->taken,
          (unsigned long long) count);
    CHECK(hash == raw->taken_hash, "other messages were taken than were sent");
}

static struct remote *add_remote(struct raw *raw, struct input *input, int place, bool greets)
{
    static const enum version VERSIONS[] = {ZMTP_31, ZMTP_30, ZMTP_2};
    struct port *port = &raw->simulation.ports[place];
    struct remote *remote = remote_new(&raw->simulation, place, PARTNERS[port->type], VERSIONS[draw(input, 3)]);

    if (remote)
        remote->pings = SIZE_MAX; /* nobody counts them */
    if (remote)
        remote->ignores = !greets;

    if (remote && greets) {
        if (draw(input, 2)) {
            remote->identity[0] = (uint8_t) draw(input, 4);
            remote->identity_size = 1 + draw(input, 3);
        }
        remote_send_greeting(remote);
        if (draw(input, 4)) {
            remote_deliver(remote, SIZE_MAX);
            simulation_serve(&raw->simulation);
        }
    }
    return remote;
}

void run_raw(struct input *input)
{
    static struct raw raw;
    struct simulation *simulation = &raw.simulation;
    static const uint64_t FRAMES[] = {UINT64_MAX, 1, 2, 3, 5};
    static const int64_t BYTES[] = {-1, 0, 1, 255, 256, 100000};

    raw.sent = (struct bytes){0};
    raw.taken = raw.taken_hash = 0;
    simulation_begin(simulation);
    struct port *port = simulation_add_port(simulation, TYPES[draw(input, sizeof TYPES / sizeof *TYPES)]);
    struct port *sink = simulation_add_port(simulation, TYPES[draw(input, sizeof TYPES / sizeof *TYPES)]);
    port->options.maxframes = FRAMES[draw(input, 5)];
    port->options.maxmsgsize = BYTES[draw(input, 6)];
    port->options.router_handover = draw(input, 2);
    port->options.xpub_verbose = draw(input, 2);
    port->options.xpub_nodrop = sink->options.xpub_nodrop = draw(input, 2);
    port->options.sndhwm = sink->options.sndhwm = (int) draw(input, 3);
    port->options.heartbeat_ivl = draw(input, 2) ? 1000 : 0;
    port->options.subscriptions_max = 1 + draw(input, 20);
    port->options.subscription_max_bytes = draw(input, 2) ? 4096 : 10;
    raw.compares =
        draw(input, 2) && (port->type == TYPE_PULL || port->type == TYPE_DEALER || port->type == TYPE_ROUTER);
    /* Without a draw of its own, so that inputs that were found earlier mean what they meant. */
    port->nobody_takes = !raw.compares && port->options.subscriptions_max == 7;
    sink->nobody_takes = port->options.subscriptions_max % 4 == 1;
    if (port->type == TYPE_SUB || port->type == TYPE_XSUB)
        port_subscribe(port, (const uint8_t *) "", draw(input, 2));
    if (raw.compares) {
        struct remote *only = remote_new(simulation, 0, PARTNERS[port->type], draw(input, 2) ? ZMTP_31 : ZMTP_2);
        only->pings = SIZE_MAX;
        remote_send_greeting(only);
    } else {
        if (memory_is_to_fail(input, 4))
            memory_fail(input, 200);
        add_remote(&raw, input, 0, draw(input, 4));
        add_remote(&raw, input, 1, true);
    }
    for (int step = 0; step < 300 && !input_is_empty(input) && simulation->remote_count; step++) {
        struct remote *remote = simulation->remotes[draw(input, raw.compares ? 1 : simulation->remote_count)];
        unsigned what = draw(input, 16);
        size_t size = SIZES[draw(input, SIZE_COUNT)];
        if (what < 6) {
            if (!remote->finished)
                send_something(&raw, input, remote);
        } else if (what < 9) {
            remote_deliver(remote, what == 6 ? draw(input, 12) : size);
            simulation_serve(simulation);
        } else if (what < 11) {
            take(&raw, draw(input, 2) ? 1 : 100, 1 + draw(input, 8));
        } else if (raw.compares) {
            remote->read_most = draw(input, 3) ? 0 : size;
            simulation->wire.look_s = 0; /* nobody has read for a while */
            simulation_serve(simulation);
        } else if (what < 13) {
            relay(port, sink, simulation->accounts[0], 1 + draw(input, 10), 1 + size);
            relay(sink, port, simulation->accounts[1], 1 + draw(input, 10), 1 + size);
        } else if (what == 13) {
            if (!remote->finished)
                remote_leave(remote, draw(input, 2));
            simulation_serve(simulation);
        } else if (what == 14) {
            add_remote(&raw, input, (int) draw(input, 2), draw(input, 4));
        } else {
            remote->window = draw(input, 2) ? size : SIZE_MAX / 2;
            remote->events |= STREAM_OUTPUT;
            unsigned passes_s = draw(input, 3);
            simulation->wire.now_s += passes_s;
            if (passes_s == 2)
                simulation_move(simulation, raw.compares ? NULL : input);
        }
        simulation_check(simulation);
    }
    if (raw.compares) {
        simulation->remotes[0]->read_most = 0;
        remote_leave(simulation->remotes[0], false);
        simulation_serve(simulation);
        simulation_check(simulation);
        for (int i = 0; i < 1000 && (simulation->remotes[0]->peer || !list_is_empty(&port->readable)); i++)
            take(&raw, 1 + (unsigned) i % 3, 1000);
        CHECK(!simulation->remotes[0]->peer, "the connection never ends");
        compare(&raw);
    } else {
        memory.fail_in = 0;
        for (unsigned i = 0; i < simulation->remote_count; i++) {
            if (!simulation->remotes[i]->finished)
                remote_deliver(simulation->remotes[i], SIZE_MAX);
            remote_parse(simulation->remotes[i]);
        }
        simulation_serve(simulation);
        port_count_unread(port, 1000);
        simulation_check(simulation);
    }
    bytes_free(&raw.sent);
    simulation_end(simulation);
}
