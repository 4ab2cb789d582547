/* The workers of brokers that decide: they say that they are ready, are given one request at a time, and answer it.  The
 * rules are in load.h.
 *
 * There are three protocols: that of the load balancing broker in chapter 3 of the ZeroMQ guide, MDP 0.1 (RFC 7), and PPP
 * (RFC 6).  Each socket is a DEALER, and a worker of its own.
 */
#include "load.h"

#include <stdlib.h>

/* What a worker says and hears.  A message that is not a heartbeat has to be a request. */
typedef struct {
    const part_t *ready, *beat;
    int ready_frames, beat_frames;
    int command;    /* which frame of a request and of its reply says what it is; 0: none does */
    char asks, answers;
} protocol_t;

static const part_t lb_ready[] = { PART(""), PART("READY") };
static const protocol_t lb = { lb_ready, NULL, 2, 0, 0, 0, 0 };

static const part_t mdp_ready[] = { PART(""), PART("MDPW01"), PART("\1"), PART("echo") };
static const part_t mdp_beat[] = { PART(""), PART("MDPW01"), PART("\4") };
static const protocol_t mdp = { mdp_ready, mdp_beat, 4, 3, 2, '\2', '\3' };

static const part_t ppp_ready[] = { PART("\1") };
static const part_t ppp_beat[] = { PART("\2") };
static const protocol_t ppp = { ppp_ready, ppp_beat, 1, 1, 0, 0, 0 };

/* Sends a message that consists of prescribed frames.  Waits for room. */
static int send_parts(void *socket, const part_t *parts, int count)
{
    for (int frame = 0; frame < count; frame++) {
        int code;
        while ((code = send_frame(socket, parts[frame].bytes, parts[frame].size, frame + 1 < count ? SNDMORE : 0)))
            if (code != EAGAIN)
                return code;
    }
    return 0;
}

static int is_beat(const protocol_t *protocol, message_t *held, int frames)
{
    if (frames != protocol->beat_frames)
        return 0;
    for (int frame = 0; frame < frames; frame++)
        if (!is_part(&held[frame], &protocol->beat[frame]))
            return 0;
    return 1;
}

/* Makes a request its own reply.  Returns EPROTO for anything else, such as a DISCONNECT: a broker that sends it would
 * go on with fewer workers than it is said to have. */
static int make_reply(const protocol_t *protocol, message_t *held, int frames)
{
    if (!protocol->command)
        return 0;
    if (frames <= protocol->command || zmq.msg_size(&held[protocol->command]) != 1)
        return EPROTO;
    char *command = zmq.msg_data(&held[protocol->command]);
    if (*command != protocol->asks)
        return EPROTO;
    *command = protocol->answers;
    return 0;
}

static message_t *new_held(int sockets)
{
    message_t *held = calloc((size_t) sockets * MAX_FRAMES, sizeof *held);
    for (int frame = 0; held && frame < sockets * MAX_FRAMES; frame++)
        zmq.msg_init(&held[frame]);
    return held;
}

static int be_ready(const order_t *order, const protocol_t *protocol)
{
    int code = 0;
    for (int i = 0; i < order->count && !code; i++)
        code = send_parts(order->sockets[i], protocol->ready, protocol->ready_frames);
    return code;
}

/* Answers each request at once. */
static int work(progress_t *progress, const order_t *order, const protocol_t *protocol)
{
    const int flags = order->count == 1 ? 0 : DONTWAIT;
    pollitem_t *items = calloc((size_t) order->count, sizeof *items);
    message_t *held = new_held(1);
    uint64_t answered = 0;
    int code = items && held ? be_ready(order, protocol) : ENOMEM;

    while (!code) {
        uint64_t before = answered;
        for (int i = 0; i < order->count && !code; i++) {
            int frames;
            while (!(code = receive_held(order->sockets[i], held, flags, &frames))) {
                if (is_beat(protocol, held, frames))
                    continue;
                if ((code = make_reply(protocol, held, frames)) || (code = send_held(order->sockets[i], held, frames)))
                    break;
                publish(&progress->messages, ++answered);
                if (flags)
                    break;  /* the next request is not there yet, since the broker has to see the reply first */
            }
            code = code == EAGAIN ? 0 : code;
        }
        if (!code && answered == before)
            code = wait_any(order, items, POLLIN_);
    }
    free(held);
    free(items);
    return code;
}

int load_ready_worker(progress_t *progress, const order_t *order) { return work(progress, order, &lb); }
int load_mdp_worker(progress_t *progress, const order_t *order) { return work(progress, order, &mdp); }

static int receive_request(void *socket, const protocol_t *protocol, message_t *held, int *frames)
{
    int code;
    do
        code = receive_held(socket, held, 0, frames);
    while (code == EAGAIN || (!code && is_beat(protocol, held, *frames)));
    return code ? code : make_reply(protocol, held, *frames);
}

/* All workers are busy; one of them answers, and is free until it is given its next request, which is timed.  Then the
 * next one answers.  So the time does not include that of any other request, however many workers there are. */
static int take_turns(progress_t *progress, const order_t *order, const protocol_t *protocol)
{
    message_t *held = new_held(order->count);
    int *frames = calloc((size_t) order->count, sizeof *frames);
    uint64_t done = 0;
    int code = held && frames ? be_ready(order, protocol) : ENOMEM;

    for (int i = 0; i < order->count && !code; i++)
        code = receive_request(order->sockets[i], protocol, held + i * MAX_FRAMES, &frames[i]);
    while (!code) {
        for (int i = 0; i < order->count && !code; i++) {
            uint64_t begun_ns = now_ns();
            code = send_held(order->sockets[i], held + i * MAX_FRAMES, frames[i]);
            if (!code)
                code = receive_request(order->sockets[i], protocol, held + i * MAX_FRAMES, &frames[i]);
            if (code)
                break;
            order->times_ns[done % order->capacity] = now_ns() - begun_ns;
            publish(&progress->messages, ++done);
        }
    }
    free(held);
    free(frames);
    return code;
}

int load_timed_worker(progress_t *progress, const order_t *order) { return take_turns(progress, order, &lb); }
int load_timed_mdp_worker(progress_t *progress, const order_t *order) { return take_turns(progress, order, &mdp); }

static void sleep_until(uint64_t due_ns)
{
    for (uint64_t now; (now = now_ns()) < due_ns;) {
        const uint64_t pause_ns = due_ns - now;
        nanosleep(&(struct timespec) { (time_t) (pause_ns / 1000000000u), (long) (pause_ns % 1000000000u) }, NULL);
    }
}

/* Workers that have nothing to do send heartbeats, each in its own part of the interval, as workers would that were
 * started one after the other.  The heartbeats of the broker are counted. */
static int beat(progress_t *progress, const order_t *order, const protocol_t *protocol)
{
    const uint64_t begun_ns = now_ns(), pause_ns = order->interval_ns / (uint64_t) order->count;
    message_t *held = new_held(1);
    uint64_t heard = 0;
    int code = held ? be_ready(order, protocol) : ENOMEM;

    for (uint64_t turn = 0; !code; turn++) {
        void *socket = order->sockets[turn % (uint64_t) order->count];
        const uint64_t due_ns = begun_ns + (turn + 1) * pause_ns;
        int frames;
        sleep_until(due_ns);
        code = send_parts(socket, protocol->beat, protocol->beat_frames);
        while (!code && !(code = receive_held(socket, held, DONTWAIT, &frames))) {
            if (!is_beat(protocol, held, frames))
                code = EPROTO;
            else
                publish(&progress->messages, ++heard);
        }
        code = code == EAGAIN ? 0 : code;
    }
    free(held);
    return code;
}

int load_mdp_beater(progress_t *progress, const order_t *order) { return beat(progress, order, &mdp); }
int load_ppp_beater(progress_t *progress, const order_t *order) { return beat(progress, order, &ppp); }
