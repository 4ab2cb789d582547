/* The load that uses nng: it sends messages to a broker of nng, and counts them.
 *
 * The rules are those of load.h; nng_load_bind is given the functions of the system's libnng.  A role returns
 * nng's number of the error that ended it.  Messages are moved by asynchronous operations, several at once: a pull
 * socket has no buffer, so one that is received from by a single call at a time waits for a thread to wake after each
 * message.
 */
#include <stdlib.h>
#include <string.h>

#include "load.h"

enum { AT_ONCE = 16 };      /* operations that are under way on a socket */
enum { LOOK_MS = 100 };     /* between two looks whether an operation has failed */

typedef struct { uint32_t id; } nng_socket;
typedef struct nng_msg nng_msg;
typedef struct nng_aio nng_aio;

typedef struct {
    int (*msg_alloc)(nng_msg **, size_t);
    void *(*msg_body)(nng_msg *);
    size_t (*msg_len)(const nng_msg *);
    void (*msg_free)(nng_msg *);
    int (*aio_alloc)(nng_aio **, void (*)(void *), void *);
    int (*aio_result)(nng_aio *);
    nng_msg *(*aio_get_msg)(nng_aio *);
    void (*aio_set_msg)(nng_aio *, nng_msg *);
    void (*send_aio)(nng_socket, nng_aio *);
    void (*recv_aio)(nng_socket, nng_aio *);
    void (*msleep)(int32_t);
} nng_t;

typedef struct {
    progress_t *progress;
    size_t size;
    int code;               /* of the operation that failed; any thread of nng's writes it */
    nng_socket socket;
} role_t;

typedef struct {
    role_t *role;
    nng_aio *aio;
} operation_t;

static nng_t nng;

void nng_load_bind(const nng_t *functions) { nng = *functions; }

static void count(uint64_t *counter) { __atomic_add_fetch(counter, 1, __ATOMIC_RELEASE); }

static void fail(role_t *role, int code) { __atomic_store_n(&role->code, code, __ATOMIC_RELEASE); }

static void send_next(operation_t *operation)
{
    role_t *role = operation->role;
    nng_msg *message;
    int code = nng.msg_alloc(&message, role->size);
    if (code) {
        fail(role, code);
        return;
    }
    memset(nng.msg_body(message), 0, role->size);
    nng.aio_set_msg(operation->aio, message);
    nng.send_aio(role->socket, operation->aio);
}

static void sent(void *argument)
{
    operation_t *operation = argument;
    int code = nng.aio_result(operation->aio);
    if (code) {
        fail(operation->role, code);
        return;
    }
    count(&operation->role->progress->messages);
    send_next(operation);
}

static void receive_next(operation_t *operation)
{
    nng.recv_aio(operation->role->socket, operation->aio);
}

static void received(void *argument)
{
    operation_t *operation = argument;
    role_t *role = operation->role;
    int code = nng.aio_result(operation->aio);
    if (code) {
        fail(role, code);
        return;
    }
    nng_msg *message = nng.aio_get_msg(operation->aio);
    count(nng.msg_len(message) == role->size ? &role->progress->messages : &role->progress->malformed);
    nng.msg_free(message);
    receive_next(operation);
}

/* Keeps AT_ONCE operations going.  Their memory is never freed, because one of them may still run. */
static int run(progress_t *progress, nng_socket socket, size_t size, void (*done)(void *), void (*next)(operation_t *))
{
    role_t *role = calloc(1, sizeof *role);
    operation_t *operations = calloc(AT_ONCE, sizeof *operations);
    if (!role || !operations)
        abort();
    *role = (role_t) { progress, size, 0, socket };
    for (int i = 0; i < AT_ONCE; i++) {
        operations[i].role = role;
        int code = nng.aio_alloc(&operations[i].aio, done, &operations[i]);
        if (code)
            return code;
        next(&operations[i]);
    }
    int code;
    while (!(code = __atomic_load_n(&role->code, __ATOMIC_ACQUIRE)))
        nng.msleep(LOOK_MS);
    return code;
}

/* push0 */
int nng_load_source(progress_t *progress, nng_socket socket, size_t size)
{
    return run(progress, socket, size, sent, send_next);
}

/* pull0 */
int nng_load_sink(progress_t *progress, nng_socket socket, size_t size)
{
    return run(progress, socket, size, received, receive_next);
}
