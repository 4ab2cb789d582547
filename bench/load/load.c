/* The load: what sends, counts and times messages around the broker that is measured.
 *
 * Why C: a Python source reaches a fifth of what a broker moves, so it would measure itself.  Rules that hold here:
 *   - No libzmq headers and no linking: Python hands over the functions of pyzmq's own copy (load_bind), the very copy
 *     that the brokers use.  zmq_msg_t is 64 opaque bytes by libzmq's public ABI.
 *   - Every role has one signature and runs until its limit, an error or the end of the process; it returns 0, or the
 *     errno that ended it.
 *   - One socket blocks inside libzmq; several sockets are served in bounded turns without waiting, and the thread
 *     sleeps in zmq_poll when none of them could move.
 *   - What arrives is checked for frame count and sizes; a wrong message is counted as malformed, not as a message.
 */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

enum { DONTWAIT = 1, SNDMORE = 2, POLLIN_ = 1, POLLOUT_ = 2 };
enum { TURN = 64 };         /* messages a socket may move before the next one has its turn */
enum { MAX_FRAMES = 64 };   /* frames that echo can hold of one message */

typedef union { unsigned char opaque[64]; void *alignment; } message_t;
typedef struct { void *socket; int fd; short events; short revents; } pollitem_t;

typedef struct {
    int (*msg_init)(message_t *);
    int (*msg_recv)(message_t *, void *, int);
    int (*msg_send)(message_t *, void *, int);
    int (*msg_more)(const message_t *);
    size_t (*msg_size)(const message_t *);
    int (*msg_close)(message_t *);
    int (*send)(void *, const void *, size_t, int);
    int (*poll)(pollitem_t *, int, long);
    int (*last_errno)(void);
} libzmq_t;

/* Written by one role, read by Python at any time.  Padded: in the inproc runs two roles count side by side, and
 * counters in one cache line would slow both. */
typedef struct {
    unsigned char before[128];
    uint64_t messages;
    uint64_t malformed;
    unsigned char after[128];
} progress_t;

typedef struct {
    void **sockets;
    int32_t count;          /* of sockets */
    int32_t frames;         /* of a message, the envelope's empty frame not counted */
    uint64_t size;          /* bytes of each frame */
    uint64_t limit;         /* messages to send in all; 0: no limit */
    uint64_t window;        /* requests on the way for each socket */
    uint64_t *times_ns;     /* lockstep: where round trips are written */
    uint64_t capacity;      /* of times_ns; what comes later overwrites the oldest */
} order_t;

static libzmq_t zmq;

void load_bind(const libzmq_t *functions) { zmq = *functions; }

static void publish(uint64_t *counter, uint64_t value) { __atomic_store_n(counter, value, __ATOMIC_RELEASE); }

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

/* One frame in or out.  Returns 0 or errno; a call that a signal interrupted is simply made again. */
static int send_frame(void *socket, const void *data, size_t size, int flags)
{
    while (zmq.send(socket, data, size, flags) < 0)
        if (zmq.last_errno() != EINTR)
            return zmq.last_errno();
    return 0;
}

static int receive_frame(void *socket, message_t *message, int flags)
{
    while (zmq.msg_recv(message, socket, flags) < 0)
        if (zmq.last_errno() != EINTR)
            return zmq.last_errno();
    return 0;
}

static int wait_any(const order_t *order, pollitem_t *items, short events)
{
    for (int i = 0; i < order->count; i++)
        items[i] = (pollitem_t) { order->sockets[i], 0, events, 0 };
    if (zmq.poll(items, order->count, -1) < 0 && zmq.last_errno() != EINTR)
        return zmq.last_errno();
    return 0;
}

/* Sends one message, copied by libzmq as almost every sender has it copied; constant messages would be cheaper here,
 * and at the sink of an inproc run, than they are in life.  EAGAIN: nothing was sent.  Once the first frame is accepted
 * libzmq takes the others, unless the peer has left (EPROTO). */
static int send_message(void *socket, const order_t *order, const void *body, int envelope, int flags)
{
    int begun = 0;
    for (int frame = envelope ? -1 : 0; frame < order->frames; frame++) {
        int more = frame + 1 < order->frames ? SNDMORE : 0;
        int code = send_frame(socket, body, frame < 0 ? 0 : order->size, flags | more);
        if (code)
            return begun && code == EAGAIN ? EPROTO : code;
        begun = 1;
    }
    return 0;
}

/* Receives one whole message and checks it. An envelope ends with an empty frame; a routing id may precede that. */
static int receive_message(void *socket, const order_t *order, message_t *message, int envelope, int flags, int *good)
{
    int frames = 0, more = 1;
    *good = 1;
    while (more) {
        int code = receive_frame(socket, message, frames ? 0 : flags);
        if (code)
            return frames && code == EAGAIN ? EPROTO : code; /* libzmq hands out whole messages only */
        more = zmq.msg_more(message);
        if (++frames == 1 && envelope == 2 && zmq.msg_size(message) == 0)
            envelope = 1; /* no broker, so no routing id */
        if (frames >= envelope)
            *good &= zmq.msg_size(message) == (frames == envelope ? 0 : order->size);
    }
    *good &= frames == order->frames + envelope;
    return 0;
}

/* Sends as fast as the sockets take it, or order->limit messages. */
static int send_all(progress_t *progress, const order_t *order, int envelope)
{
    const int flags = order->count == 1 ? 0 : DONTWAIT;
    const uint64_t limit = order->limit ? order->limit : UINT64_MAX;
    void *body = calloc(1, order->size + 1);
    pollitem_t *items = calloc((size_t) order->count, sizeof *items);
    uint64_t sent = 0;
    int code = body && items ? 0 : ENOMEM;

    while (!code && sent < limit) {
        uint64_t before = sent;
        for (int i = 0; i < order->count && !code; i++) {
            for (int turn = 0; turn < TURN && sent < limit; turn++) {
                code = send_message(order->sockets[i], order, body, envelope, flags);
                if (code)
                    break;
                publish(&progress->messages, ++sent);
            }
            code = code == EAGAIN ? 0 : code;
        }
        if (!code && sent == before)
            code = wait_any(order, items, POLLOUT_);
    }
    free(items);
    free(body);
    return code;
}

/* PUSH or PUB. */
int load_source(progress_t *progress, const order_t *order)
{
    return send_all(progress, order, 0);
}

/* DEALER, speaking as a REQ would (an empty frame, then the body), but awaiting no reply. */
int load_poster(progress_t *progress, const order_t *order)
{
    return send_all(progress, order, 1);
}

/* Counts messages. */
static int receive_all(progress_t *progress, const order_t *order, int envelope)
{
    const int flags = order->count == 1 ? 0 : DONTWAIT;
    pollitem_t *items = calloc((size_t) order->count, sizeof *items);
    message_t message;
    uint64_t received = 0, malformed = 0;
    int good, code = items ? 0 : ENOMEM;

    zmq.msg_init(&message);
    while (!code) {
        uint64_t before = received + malformed;
        for (int i = 0; i < order->count && !code; i++) {
            for (int turn = 0; turn < TURN; turn++) {
                code = receive_message(order->sockets[i], order, &message, envelope, flags, &good);
                if (code)
                    break;
                if (good)
                    publish(&progress->messages, ++received);
                else
                    publish(&progress->malformed, ++malformed);
            }
            code = code == EAGAIN ? 0 : code;
        }
        if (!code && received + malformed == before)
            code = wait_any(order, items, POLLIN_);
    }
    zmq.msg_close(&message);
    free(items);
    return code;
}

/* PULL or SUB. */
int load_sink(progress_t *progress, const order_t *order)
{
    return receive_all(progress, order, 0);
}

/* DEALER behind a queue that answers nothing: the routing id, an empty frame, the body. */
int load_collector(progress_t *progress, const order_t *order)
{
    return receive_all(progress, order, 2);
}

/* DEALER, speaking as a REQ would (an empty frame, then the body), with up to order->window requests on the way. */
int load_requester(progress_t *progress, const order_t *order)
{
    const int flags = order->count == 1 ? 0 : DONTWAIT;
    void *body = calloc(1, order->size + 1);
    pollitem_t *items = calloc((size_t) order->count, sizeof *items);
    uint64_t *waiting = calloc((size_t) order->count, sizeof *waiting);
    message_t message;
    uint64_t sent = 0, received = 0, malformed = 0;
    int good, code = body && items && waiting ? 0 : ENOMEM;

    zmq.msg_init(&message);
    while (!code) {
        uint64_t before = received + malformed;
        for (int i = 0; i < order->count && !code; i++) {
            void *socket = order->sockets[i];
            while (waiting[i] < order->window && !(code = send_message(socket, order, body, 1, DONTWAIT))) {
                waiting[i]++;
                sent++;
            }
            code = code == EAGAIN ? 0 : code;
            for (uint64_t turn = 0; waiting[i] && !code; turn++) {
                code = receive_message(socket, order, &message, 1, turn ? DONTWAIT : flags, &good);
                if (code)
                    break;
                waiting[i]--;
                if (good)
                    publish(&progress->messages, ++received);
                else
                    publish(&progress->malformed, ++malformed);
            }
            code = code == EAGAIN ? 0 : code;
        }
        if (!code && received + malformed == before)
            code = wait_any(order, items, sent == before ? POLLOUT_ : POLLIN_);
    }
    zmq.msg_close(&message);
    free(body);
    free(items);
    free(waiting);
    return code;
}

/* Takes one message and sends the same frames back.  A REP must have all before it may send, so they are held. */
static int echo_message(void *socket, message_t *held, int flags)
{
    int frames = 0, more = 1;
    while (more) {
        if (frames == MAX_FRAMES)
            return EMSGSIZE;
        int code = receive_frame(socket, &held[frames], frames ? 0 : flags);
        if (code)
            return frames && code == EAGAIN ? EPROTO : code;
        more = zmq.msg_more(&held[frames++]);
    }
    for (int frame = 0; frame < frames;) {
        if (zmq.msg_send(&held[frame], socket, frame + 1 < frames ? SNDMORE : 0) >= 0)
            frame++;
        else if (zmq.last_errno() != EAGAIN && zmq.last_errno() != EINTR)
            return zmq.last_errno();
    }
    return 0;
}

/* REP or DEALER: the worker behind a queue. */
int load_echo(progress_t *progress, const order_t *order)
{
    const int flags = order->count == 1 ? 0 : DONTWAIT;
    pollitem_t *items = calloc((size_t) order->count, sizeof *items);
    message_t held[MAX_FRAMES];
    uint64_t echoed = 0;
    int code = items ? 0 : ENOMEM;

    for (int frame = 0; frame < MAX_FRAMES; frame++)
        zmq.msg_init(&held[frame]);
    while (!code) {
        uint64_t before = echoed;
        for (int i = 0; i < order->count && !code; i++) {
            for (int turn = 0; turn < TURN; turn++) {
                code = echo_message(order->sockets[i], held, flags);
                if (code)
                    break;
                publish(&progress->messages, ++echoed);
            }
            code = code == EAGAIN ? 0 : code;
        }
        if (!code && echoed == before)
            code = wait_any(order, items, POLLIN_);
    }
    free(items);
    return code;
}

/* REQ: one request, its reply, then the next; each round trip is timed.  Uses the first socket. */
int load_lockstep(progress_t *progress, const order_t *order)
{
    void *socket = order->sockets[0];
    void *body = calloc(1, order->size + 1);
    message_t message;
    uint64_t done = 0, malformed = 0;
    int good, code = body ? 0 : ENOMEM;

    zmq.msg_init(&message);
    while (!code) {
        uint64_t begun_ns = now_ns();
        code = send_message(socket, order, body, 0, 0);
        if (!code)
            code = receive_message(socket, order, &message, 0, 0, &good);
        if (code)
            break;
        order->times_ns[done % order->capacity] = now_ns() - begun_ns;
        if (good)
            publish(&progress->messages, ++done);
        else
            publish(&progress->malformed, ++malformed);
    }
    zmq.msg_close(&message);
    free(body);
    return code;
}
