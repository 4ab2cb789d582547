/* Slabs: blocks of bytes that are shared by counting references. What was read from a peer is in a slab, and stays there
 * until it was written to the peers that it goes to.
 *
 * A pool belongs to one engine, so that only one thread uses it at a time. */
#ifndef POLLBROKER_WIRE_SLAB_H
#define POLLBROKER_WIRE_SLAB_H

#include <stddef.h>
#include <stdint.h>

#ifndef WIRE_POOL_KEEPS
#define WIRE_POOL_KEEPS 32 /* 0 under a sanitizer, which can then see that a slab is used after it was freed */
#endif
#ifndef WIRE_SLAB_LARGE
#define WIRE_SLAB_LARGE (128 << 10) /* less in a fuzzer, so that slabs end more often */
#endif

enum {
    SLAB_SMALL = 2 << 10,         /* where a few short messages wait */
    SLAB_MIDDLE = 16 << 10,       /* what is read from a peer whose port is not read now */
    SLAB_LARGE = WIRE_SLAB_LARGE, /* what one read from a peer may bring */
    SLAB_SIZES = 8,               /* these three, and the next powers of two, for long messages: up to 4 MiB */
    POOL_KEEPS = WIRE_POOL_KEEPS, /* free slabs of each of the first three sizes */
    POOL_KEEPS_BYTES = WIRE_POOL_KEEPS * SLAB_LARGE * 2 /* of all free slabs of the other sizes: 8 MiB */
};

struct slab {
    struct pool *pool;
    struct slab *next; /* of the free ones */
    size_t references, capacity;
    uint8_t bytes[];
};

struct segment;

struct pool {
    struct slab *free[SLAB_SIZES]; /* those that are kept, because the kernel would have to clear new memory */
    size_t free_count[SLAB_SIZES], long_bytes;
    struct segment *segments; /* free ones, linked by `next` */
    size_t segments_free;
    size_t slabs_alive, segments_alive; /* in use; a test looks at both after everything has ended */
};

/* A slab of at least `capacity` bytes, with one reference. NULL if there is no memory. */
struct slab *slab_new(struct pool *pool, size_t capacity);

static inline struct slab *slab_hold(struct slab *slab)
{
    slab->references++;
    return slab;
}

void slab_release(struct slab *slab);

/* Free what the pool keeps. Everything that was in use must have been released. */
void pool_empty(struct pool *pool);

#endif
