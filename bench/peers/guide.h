/* Included before a broker of the ZeroMQ guide when it is compiled (guide_c.py): it makes the broker bind the endpoints
 * that it is told, and gives it the few functions that czmq had when the guide was written and has no more.
 */
#include <czmq.h>

enum { GUIDE_ENDPOINTS = 2, GUIDE_ENDPOINT_SIZE = 256 };

const char *guide_wanted[GUIDE_ENDPOINTS];
char guide_real[GUIDE_ENDPOINTS][GUIDE_ENDPOINT_SIZE];
int guide_bound;    /* how many are bound; -1: it was not possible */

/* Binds the next of the endpoints, and notes the real address. */
static int guide_bind(void *socket)
{
    int which = guide_bound;
    size_t size = GUIDE_ENDPOINT_SIZE;
    int failed = which < 0 || which >= GUIDE_ENDPOINTS || zmq_bind(socket, guide_wanted[which]) < 0
        || zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, guide_real[which], &size) < 0;
    __atomic_store_n(&guide_bound, failed ? -1 : which + 1, __ATOMIC_RELEASE);
    return failed ? -1 : 0;
}

/* The standard output belongs to the bench. */
#define zclock_log(...) ((void) fprintf(stderr, __VA_ARGS__))

/* lbbroker2.c */
#define zsock_bind(self, endpoint) guide_bind(zsock_resolve(self))

/* mdbroker.c: czmq 3 had zctx and zsocket, of which these are what libzmq itself has. */
#define zctx_t void
#define zctx_new zmq_ctx_new
#define zctx_destroy(self_p) zmq_ctx_term(*(self_p))
#define zctx_interrupted zsys_interrupted
#define zsocket_new zmq_socket
#define zsocket_bind(socket, endpoint) guide_bind(socket)
