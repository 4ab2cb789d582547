/* Peers that keep to the protocol, at two ports of which one passes on what the other receives, against a model: each
 * message that arrives is one that was sent, whole, at the right peer, in order, and once; and what was sent arrives or
 * is counted. */
#include "simulation.h"

#include "frame.h"

#include <string.h>

enum shape {
    PULL_PUSH,
    ROUTER_DEALER,
    DEALER_DEALER,
    XSUB_XPUB,
    REP_REQ,
    ROUTER_ROUTER,
    PULL_PUB,
    SUB_PUSH,
    SHAPE_COUNT
};

static const struct {
    enum socket_type ports[2];
    bool both_ways;
    unsigned remotes[2]; /* the types of remotes, as bits */
} SHAPES[SHAPE_COUNT] = {
#define BIT(name) (1u << TYPE_##name)
    [PULL_PUSH] = {{TYPE_PULL, TYPE_PUSH}, false, {BIT(PUSH), BIT(PULL)}},
    [ROUTER_DEALER] = {{TYPE_ROUTER, TYPE_DEALER},
                       true,
                       {BIT(DEALER) | BIT(REQ) | BIT(ROUTER), BIT(DEALER) | BIT(ROUTER) | BIT(REP)}},
    [DEALER_DEALER] = {{TYPE_DEALER, TYPE_DEALER}, true, {BIT(DEALER) | BIT(ROUTER), BIT(DEALER) | BIT(REP)}},
    [XSUB_XPUB] = {{TYPE_XSUB, TYPE_XPUB}, true, {BIT(PUB) | BIT(XPUB), BIT(SUB) | BIT(XSUB)}},
    [REP_REQ] = {{TYPE_REP, TYPE_REQ}, true, {BIT(REQ) | BIT(DEALER), BIT(REP) | BIT(ROUTER)}},
    [ROUTER_ROUTER] = {{TYPE_ROUTER, TYPE_ROUTER}, true, {BIT(DEALER) | BIT(ROUTER), BIT(DEALER) | BIT(ROUTER)}},
    [PULL_PUB] = {{TYPE_PULL, TYPE_PUB}, false, {BIT(PUSH), BIT(SUB) | BIT(XSUB)}},
    [SUB_PUSH] = {{TYPE_SUB, TYPE_PUSH}, false, {BIT(PUB) | BIT(XPUB), BIT(PULL)}},
};

enum { RECORDS_MAX = 1 << 12, MAGIC = 0xd7, TOPIC_MAX = 4, FRAMES_MAX = 300 };

static const char *const TOPICS[] = {"", "a", "ab", "abc", "b", "ba", "bab", "c"};
enum { TOPIC_COUNT = sizeof TOPICS / sizeof *TOPICS };

/* A message that was sent. Its first frame has MAGIC and its number, so that it is known again. */
struct record {
    struct remote *from;
    int flow;
    unsigned frame_count, lead; /* of its own frames; of empty frames in front of them */
    uint32_t *sizes;
    size_t end;    /* how many bytes its remote had sent when it was complete */
    bool whole;    /* it was sent whole, and its connection was not broken before */
    bool too_long; /* more frames than the source may take */
    bool unwanted; /* it must not arrive */
    unsigned topic_size;
    uint8_t topic[TOPIC_MAX];
    uint8_t to[8]; /* the routing id that it was sent to */
    unsigned to_size;
    int request;         /* that it answers, or -1 */
    uint64_t arrived_at; /* which remotes, as bits */
};

/* What the model knows of a remote, beyond its stream. */
struct notes {
    bool ever[TOPIC_COUNT];           /* the topics that it has subscribed to, if only for a while */
    bool now[TOPIC_COUNT];            /* those that it has subscribed to */
    bool upstream[TOPIC_COUNT];       /* at a publisher: what the port has subscribed to */
    int last_from[REMOTES_MAX];       /* the record that came last from each remote */
    int requests[32], request_count;  /* REP: those that it has not answered */
    uint8_t known_ids[16][8];         /* DEALER's peers: the routing ids that requests have come from */
    uint8_t known_sizes[16];
    int known_count;
    bool killed; /* the port has a reason to end it */
    bool well;   /* until it was reset */
};

static struct model {
    struct simulation simulation;
    enum shape shape;
    struct record records[RECORDS_MAX];
    int record_count;
    bool sinks_left[2]; /* a peer of this port has left, so that messages may have gone to another */
    bool memory_fails, draining;
    enum { WAITING, STALLED, READY } flows[2];
    uint64_t arrived[2]; /* at remotes, by flow */
    size_t largest;
    int topic; /* of the next message, if it is not drawn */
} model;

static struct notes *notes_of(const struct remote *remote)
{
    return remote->model;
}

enum { BODY_MAX = 70000, SHIFTS = 251 };

/* The body of a frame, which is that of no other frame nearby. The first one begins with MAGIC and the number of its message, if
 * it has room for that. */
static void make_body(uint8_t *body, size_t size, unsigned record, unsigned frame)
{
    static uint8_t pattern[BODY_MAX + SHIFTS];

    if (!pattern[1])
        for (size_t i = 0; i < sizeof pattern; i++)
            pattern[i] = (uint8_t) (i * 7 + (i >> 8));
    memcpy(body, pattern + (record * 31 + frame * 17) % SHIFTS, size);
    if (frame == 0 && size >= 4) {
        body[0] = MAGIC;
        body[1] = (uint8_t) (record >> 8);
        body[2] = (uint8_t) record;
    }
}

/* All bytes that a remote has sent, its answers to heartbeats among them. */
static size_t sent_bytes(const struct remote *remote)
{
    return remote->taken + bytes_left(&remote->out);
}

static bool is_topical(int port)
{
    return model.shape == XSUB_XPUB || model.shape == PULL_PUB || (model.shape == SUB_PUSH && port == 0);
}

static size_t draw_size(struct input *input)
{
    static const size_t SIZES[] = {0,
                                   1,
                                   2,
                                   10,
                                   100,
                                   254,
                                   255,
                                   256,
                                   257,
                                   1000,
                                   4080,
                                   4094,
                                   4095,
                                   4096,
                                   4097,
                                   5000,
                                   SLAB_LARGE - 9,
                                   SLAB_LARGE,
                                   SLAB_LARGE + 1,
                                   65535,
                                   65536,
                                   65537};
    unsigned large = draw(input, 16);

    return large ? SIZES[draw(input, large < 9 ? 10 : 16)] : SIZES[draw(input, 22)];
}

static void maybe_ping(struct input *input, struct remote *remote)
{
    if (remote->version == ZMTP_31 && !draw(input, 12)) {
        remote->pings++;
        remote_send_command(remote, "PING", "\0\0contextcontextc", 2 + draw(input, 15));
    }
}

/* A remote sends a message: `request` is the record that it answers, or -1. */
static void send_message(struct input *input, struct remote *remote, int request)
{
    static uint8_t body[BODY_MAX];
    struct notes *notes = notes_of(remote);
    struct port *port = &model.simulation.ports[remote->place];

    if (remote->finished || model.record_count == RECORDS_MAX)
        return;
    int number = model.record_count++;
    struct record *record = &model.records[number];
    *record = (struct record){.from = remote, .flow = remote->place, .request = request};
    bool many = !draw(input, 40), has_source = remote->place == 0 || SHAPES[model.shape].both_ways;
    record->frame_count = many ? 1 + draw(input, FRAMES_MAX) : 1 + (draw(input, 2) ? draw(input, 5) : 0);
    record->sizes = calloc(record->frame_count, sizeof *record->sizes);
    uint64_t frames = record->frame_count + (port->type == TYPE_ROUTER);
    bool large = false;
    size_t size = 0;
    for (unsigned i = 0; i < record->frame_count; i++) {
        record->sizes[i] = (uint32_t) (many ? draw(input, 4) : draw_size(input));
        if (i == 0 && record->sizes[i] < 4)
            record->sizes[i] = 4;
        large |= port->options.maxmsgsize >= 0 && record->sizes[i] > port->options.maxmsgsize;
        size += record->sizes[i] + 9;
    }
    if (size > model.largest)
        model.largest = size;
    record->unwanted = !has_source;

    /* What goes in front of its own frames. */
    if (model.shape == ROUTER_DEALER && remote->place == 0 && remote->type == TYPE_REQ)
        record->lead = 1;
    if (model.shape == ROUTER_DEALER && remote->place == 1) {
        if (notes->known_count && draw(input, 8)) {
            int known = (int) draw(input, (unsigned) notes->known_count);
            record->to_size = notes->known_sizes[known];
            memcpy(record->to, notes->known_ids[known], record->to_size);
        } else {
            record->to_size = 1 + draw(input, 2);
            record->to[0] = (uint8_t) ('A' + draw(input, 6));
        }
        record->lead = draw(input, 2);
        remote_send_frame(remote, FRAME_MORE, record->to, record->to_size);
        frames++;
    }
    if (model.shape == REP_REQ) {
        if (remote->place == 0 &&
            remote->type == TYPE_DEALER) { /* an envelope that tells which request a reply is for */
            uint8_t envelope[6] = {MAGIC, (uint8_t) (number >> 8), (uint8_t) number};
            remote_send_frame(remote, FRAME_MORE, envelope, 6);
            if (draw(input, 2))
                remote_send_frame(remote, FRAME_MORE, body, 4 + draw(input, 250)), frames++;
            frames++;
        }
        if (remote->place == 0 || request >= 0)
            remote_send_frame(remote, FRAME_MORE, "", 0), frames++;
        record->unwanted |= remote->place == 1 && request < 0;
    }
    if (is_topical(remote->place)) {
        const char *topic = TOPICS[model.topic >= 0 ? (unsigned) model.topic : draw(input, TOPIC_COUNT)];
        record->topic_size = (unsigned) strlen(topic);
        memcpy(record->topic, topic, record->topic_size);
        maybe_ping(input, remote);
        remote_send_frame(remote, FRAME_MORE, topic, record->topic_size);
        frames++;
    }
    for (unsigned i = 0; i < record->lead; i++)
        remote_send_frame(remote, FRAME_MORE, "", 0), frames++;
    for (unsigned i = 0; i < record->frame_count; i++) {
        make_body(body, record->sizes[i], (unsigned) number, i);
        maybe_ping(input, remote);
        remote_send_frame(remote, i + 1 < record->frame_count ? FRAME_MORE : 0, body, record->sizes[i]);
    }
    record->too_long = frames > port->options.maxframes;
    record->whole = notes->well && !notes->killed && !large;
    notes->killed |= large;
    record->unwanted |= record->too_long || large || notes->killed;
    record->end = sent_bytes(remote);
}

/* -- what arrives
 * ------------------------------------------------------------------------------------------------------- */

struct frame {
    const uint8_t *body;
    size_t size;
};

static void note_known(struct notes *notes, struct frame id)
{
    if (id.size > 8)
        return;
    for (int i = 0; i < notes->known_count; i++)
        if (notes->known_sizes[i] == id.size && !memcmp(notes->known_ids[i], id.body, id.size))
            return;
    if (notes->known_count < 16) {
        notes->known_sizes[notes->known_count] = (uint8_t) id.size;
        memcpy(notes->known_ids[notes->known_count++], id.body, id.size);
    }
}

static bool has_subscribed(const struct notes *notes, const struct record *record)
{
    for (unsigned i = 0; i < TOPIC_COUNT; i++) {
        size_t size = strlen(TOPICS[i]);
        if (notes->ever[i] && size <= record->topic_size && !memcmp(TOPICS[i], record->topic, size))
            return true;
    }
    return false;
}

static void on_subscription(struct notes *notes, bool subscribe, const uint8_t *topic, size_t size)
{
    for (unsigned i = 0; i < TOPIC_COUNT; i++)
        if (strlen(TOPICS[i]) == size && !memcmp(TOPICS[i], topic, size)) {
            /* One that others have, too, is told again, and cancelled with the last. */
            CHECK(subscribe || notes->upstream[i], "a subscription is cancelled that there is not");
            notes->upstream[i] = subscribe;
            return;
        }
    FAIL("a subscription that nobody has made");
}

static void on_command(struct remote *remote, const uint8_t *body, size_t size)
{
    CHECK(remote->version == ZMTP_31, "a command for an old peer");
    if (size >= 10 && !memcmp(body, "\11SUBSCRIBE", 10))
        on_subscription(notes_of(remote), true, body + 10, size - 10);
    else if (size >= 7 && !memcmp(body, "\6CANCEL", 7))
        on_subscription(notes_of(remote), false, body + 7, size - 7);
    else
        FAIL("an unknown command");
}

static void on_message(struct remote *remote, const uint8_t *bytes, size_t size)
{
    static struct frame frames[FRAMES_MAX + 16];
    struct notes *notes = notes_of(remote);
    unsigned count = 0, at = 0, flags = FRAME_MORE;
    enum socket_type port = model.simulation.ports[remote->place].type;
    int envelope = -1;

    for (size_t i = 0; i < size;) {
        CHECK(flags & FRAME_MORE && count < FRAMES_MAX + 16, "frames behind a message");
        uint64_t length = 0;
        int header = frame_header(bytes + i, size - i, &flags, &length);
        frames[count++] = (struct frame){bytes + i + header, length};
        i += (size_t) header + length;
    }
    if ((port == TYPE_XSUB || port == TYPE_SUB) && count == 1 && frames[0].size && frames[0].body[0] <= 1) {
        CHECK(remote->version != ZMTP_31, "an old subscription for a new peer");
        on_subscription(notes, frames[0].body[0], frames[0].body + 1, frames[0].size - 1);
        return;
    }
    if (model.shape == ROUTER_DEALER && remote->place == 1)
        note_known(notes, frames[at++]);
    if (model.shape == REP_REQ && remote->place == 1) {
        CHECK(count > 1 && frames[0].size == 0, "a request without a delimiter");
        at++;
    }
    if (model.shape == REP_REQ && remote->place == 0) {
        if (remote->type == TYPE_DEALER) {
            CHECK(frames[0].size == 6 && frames[0].body[0] == MAGIC, "a reply without its envelope");
            envelope = frames[0].body[1] << 8 | frames[0].body[2];
            at++;
            if (frames[at].size)
                at++;
        }
        CHECK(frames[at].size == 0, "a reply without its delimiter");
        at++;
    }
    if (is_topical(0))
        at++;
    while (at < count && frames[at].size == 0)
        at++;
    CHECK(at < count && frames[at].size >= 4 && frames[at].body[0] == MAGIC, "a message that nobody has sent");
    int number = frames[at].body[1] << 8 | frames[at].body[2];
    CHECK(number < model.record_count, "a message that nobody has sent");
    struct record *record = &model.records[number];
    CHECK(record->frame_count == count - at, "message %d has lost frames, or has too many", number);
    for (unsigned i = 0; i < record->frame_count; i++) {
        static uint8_t body[BODY_MAX];
        CHECK(frames[at + i].size == record->sizes[i], "frame %u of message %d has another size", i, number);
        make_body(body, record->sizes[i], (unsigned) number, i);
        CHECK(!memcmp(body, frames[at + i].body, record->sizes[i]), "frame %u of message %d was changed", i, number);
    }
    CHECK(record->flow != remote->place, "message %d came back", number);
    CHECK(!record->unwanted, "message %d must not arrive", number);
    CHECK(record->whole, "message %d was not sent whole", number);
    CHECK(!(record->arrived_at >> remote->number & 1), "message %d has arrived twice", number);
    record->arrived_at |= (uint64_t) 1 << remote->number;
    model.arrived[record->flow]++;
    if (port != TYPE_XPUB && port != TYPE_PUB)
        CHECK(!(record->arrived_at & (record->arrived_at - 1)), "message %d has arrived at two peers", number);
    else
        CHECK(frames[0].size == record->topic_size && has_subscribed(notes, record), "message %d was not subscribed to",
              number);
    int last = notes->last_from[record->from->number];
    bool left = model.sinks_left[remote->place];
    for (int i = 0; i < REASON_COUNT; i++)
        left |= model.simulation.ports[remote->place].ended_by[i] > 0;
    if (!left || port == TYPE_ROUTER || port == TYPE_XPUB || port == TYPE_PUB)
        CHECK(last < number, "message %d has come after %d", number, last);
    notes->last_from[record->from->number] = number;
    if (record->to_size && remote->identity_size)
        CHECK(remote->identity_size == record->to_size && !memcmp(remote->identity, record->to, record->to_size),
              "message %d was for another peer", number);
    if (model.shape == ROUTER_ROUTER)
        CHECK(remote->identity_size == record->from->identity_size &&
                  !memcmp(remote->identity, record->from->identity, remote->identity_size),
              "message %d was for another peer", number);
    if (model.shape == REP_REQ && remote->place == 0) {
        CHECK(record->request >= 0 && model.records[record->request].from == remote, "reply %d is not for this peer",
              number);
        CHECK(envelope < 0 || envelope == record->request, "reply %d has the envelope of another request", number);
    }
    if (model.shape == REP_REQ && remote->place == 1 && notes->request_count < 32)
        notes->requests[notes->request_count++] = number;
}

/* -- the remotes
 * -------------------------------------------------------------------------------------------------------- */

static struct remote *add_remote(struct input *input, int place)
{
    static const enum version VERSIONS[] = {ZMTP_31, ZMTP_31, ZMTP_30, ZMTP_2};
    enum socket_type type;
    static const size_t WINDOWS[] = {0, 100, 5000, 100000};

    do
        type = (enum socket_type)(draw(input, TYPE_COUNT));
    while (!(SHAPES[model.shape].remotes[place] >> type & 1) && !input_is_empty(input));
    if (!(SHAPES[model.shape].remotes[place] >> type & 1))
        type = (enum socket_type) __builtin_ctz(SHAPES[model.shape].remotes[place]);
    struct remote *remote = remote_new(&model.simulation, place, type, VERSIONS[draw(input, 4)]);
    if (!remote)
        return NULL;
    struct notes *notes = remote->model = calloc(1, sizeof *notes);
    memset(notes->last_from, 0xff, sizeof notes->last_from);
    notes->well = !remote->gone;
    if (type != TYPE_PUSH && (draw(input, 2) || model.shape == ROUTER_ROUTER)) {
        remote->identity_size = 1;
        remote->identity[0] = (uint8_t) ('A' + draw(input, 6));
    }
    if (!draw(input, 3))
        remote->window = WINDOWS[draw(input, 4)];
    remote_send_greeting(remote);
    if (draw(input, 8))
        remote_deliver(remote, SIZE_MAX);
    return remote;
}

static bool is_subscriber(const struct remote *remote)
{
    return remote->type == TYPE_SUB || remote->type == TYPE_XSUB;
}

/* Subscribe to a topic, or cancel that: by a command, or by a frame of a message that may have several. */
static void subscribe(struct input *input, struct remote *remote)
{
    struct notes *notes = notes_of(remote);
    unsigned which = draw(input, TOPIC_COUNT);
    uint64_t most = model.simulation.ports[1].options.maxframes; /* of the port that it is connected to */
    bool is_command = remote->version == ZMTP_31 && draw(input, 4), more = true;

    for (uint64_t frames = 1; more && !remote->finished; frames++) {
        bool cancels = notes->now[which];
        size_t size = strlen(TOPICS[which]);
        uint8_t body[8] = {!cancels};
        memcpy(body + 1, TOPICS[which], size);
        more = !is_command && frames < most && draw(input, 4) == 3;
        if (is_command)
            remote_send_command(remote, cancels ? "CANCEL" : "SUBSCRIBE", TOPICS[which], size);
        else
            remote_send_frame(remote, more ? FRAME_MORE : 0, body, 1 + size);
        notes->now[which] = !cancels;
        notes->ever[which] |= !cancels;
        which = more ? draw(input, TOPIC_COUNT) : which;
    }
}

static void leave(struct input *input, struct remote *remote)
{
    struct notes *notes = notes_of(remote);
    bool reset = !draw(input, 3);
    size_t cut = draw(input, 2) ? draw(input, 65536) : 0, hidden = bytes_left(&remote->out) - remote->available;

    if (remote->finished)
        return;
    cut = cut < hidden ? cut : hidden;
    remote->out.end -= cut;
    for (int i = 0; i < model.record_count; i++)
        if (model.records[i].from == remote && model.records[i].end > sent_bytes(remote)) {
            model.records[i].whole = false;
            model.records[i].unwanted = true;
        }
    if (reset)
        notes->well = false;
    model.sinks_left[remote->place] = true;
    remote_leave(remote, reset);
}

static void parse_all(struct input *input)
{
    for (unsigned i = 0; i < model.simulation.remote_count; i++) {
        struct remote *remote = model.simulation.remotes[i];
        struct notes *notes = notes_of(remote);
        remote_parse(remote);
        while (notes->request_count && (model.draining || draw(input, 3)))
            send_message(input, remote, notes->requests[--notes->request_count]);
        if (model.draining) {
            remote->read_most = 0;
            remote_deliver(remote, SIZE_MAX);
            if (!remote->finished)
                remote_accept(remote, SIZE_MAX / 2);
        }
    }
}

/* -- the engine
 * --------------------------------------------------------------------------------------------------------- */

static void move(int flow, uint64_t limit_messages, uint64_t limit_bytes)
{
    struct port *source = &model.simulation.ports[flow], *sink = &model.simulation.ports[1 - flow];
    struct account *account = model.simulation.accounts[flow];
    struct amount before = account->received;

    enum relayed outcome = relay(source, sink, account, limit_messages, limit_bytes);
    /* A run that could not be queued, since there was no memory, is offered again as it is. */
    CHECK(model.memory_fails || account->received.messages - before.messages <= limit_messages,
          "more messages than the budget has");
    CHECK(account->received.bytes - before.bytes <= limit_bytes + (128 << 10) + 2 * model.largest,
          "more bytes than the budget has");
    model.flows[flow] = outcome == RELAYED_ALL ? WAITING : outcome == RELAYED_UNTIL_FULL ? STALLED : READY;
}

/* What an engine does until nothing more is to be done: a flow is worked on if the port that it waits for has news, and
 * each turn ends by writing what was queued. */
static void settle(struct input *input, unsigned turns)
{
    struct wire *wire = &model.simulation.wire;

    for (unsigned turn = 0; turn < turns; turn++) {
        bool any = false;
        parse_all(input);
        any |= simulation_serve(&model.simulation);
        while (!list_is_empty(&wire->changed)) {
            struct port *port = LISTED(wire->changed.next, struct port, changed);
            int place = (int) (port - model.simulation.ports);
            struct message message;
            link_remove(&port->changed);
            port->news = 0;
            any = true;
            if (place == 1 && !SHAPES[model.shape].both_ways) {
                port->may_read = 1 << 20;
                port_take(port, &message, 1);
            } else if (model.flows[place] == WAITING) {
                model.flows[place] = READY;
            }
            if (model.flows[1 - place] == STALLED)
                model.flows[1 - place] = READY;
        }
        for (int flow = 0; flow < 1 + SHAPES[model.shape].both_ways; flow++)
            if (model.flows[flow] == READY) {
                any = true;
                move(flow, 1 + draw(input, 100), 1 + draw(input, 65536));
            }
        any |= !list_is_empty(&wire->unwritten);
        wire_flush(wire);
        simulation_check(&model.simulation);
        if (!any)
            return;
    }
    CHECK(!model.draining, "it does not come to rest");
}

static bool port_kills(void)
{
    static const enum reason BAD[] = {REASON_NOT_ZMTP, REASON_MECHANISM, REASON_SOCKET_TYPE,    REASON_BAD_COMMAND,
                                      REASON_REFUSED,  REASON_BAD_FRAME, REASON_SLOW_HANDSHAKE, REASON_SUBSCRIPTIONS};

    for (int i = 0; i < 2; i++)
        for (size_t j = 0; j < sizeof BAD / sizeof *BAD; j++)
            if (model.simulation.ports[i].ended_by[BAD[j]])
                return true;
    return false;
}

/* A publisher is asked for nothing that nobody wants any more. */
static void check_cancellations(const struct remote *publisher)
{
    for (unsigned topic = 0; topic < TOPIC_COUNT && !model.memory_fails; topic++) {
        bool wanted = false;
        for (unsigned i = 0; i < model.simulation.remote_count; i++) {
            const struct remote *remote = model.simulation.remotes[i];
            wanted |= remote->place == 1 && remote->peer && notes_of(remote)->now[topic];
        }
        CHECK(wanted || !notes_of(publisher)->upstream[topic], "the end of a subscription to %s was not passed on",
              TOPICS[topic]);
    }
}

/* Publish one message for each topic, and see that it comes to those who have subscribed to that, and to nobody else.
 */
static void check_subscriptions(struct input *input)
{
    struct simulation *simulation = &model.simulation;
    struct remote *publisher = NULL;

    for (unsigned i = 0; i < simulation->remote_count; i++) {
        struct remote *remote = simulation->remotes[i];
        if (remote->place == 0 && !remote->finished && remote->peer && remote->peer->attached &&
            !notes_of(remote)->killed)
            publisher = remote;
    }
    if (publisher)
        check_cancellations(publisher);
    if (!publisher || simulation->ports[0].options.maxframes < 2 || simulation->ports[0].options.maxmsgsize >= 0)
        return;
    for (unsigned topic = 0; topic < TOPIC_COUNT && model.record_count < RECORDS_MAX; topic++) {
        struct input nothing = {input->end, input->end};
        int number = model.record_count;
        bool wanted = false;
        for (unsigned i = 0; i < simulation->remote_count; i++) {
            struct remote *remote = simulation->remotes[i];
            for (unsigned prefix = 0; prefix < TOPIC_COUNT; prefix++)
                wanted |= remote->place == 1 && remote->peer && !remote->finished && notes_of(remote)->now[prefix] &&
                          !strncmp(TOPICS[prefix], TOPICS[topic], strlen(TOPICS[prefix]));
        }
        bool upstream = publisher->type == TYPE_PUSH;
        for (unsigned prefix = 0; prefix < TOPIC_COUNT; prefix++)
            upstream |= notes_of(publisher)->upstream[prefix] &&
                        !strncmp(TOPICS[prefix], TOPICS[topic], strlen(TOPICS[prefix]));
        CHECK(!wanted || upstream || model.memory_fails, "a subscription to %s was not passed on", TOPICS[topic]);
        model.topic = (int) topic;
        send_message(&nothing, publisher, -1);
        model.topic = -1;
        settle(input, 1000);
        for (unsigned i = 0; i < simulation->remote_count && !model.memory_fails; i++) {
            struct remote *remote = simulation->remotes[i];
            bool has = model.records[number].arrived_at >> i & 1, should = false;
            if (remote->place != 1 || !remote->peer || remote->finished || remote->stage != AWAITS_FRAMES)
                continue;
            for (unsigned prefix = 0; prefix < TOPIC_COUNT; prefix++)
                should |=
                    notes_of(remote)->now[prefix] && !strncmp(TOPICS[prefix], TOPICS[topic], strlen(TOPICS[prefix]));
            CHECK(has == should, "topic %s: remote %u has subscribed: %d, and has the message: %d", TOPICS[topic], i,
                  should, has);
        }
    }
}

/* Let everything arrive, and compare. */
static void drain(struct input *input)
{
    struct simulation *simulation = &model.simulation;
    bool lives[2] = {false, false};

    model.draining = true;
    settle(input, 20000);
    if (is_topical(1))
        check_subscriptions(input);
    if (model.memory_fails)
        return;
    CHECK(!port_kills(), "a connection was ended without a reason");
    for (int i = 0; i < 2; i++)
        lives[i] = simulation->ports[i].peer_count;
    for (int flow = 0; flow < 1 + SHAPES[model.shape].both_ways; flow++) {
        const struct account *account = simulation->accounts[flow];
        uint64_t least = 0, most = 0, too_long_least = 0, too_long_most = 0;
        for (int i = 0; i < model.record_count; i++) {
            const struct record *record = &model.records[i];
            const struct notes *notes = notes_of(record->from);
            if (record->flow != flow)
                continue;
            most++;
            too_long_most += record->too_long;
            if (!record->whole)
                continue;
            if (notes->well && !record->from->peer && !record->from->finished)
                continue; /* the port has not accepted it */
            if (notes->well && record->from->stage == AWAITS_FRAMES)
                least++, too_long_least += record->too_long;
        }
        if (model.shape != XSUB_XPUB && model.shape != REP_REQ && model.shape != SUB_PUSH) {
            CHECK(account->received.messages <= most, "more was received than was sent");
            const uint64_t *ended_by = simulation->ports[flow].ended_by;
            if (lives[1 - flow] &&
                !(model.shape == ROUTER_ROUTER || ended_by[REASON_ROUTING_ID] || ended_by[REASON_SILENT]))
                CHECK(account->received.messages >= least,
                      "flow %d: %llu messages were received of %llu that were sent", flow,
                      (unsigned long long) account->received.messages, (unsigned long long) least);
            CHECK(account->too_many_frames <= too_long_most, "too many messages are too long");
            if (lives[1 - flow] && !simulation->ports[flow].ended_by[REASON_ROUTING_ID])
                CHECK(account->too_many_frames >= too_long_least, "messages of too many frames are not counted");
        }
        if (lives[1 - flow])
            CHECK(!account->held.messages, "flow %d: %llu messages are held, and a peer could take them", flow,
                  (unsigned long long) account->held.messages);
        if (simulation->ports[1 - flow].type == TYPE_PUSH || simulation->ports[1 - flow].type == TYPE_DEALER)
            CHECK(!account->unroutable, "flow %d: messages were dropped that another peer could take", flow);
        CHECK(account->held.messages || (!account->held.frames && !account->held.bytes),
              "frames of no message are held");
        if (!is_topical(1))
            CHECK(account->sent.messages == model.arrived[flow],
                  "flow %d: %llu messages were sent, and %llu have arrived", flow,
                  (unsigned long long) account->sent.messages, (unsigned long long) model.arrived[flow]);
    }
}

void run_traffic(struct input *input)
{
    struct simulation *simulation = &model.simulation;
    static const int HIGH_WATER[] = {1000, 1, 2, 5, 0};

    for (int i = 0; i < model.record_count; i++)
        free(model.records[i].sizes);
    model = (struct model){.shape = draw(input, SHAPE_COUNT), .flows = {READY, READY}, .topic = -1};
    simulation_begin(simulation);
    simulation->on_message = on_message;
    simulation->on_command = on_command;
    for (int i = 0; i < 2; i++) {
        struct options *options = &simulation_add_port(simulation, SHAPES[model.shape].ports[i])->options;
        options->sndhwm = HIGH_WATER[draw(input, 5)];
        options->maxframes = draw(input, 3) ? UINT64_MAX : 1 + draw(input, 6);
        options->maxmsgsize = draw(input, 8) ? -1 : 1 + (int64_t) draw(input, 5000);
        options->router_handover = draw(input, 2);
        options->xpub_nodrop = draw(input, 2);
        options->heartbeat_ivl = draw(input, 4) ? 0 : 500;
        options->handshake_ivl = 0;
        simulation->ports[i].drops_slow_peer = draw(input, 2);
    }
    if (model.shape == SUB_PUSH)
        for (unsigned i = draw(input, 4); i; i--)
            port_subscribe(&simulation->ports[0], (const uint8_t *) TOPICS[i], strlen(TOPICS[i]));
    if ((model.memory_fails = memory_is_to_fail(input, 10)))
        memory_fail(input, 300);
    add_remote(input, 0);
    add_remote(input, 1);
    for (int step = 0; step < 400 && !input_is_empty(input); step++) {
        static const size_t COUNTS[] = {1, 3, 7, 30, 300, 4096, 20000, 70000, SIZE_MAX};
        struct remote *remote = simulation->remotes[draw(input, simulation->remote_count)];
        unsigned what = draw(input, 20);
        if (what < 6) {
            if (is_subscriber(remote))
                subscribe(input, remote);
            else
                for (unsigned i = draw(input, 4); i < 4; i++)
                    send_message(input, remote, -1);
        } else if (what < 9) {
            remote_deliver(remote, COUNTS[draw(input, 9)]);
        } else if (what < 11) {
            remote_accept(remote, COUNTS[draw(input, 8)]);
        } else if (what == 11) {
            remote->read_most = draw(input, 2) ? COUNTS[draw(input, 8)] : 0;
        } else if (what < 15) {
            settle(input, 1 + draw(input, 3));
        } else if (what < 17) {
            move(SHAPES[model.shape].both_ways ? (int) draw(input, 2) : 0, 1 + draw(input, 10), 1 + draw(input, 65536));
        } else if (what == 17) {
            if (!draw(input, 2))
                leave(input, remote);
        } else if (what == 18) {
            add_remote(input, (int) draw(input, 2));
        } else {
            unsigned chance = draw(input, 8);
            simulation->wire.now_s += chance ? 0 : 0.25;
            if (chance > 4) {
                simulation_move(simulation, NULL);
                model.flows[0] = model.flows[1] = READY;
            }
            simulation_serve(simulation);
            parse_all(input);
        }
        simulation_check(simulation);
    }
    drain(input);
    for (unsigned i = 0; i < simulation->remote_count; i++)
        free(simulation->remotes[i]->model);
    simulation_end(simulation);
}
