/* What the files of the load share: the functions of libzmq, what a role is told and what it counts.
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
#ifndef POLLBROKER_BENCH_LOAD_H
#define POLLBROKER_BENCH_LOAD_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

enum { DONTWAIT = 1, SNDMORE = 2, POLLIN_ = 1, POLLOUT_ = 2 };
enum { TURN = 64 };         /* messages a socket may move before the next one has its turn */
enum { MAX_FRAMES = 64 };   /* frames of one message that a worker can hold */

typedef union { unsigned char opaque[64]; void *alignment; } message_t;
typedef struct { void *socket; int fd; short events; short revents; } pollitem_t;

typedef struct {
    int (*msg_init)(message_t *);
    int (*msg_recv)(message_t *, void *, int);
    int (*msg_send)(message_t *, void *, int);
    int (*msg_more)(const message_t *);
    size_t (*msg_size)(const message_t *);
    void *(*msg_data)(message_t *);
    int (*msg_close)(message_t *);
    int (*send)(void *, const void *, size_t, int);
    int (*poll)(pollitem_t *, int, long);
    int (*getsockopt)(void *, int, void *, size_t *);
    int (*last_errno)(void);
} libzmq_t;

/* Written by one role, read by Python at any time.  Padded: in the inproc runs two roles count side by side, and
 * counters in one cache line would slow both. */
typedef struct {
    unsigned char before[128];
    uint64_t messages;
    uint64_t malformed;
    uint64_t missed;        /* subscriber: numbers that were skipped */
    unsigned char after[128];
} progress_t;

/* The last number that one subscriber has seen, in memory that publisher and subscribers share; a cache line each. */
typedef struct {
    uint64_t number;
    unsigned char after[56];
} seen_t;

typedef struct {
    void **sockets;
    int32_t count;          /* of sockets */
    int32_t frames;         /* of a message, the envelope's empty frame not counted */
    uint64_t size;          /* bytes of each frame */
    uint64_t limit;         /* messages to send in all, or requests; 0: no limit */
    uint64_t window;        /* requests, or unseen publications, on the way for each socket; publisher: 0, no bound */
    uint64_t *times_ns;     /* lockstep: where round trips are written */
    uint64_t capacity;      /* of times_ns; what comes later overwrites the oldest */
    seen_t *seen;           /* publisher and subscriber: one for each subscriber of each publisher */
    int32_t subscribers;    /* of each publisher */
    int32_t topics;         /* a publisher takes them in turn; a subscriber has subscribed to one */
    int32_t descriptor;     /* wire roles: a connected TCP socket */
    uint64_t interval_ns;   /* between two heartbeats of one worker */
} order_t;

/* A frame that a protocol prescribes. */
typedef struct {
    const char *bytes;
    size_t size;
} part_t;
#define PART(text) { text, sizeof text - 1 }

extern libzmq_t zmq;

static inline void publish(uint64_t *counter, uint64_t value) { __atomic_store_n(counter, value, __ATOMIC_RELEASE); }

static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

/* One frame in or out.  Returns 0 or errno; a call that a signal interrupted is simply made again. */
static inline int send_frame(void *socket, const void *data, size_t size, int flags)
{
    while (zmq.send(socket, data, size, flags) < 0)
        if (zmq.last_errno() != EINTR)
            return zmq.last_errno();
    return 0;
}

static inline int receive_frame(void *socket, message_t *message, int flags)
{
    while (zmq.msg_recv(message, socket, flags) < 0)
        if (zmq.last_errno() != EINTR)
            return zmq.last_errno();
    return 0;
}

/* Sends one message; EAGAIN: nothing was sent. */
int send_message(void *socket, const order_t *order, const void *body, int envelope, int flags);

/* Receives one whole message and checks it. */
int receive_message(void *socket, const order_t *order, message_t *message, int envelope, int flags, int *good);

/* Receives the frames of one message, whatever they are, into `held`, which has room for MAX_FRAMES. */
int receive_held(void *socket, message_t *held, int flags, int *frames);

/* Sends frames that are held.  Waits for room. */
int send_held(void *socket, message_t *held, int frames);

static inline int is_part(message_t *frame, const part_t *part)
{
    return zmq.msg_size(frame) == part->size && memcmp(zmq.msg_data(frame), part->bytes, part->size) == 0;
}

/* Sleeps until one of the sockets can move. */
int wait_any(const order_t *order, pollitem_t *items, short events);

#endif
