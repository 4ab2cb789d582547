/* The load in one direction: it sends messages to the broker that is measured, and counts them.  The rules are in load.h.
 *
 * Requests and their replies are in requests.c, publications in publish.c, ZMTP without libzmq in wire.c.
 */
#include "load.h"

#include <stdlib.h>

libzmq_t zmq;

void load_bind(const libzmq_t *functions) { zmq = *functions; }

int wait_any(const order_t *order, pollitem_t *items, short events)
{
    for (int i = 0; i < order->count; i++)
        items[i] = (pollitem_t) { order->sockets[i], 0, events, 0 };
    if (zmq.poll(items, order->count, -1) < 0 && zmq.last_errno() != EINTR)
        return zmq.last_errno();
    return 0;
}

/* Sends one message, which libzmq copies, as for almost every sender.  Constant messages would be cheaper, but senders
 * rarely have them.  Returns EAGAIN if nothing was sent.  Once the first frame is accepted libzmq takes the others,
 * unless the peer has left (EPROTO). */
int send_message(void *socket, const order_t *order, const void *body, int envelope, int flags)
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
int receive_message(void *socket, const order_t *order, message_t *message, int envelope, int flags, int *good)
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

/* PUSH. */
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

/* PULL. */
int load_sink(progress_t *progress, const order_t *order)
{
    return receive_all(progress, order, 0);
}

/* DEALER behind a queue that answers nothing: the routing id, an empty frame, the body. */
int load_collector(progress_t *progress, const order_t *order)
{
    return receive_all(progress, order, 2);
}

/* SUB at a capture socket.  Each copy has a prefix, and of a queue an envelope, before the frames that were sent: those
 * are the last ones, and are checked.  What comes before must not have their size. */
int load_witness(progress_t *progress, const order_t *order)
{
    message_t message;
    uint64_t received = 0, malformed = 0;
    int code = 0;

    zmq.msg_init(&message);
    while (!code) {
        int before = 0, sized = 0, more = 1;
        while (more && !(code = receive_frame(order->sockets[0], &message, 0))) {
            more = zmq.msg_more(&message);
            if (zmq.msg_size(&message) == order->size) {
                sized++;
            } else {
                before += sized + 1;
                sized = 0;
            }
        }
        if (code)
            break;
        if (before && sized == order->frames)
            publish(&progress->messages, ++received);
        else
            publish(&progress->malformed, ++malformed);
    }
    zmq.msg_close(&message);
    return code;
}
