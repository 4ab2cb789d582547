/* The load of a forwarder: one publisher for each broker, and its subscribers.  The rules are in load.h.
 *
 * The first frame begins with the topic (one byte) and the message's number.  A subscriber thus knows what it has missed,
 * and checks that numbers only grow.  It leaves the last number in memory that the publisher sees, which keeps a bounded
 * number of messages on the way: a publisher without that bound, or with it in its own high-water mark alone, makes the
 * broker's XPUB drop whatever the subscribers are too slow for, and the broker that loses most would look fastest.
 */
#include "load.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER = 9 };                    /* the topic, and eight bytes of number */
enum { NAP_NS = 20000 };                /* the pause before a full window is checked again */
enum { GREETING_NS = 1000000 };         /* between messages while a subscriber has seen none: it may not be there yet */
enum { WRITE_OFF_NS = 1000000000 };     /* a message that was not seen for this time counts as lost */

/* What the publisher knows of one of its sockets. */
typedef struct {
    uint64_t sent;
    uint64_t written_off;   /* messages up to this number count as seen or lost */
    uint64_t stalled_ns;    /* since when the window is full (0: it is not), or when the last greeting was sent */
} window_t;

static void nap(void)
{
    struct timespec pause = { 0, NAP_NS };
    nanosleep(&pause, NULL);
}

/* How many messages the socket may send now. */
static uint64_t room(const order_t *order, int socket, window_t *window)
{
    const uint64_t most = order->window * (uint64_t) order->topics;
    uint64_t slowest = UINT64_MAX;

    if (!order->window)
        return TURN;
    for (int i = 0; i < order->subscribers; i++) {
        uint64_t seen = __atomic_load_n(&order->seen[i * order->count + socket].number, __ATOMIC_ACQUIRE);
        slowest = seen < slowest ? seen : slowest;
    }
    if (!slowest) {
        if (now_ns() - window->stalled_ns < GREETING_NS)
            return 0;
        window->stalled_ns = now_ns();
        return (uint64_t) order->topics;
    }
    if (slowest < window->written_off)
        slowest = window->written_off;
    if (window->sent - slowest < most) {
        window->stalled_ns = 0;
        return most - (window->sent - slowest);
    }
    if (!window->stalled_ns)
        window->stalled_ns = now_ns();
    else if (now_ns() - window->stalled_ns > WRITE_OFF_NS)
        window->written_off = window->sent;
    return 0;
}

/* PUB with ZMQ_XPUB_NODROP, or its own high-water mark would drop.  zmq_send then waits for a pipe that is full: the
 * peer's reading reaches the socket as a command, which ends its sleep.  ZMQ_EVENTS says writable all the same
 * (dist.cpp), so several sockets cannot wait in zmq_poll and take naps. */
int load_publisher(progress_t *progress, const order_t *order)
{
    const int flags = order->count == 1 ? 0 : DONTWAIT;
    const uint64_t limit = order->limit ? order->limit : UINT64_MAX;
    unsigned char *body = calloc(1, order->size + HEADER);
    window_t *windows = calloc((size_t) order->count, sizeof *windows);
    uint64_t sent = 0;
    int code = body && windows ? 0 : ENOMEM;

    if (!code && (order->size < HEADER || order->topics < 1 || order->subscribers < 1))
        code = EINVAL;
    while (!code && sent < limit) {
        uint64_t before = sent;
        for (int i = 0; i < order->count && !code; i++) {
            uint64_t left = room(order, i, &windows[i]);
            for (int turn = 0; turn < TURN && left && sent < limit; turn++, left--) {
                uint64_t number = windows[i].sent + 1;
                body[0] = (unsigned char) ('0' + number % (uint64_t) order->topics);
                memcpy(body + 1, &number, sizeof number);
                code = send_message(order->sockets[i], order, body, 0, flags);
                if (code)
                    break;
                windows[i].sent = number;
                publish(&progress->messages, ++sent);
            }
            code = code == EAGAIN ? 0 : code;
        }
        if (!code && sent == before)
            nap();
    }
    free(windows);
    free(body);
    return code;
}

/* Receives one message; `number` is 0 if its topic, its frames or their sizes are wrong. */
static int receive_publication(void *socket, const order_t *order, message_t *message, int topic, int flags,
                               uint64_t *number)
{
    int frames = 0, more = 1, good = 1;
    uint64_t told = 0;
    while (more) {
        int code = receive_frame(socket, message, frames ? 0 : flags);
        if (code)
            return frames && code == EAGAIN ? EPROTO : code; /* libzmq hands out whole messages only */
        more = zmq.msg_more(message);
        good &= zmq.msg_size(message) == order->size;
        if (frames++ == 0 && good) {
            const unsigned char *data = zmq.msg_data(message);
            memcpy(&told, data + 1, sizeof told);
            good = data[0] == '0' + topic && told % (uint64_t) order->topics == (uint64_t) topic;
        }
    }
    *number = good && frames == order->frames ? told : 0;
    return 0;
}

/* SUB: the sockets of the first subscriber of each publisher, then those of the second, and so on. */
int load_subscriber(progress_t *progress, const order_t *order)
{
    const int flags = order->count == 1 ? 0 : DONTWAIT;
    const int publishers = order->subscribers > 0 ? order->count / order->subscribers : 0;
    pollitem_t *items = calloc((size_t) order->count, sizeof *items);
    message_t message;
    uint64_t received = 0, malformed = 0, missed = 0, number;
    int code = items ? 0 : ENOMEM;

    if (!code && (order->size < HEADER || order->topics < 1 || publishers < 1 || !order->seen))
        code = EINVAL;
    zmq.msg_init(&message);
    while (!code) {
        uint64_t before = received + malformed;
        for (int i = 0; i < order->count && !code; i++) {
            const int topic = i / publishers % order->topics;
            uint64_t last = order->seen[i].number;
            for (int turn = 0; turn < TURN; turn++) {
                code = receive_publication(order->sockets[i], order, &message, topic, flags, &number);
                if (code)
                    break;
                if (number <= last) {
                    publish(&progress->malformed, ++malformed);
                    continue;
                }
                if (last && number - last > (uint64_t) order->topics)
                    publish(&progress->missed, missed += (number - last) / (uint64_t) order->topics - 1);
                publish(&order->seen[i].number, last = number);
                publish(&progress->messages, ++received);
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
