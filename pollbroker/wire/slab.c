#include "slab.h"

#include "queue.h"

#include <stdlib.h>

struct slab *slab_new(struct pool *pool, size_t capacity)
{
    struct slab *slab = NULL;

    if (capacity <= SLAB_SMALL) {
        capacity = SLAB_SMALL;
        if (pool->small_count)
            slab = pool->small[--pool->small_count];
    } else if (capacity <= SLAB_LARGE) {
        capacity = SLAB_LARGE;
        if (pool->large_count)
            slab = pool->large[--pool->large_count];
    }
    if (!slab) {
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
    if (slab->capacity == SLAB_SMALL && pool->small_count < POOL_KEEPS)
        pool->small[pool->small_count++] = slab;
    else if (slab->capacity == SLAB_LARGE && pool->large_count < POOL_KEEPS)
        pool->large[pool->large_count++] = slab;
    else
        free(slab);
}

void pool_empty(struct pool *pool)
{
    while (pool->small_count)
        free(pool->small[--pool->small_count]);
    while (pool->large_count)
        free(pool->large[--pool->large_count]);
    while (pool->segments) {
        struct segment *segment = pool->segments;
        pool->segments = segment->next;
        free(segment);
    }
    pool->segments_free = 0;
}
