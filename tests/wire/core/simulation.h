/* Simulated streams, remote peers that speak ZMTP with an implementation of their own, memory that can run out, and
 * what must be true of a port at all times. */
#ifndef POLLBROKER_TESTS_SIMULATION_H
#define POLLBROKER_TESTS_SIMULATION_H

#include "deadlines.h"
#include "publish.h"
#include "relay.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* End the process: a promise was broken. */
#define FAIL(...)                                                                                                      \
    (fprintf(stderr, "%s:%d: ", __FILE__, __LINE__), fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), abort())
#define CHECK(condition, ...) ((condition) ? (void) 0 : FAIL(#condition ": " __VA_ARGS__))

/* -- what decides
 * ------------------------------------------------------------------------------------------------------ */

struct input {
    const uint8_t *at, *end;
};

static inline bool input_is_empty(const struct input *input)
{
    return input->at == input->end;
}

/* A number below a limit of at most 65,536. It is 0 when nothing is left. */
static inline unsigned draw(struct input *input, unsigned below)
{
    unsigned value = input_is_empty(input) ? 0 : *input->at++;

    if (below > 256)
        value = value << 8 | (input_is_empty(input) ? 0 : *input->at++);
    return value % below;
}

/* -- memory of the core
 * ------------------------------------------------------------------------------------------------ */

struct memory {
    size_t blocks, bytes, peak; /* in use */
    uint64_t fail_in;           /* the n-th allocation fails; 0: none */
    uint64_t failed;
};

extern struct memory memory;
extern uint64_t each_fails_in; /* in every input that may be without memory, this is `fail_in`; 0: what the input says */

/* Whether an allocation is to fail: in one of so many inputs. */
bool memory_is_to_fail(struct input *input, unsigned one_in);

/* Let one of the next allocations fail, of which there are so many to choose from. */
void memory_fail(struct input *input, unsigned most);

/* -- buffers
 * ----------------------------------------------------------------------------------------------------------- */

struct bytes {
    uint8_t *all;
    size_t start, end, room;
};

void bytes_append(struct bytes *bytes, const void *more, size_t count);
void bytes_free(struct bytes *bytes);

static inline size_t bytes_left(const struct bytes *bytes)
{
    return bytes->end - bytes->start;
}

/* -- remote peers
 * ------------------------------------------------------------------------------------------------------ */

enum { REMOTES_MAX = 200, REMOTES_MOST = 48 };
enum version { ZMTP_2, ZMTP_30, ZMTP_31 };

struct simulation;

struct remote {
    struct simulation *simulation;
    unsigned number;
    int place;         /* which of the ports it is at */
    struct peer *peer; /* the port's side; NULL when that has closed the connection */
    enum socket_type type;
    enum version version;
    uint8_t identity[8];
    size_t identity_size;

    struct bytes out; /* what it has sent. The port can read the first `available` bytes */
    size_t taken; /* bytes that the port has read */
    size_t available, read_most;
    bool endless;  /* what it has sent comes again and again */
    bool finished; /* nothing more is sent: the port reads the end of the stream */
    bool reset;    /* the port reads an error at once */
    bool ignores;  /* it does not look at what the port writes */
    bool gone;     /* it has closed the connection, and the port's writes fail */

    struct bytes in;  /* what the port has written, and was not parsed */
    size_t window;    /* bytes that the port may still write */
    bool was_refused; /* an event is due when the window opens */
    unsigned events;  /* that are due */
    size_t written;   /* by the port, in all */

    enum { AWAITS_SIGNATURE, AWAITS_GREETING, AWAITS_READY, AWAITS_TYPE_2, AWAITS_IDENTITY_2, AWAITS_FRAMES } stage;
    uint64_t frames_parsed;
    size_t frames_size; /* of the first frames of a message, in `in` */
    size_t pings, pongs;
    void *model;
};

struct simulation {
    struct wire wire; /* must be first */
    struct deadlines deadlines;
    struct port ports[2];
    int port_count;
    struct account *accounts[2];
    struct remote *remotes[REMOTES_MAX];
    unsigned remote_count, remotes_most; /* how many there are, and may be: REMOTES_MOST unless it is said otherwise */
    /* A whole message has come to a remote: its encoded frames. */
    void (*on_message)(struct remote *remote, const uint8_t *bytes, size_t size);
    void (*on_command)(struct remote *remote, const uint8_t *body, size_t size);
    bool hands_over; /* a port ends, and its connections go on */
};

void simulation_begin(struct simulation *simulation);
struct port *simulation_add_port(struct simulation *simulation, enum socket_type type);

/* End everything, and check that nothing is left. */
void simulation_end(struct simulation *simulation);

/* A new connection to a port. Its greeting is not yet sent. NULL if there are too many, or no memory. */
struct remote *remote_new(struct simulation *simulation, int place, enum socket_type type, enum version version);
void remote_send_greeting(struct remote *remote);
void remote_send_frame(struct remote *remote, unsigned flags, const void *body, size_t size);
void remote_send_command(struct remote *remote, const char *name, const void *body, size_t size);

/* Let the port read more of what was sent, and write more. */
void remote_deliver(struct remote *remote, size_t count);
void remote_accept(struct remote *remote, size_t count);
void remote_leave(struct remote *remote, bool reset);

/* Take what the port has written. */
void remote_parse(struct remote *remote);

/* What net_serve does, for all streams. Return true if there was anything to do. */
bool simulation_serve(struct simulation *simulation);

/* Hand all ports over, as to another process. With mutations, the records are changed by them before they are read. */
void simulation_move(struct simulation *simulation, struct input *mutations);

/* Read the record of a port again and again, each time with another byte changed. Return how often it was accepted. */
size_t simulation_try_changes(struct simulation *simulation, int place);

/* Check what must be true at all times. */
void simulation_check(struct simulation *simulation);

/* The frames of a run, counted by their bytes. */
struct amount encoded_amount(const uint8_t *bytes, size_t size);

static inline struct account *account_new(void)
{
    return account_hold(calloc(1, sizeof(struct account)));
}

/* -- the targets
 * ------------------------------------------------------------------------------------------------------- */

void run_raw(struct input *input);
void run_traffic(struct input *input);
void run_login(struct input *input);

/* Tests that nothing is drawn for. Their names are printed with what was measured. */
void run_checks(const char *only);

#endif
