/* The load of a queue: requesters, the workers that answer them, and the client of a control socket.  The rules are in
 * load.h.  Workers that have to say that they are ready are in workers.c.
 */
#include "load.h"

#include <stdlib.h>

enum { COMMAND_PAUSE_NS = 2000000 }; /* the pause after a reply, so that commands are not the main load */

/* The frames before the body, which are the same in a request and in its reply. */
typedef struct {
    const part_t *parts;
    int count;
} head_t;

/* Sends one request.  Returns EAGAIN if nothing was sent. */
static int send_request(void *socket, const order_t *order, const head_t *head, const void *body)
{
    for (int frame = 0; frame < head->count; frame++) {
        int code = send_frame(socket, head->parts[frame].bytes, head->parts[frame].size, DONTWAIT | SNDMORE);
        if (code)
            return frame && code == EAGAIN ? EPROTO : code;
    }
    int code = send_message(socket, order, body, 0, DONTWAIT);
    return code == EAGAIN ? EPROTO : code;
}

/* Receives one whole reply and checks it. */
static int receive_reply(void *socket, const order_t *order, const head_t *head, message_t *message, int flags, int *good)
{
    int frames = 0, more = 1;
    *good = 1;
    while (more) {
        int code = receive_frame(socket, message, frames ? 0 : flags);
        if (code)
            return frames && code == EAGAIN ? EPROTO : code;
        more = zmq.msg_more(message);
        if (frames < head->count)
            *good &= is_part(message, &head->parts[frames]);
        else
            *good &= zmq.msg_size(message) == order->size;
        frames++;
    }
    *good &= frames == head->count + order->frames;
    return 0;
}

/* Keeps up to order->window requests on the way from each socket, until order->limit are answered. */
static int request_all(progress_t *progress, const order_t *order, const head_t *head)
{
    const int flags = order->count == 1 ? 0 : DONTWAIT;
    const uint64_t limit = order->limit ? order->limit : UINT64_MAX;
    void *body = calloc(1, order->size + 1);
    pollitem_t *items = calloc((size_t) order->count, sizeof *items);
    uint64_t *waiting = calloc((size_t) order->count, sizeof *waiting);
    message_t message;
    uint64_t sent = 0, received = 0, malformed = 0;
    int good, code = body && items && waiting ? 0 : ENOMEM;

    zmq.msg_init(&message);
    while (!code && received + malformed < limit) {
        uint64_t before = received + malformed;
        for (int i = 0; i < order->count && !code; i++) {
            void *socket = order->sockets[i];
            while (waiting[i] < order->window && sent < limit && !(code = send_request(socket, order, head, body))) {
                waiting[i]++;
                sent++;
            }
            code = code == EAGAIN ? 0 : code;
            for (uint64_t turn = 0; waiting[i] && !code; turn++) {
                code = receive_reply(socket, order, head, &message, turn ? DONTWAIT : flags, &good);
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

/* DEALER, speaking as a REQ would: an empty frame, then the body. */
int load_requester(progress_t *progress, const order_t *order)
{
    static const part_t parts[] = { PART("") };
    return request_all(progress, order, &(head_t) { parts, 1 });
}

/* DEALER, a client of the service `echo` (RFC 7/MDP). */
int load_mdp_requester(progress_t *progress, const order_t *order)
{
    static const part_t parts[] = { PART(""), PART("MDPC01"), PART("echo") };
    return request_all(progress, order, &(head_t) { parts, 3 });
}

int receive_held(void *socket, message_t *held, int flags, int *frames)
{
    int more = 1;
    *frames = 0;
    while (more) {
        if (*frames == MAX_FRAMES)
            return EMSGSIZE;
        int code = receive_frame(socket, &held[*frames], *frames ? 0 : flags);
        if (code)
            return *frames && code == EAGAIN ? EPROTO : code;
        more = zmq.msg_more(&held[(*frames)++]);
    }
    return 0;
}

int send_held(void *socket, message_t *held, int frames)
{
    for (int frame = 0; frame < frames;) {
        if (zmq.msg_send(&held[frame], socket, frame + 1 < frames ? SNDMORE : 0) >= 0)
            frame++;
        else if (zmq.last_errno() != EAGAIN && zmq.last_errno() != EINTR)
            return zmq.last_errno();
    }
    return 0;
}

/* Takes one message and sends the same frames back.  A REP must have all before it may send, so they are held. */
static int echo_message(void *socket, message_t *held, int flags)
{
    int frames;
    int code = receive_held(socket, held, flags, &frames);
    return code ? code : send_held(socket, held, frames);
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

/* REQ at a control socket: asks for the statistics, waits for the reply, pauses; each answer is timed.  The order's
 * frames and size are those of the reply. */
int load_commander(progress_t *progress, const order_t *order)
{
    static const char command[] = "STATISTICS";
    const struct timespec pause = { 0, COMMAND_PAUSE_NS };
    void *socket = order->sockets[0];
    message_t message;
    uint64_t done = 0, malformed = 0;
    int good, code = 0;

    zmq.msg_init(&message);
    while (!code) {
        uint64_t begun_ns = now_ns();
        code = send_frame(socket, command, sizeof command - 1, 0);
        if (!code)
            code = receive_message(socket, order, &message, 0, 0, &good);
        if (code)
            break;
        order->times_ns[done % order->capacity] = now_ns() - begun_ns;
        if (good)
            publish(&progress->messages, ++done);
        else
            publish(&progress->malformed, ++malformed);
        nanosleep(&pause, NULL);
    }
    zmq.msg_close(&message);
    return code;
}
