/* The bare loop: messages from one socket to another by zmq_msg_recv and zmq_msg_send, and nothing else.
 *
 * No broker on libzmq can be faster: there are no counters, no capture, no other pairs, and no way to pause or end it.  It
 * may hold one frame that the sink has refused.
 */
#include "load.h"

#include <poll.h>

enum { ZMQ_FD = 14, ZMQ_EVENTS = 15 };
enum { EMPTY, FULL, LIMIT, FAILED };
enum { BURST = 1000 };  /* messages in one call of move: where a broker would look after its other pairs */

typedef struct {
    void *source, *sink;
    message_t message;
    int holding;    /* `message` is still to be sent */
    int begun;      /* a message's first frame was sent, its last not yet */
    int code;       /* errno, of FAILED */
} relay_t;

static int move(relay_t *relay, uint64_t limit, uint64_t *moved)
{
    message_t *message = &relay->message;
    while (*moved < limit) {
        if (!relay->holding) {
            if ((relay->code = receive_frame(relay->source, message, DONTWAIT)))
                return relay->code == EAGAIN ? EMPTY : FAILED;
            relay->holding = 1;
        }
        int more = zmq.msg_more(message);
        if (zmq.msg_send(message, relay->sink, more ? DONTWAIT | SNDMORE : DONTWAIT) < 0) {
            relay->code = zmq.last_errno();
            if (relay->code == EINTR)
                continue;
            if (relay->code != EAGAIN)
                return FAILED;
            if (!relay->begun)
                return FULL;
            relay->code = EPROTO; /* the peer left in the middle of a message; this loop cannot go on then */
            return FAILED;
        }
        relay->holding = 0;
        relay->begun = more;
        *moved += !more;
    }
    return LIMIT;
}

/* Moves up to `limit` messages, as long as neither side would make it wait.  Returns how many, or -errno. */
int64_t bare_move(void *source, void *sink, uint64_t limit)
{
    relay_t relay = { .source = source, .sink = sink };
    uint64_t moved = 0;
    zmq.msg_init(&relay.message);
    int outcome = move(&relay, limit, &moved);
    zmq.msg_close(&relay.message);
    return outcome == FAILED ? -(int64_t) relay.code : (int64_t) moved;
}

/* Takes all messages that wait in a socket.  Returns how many had `frames` frames of `size` bytes, or -errno. */
int64_t bare_count(void *source, int32_t frames, uint64_t size)
{
    const order_t order = { .frames = frames, .size = size };
    message_t message;
    int64_t whole = 0;
    int good, code;
    zmq.msg_init(&message);
    while (!(code = receive_message(source, &order, &message, 0, DONTWAIT, &good)))
        whole += good;
    zmq.msg_close(&message);
    return code == EAGAIN ? whole : -code;
}

/* Sleeps until something happens at the socket.  ZMQ_FD reports commands, not messages, and only those that came after the
 * last ones were processed.  A receive that found nothing has processed them; a refused send has not
 * (socket_base.cpp looks once a millisecond or so), so for a sink ZMQ_EVENTS is read first. */
static int wait_for(void *socket, int is_sink)
{
    struct pollfd item = { .events = POLLIN };
    size_t size = sizeof item.fd;
    int events = 0;
    size_t events_size = sizeof events;
    if (zmq.getsockopt(socket, ZMQ_FD, &item.fd, &size) < 0)
        return zmq.last_errno();
    for (;;) {
        if (is_sink) {
            if (zmq.getsockopt(socket, ZMQ_EVENTS, &events, &events_size) < 0)
                return zmq.last_errno();
            if (events & POLLOUT_)
                return 0;
        }
        if (poll(&item, 1, -1) < 0 && errno != EINTR)
            return errno;
        if (!is_sink)
            return 0;
    }
}

/* Relays for as long as the process lives; returns the errno that ended it. */
int bare_relay(void *source, void *sink)
{
    relay_t relay = { .source = source, .sink = sink };
    zmq.msg_init(&relay.message);
    for (;;) {
        uint64_t moved = 0;
        int code = 0;
        switch (move(&relay, BURST, &moved)) {
        case EMPTY:
            code = wait_for(source, 0);
            break;
        case FULL:
            code = wait_for(sink, 1);
            break;
        case FAILED:
            code = relay.code;
            break;
        }
        if (code) {
            zmq.msg_close(&relay.message);
            return code;
        }
    }
}
