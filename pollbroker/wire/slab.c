#include "slab.h"

#include "queue.h"

#include <stdlib.h>

enum { LARGE = 2 };

static size_t capacity_of(unsigned size)
{
    static const size_t first[] = {SLAB_SMALL, SLAB_MIDDLE};

    return size < LARGE ? first[size] : (size_t) SLAB_LARGE << (size - LARGE);
}

/* The smallest size of slabs with this capacity. SLAB_SIZES if there is none. */
static unsigned size_for(size_t capacity)
{
    unsigned size = 0;

    while (size < SLAB_SIZES && capacity_of(size) < capacity)
        size++;
    return size;
}

struct slab *slab_new(struct pool *pool, size_t capacity)
{
    unsigned size = size_for(capacity);
    struct slab *slab = NULL;

    if (size < SLAB_SIZES) {
        capacity = capacity_of(size);
        slab = pool->free[size];
    }
    if (slab) {
        pool->free[size] = slab->next;
        pool->free_count[size]--;
        pool->long_bytes -= size > LARGE ? capacity : 0;
    } else {
        if (capacity > SIZE_MAX - sizeof *slab || !(slab = malloc(sizeof *slab + capacity)))
            return NULL;
        slab->pool = pool;
        slab->capacity = capacity;
    }
    slab->references = 1;
    pool->slabs_alive++;
    return slab;
}

void slab_release(struct slab *slab)
{
    struct pool *pool = slab->pool;

    if (--slab->references)
        return;
    pool->slabs_alive--;
    unsigned size = size_for(slab->capacity);
    bool is_kept = size < SLAB_SIZES && (size > LARGE ? pool->long_bytes + slab->capacity <= POOL_KEEPS_BYTES
                                                  : pool->free_count[size] < POOL_KEEPS);
    if (!is_kept) {
        free(slab);
        return;
    }
    slab->next = pool->free[size];
    pool->free[size] = slab;
    pool->free_count[size]++;
    pool->long_bytes += size > LARGE ? slab->capacity : 0;
}

void pool_empty(struct pool *pool)
{
    for (unsigned size = 0; size < SLAB_SIZES; size++) {
        while (pool->free[size]) {
            struct slab *slab = pool->free[size];
            pool->free[size] = slab->next;
            free(slab);
        }
        pool->free_count[size] = 0;
    }
    pool->long_bytes = 0;
    while (pool->segments) {
        struct segment *segment = pool->segments;
        pool->segments = segment->next;
        free(segment);
    }
    pool->segments_free = 0;
}
