#include "deadlines.h"

#include "wire.h"

#include <stdlib.h>

static void place(struct deadlines *deadlines, size_t at, struct peer *peer)
{
    deadlines->heap[at] = peer;
    peer->timer = (uint32_t) at;
}

/* Move a peer up or down from a place, until it is behind those that are earlier and before those that are later. */
static void settle(struct deadlines *deadlines, size_t at, struct peer *peer)
{
    struct peer **heap = deadlines->heap;

    while (at > 1 && heap[at / 2]->deadline_s > peer->deadline_s) {
        place(deadlines, at, heap[at / 2]);
        at /= 2;
    }
    for (;;) {
        size_t child = 2 * at;
        if (child > deadlines->count)
            break;
        if (child < deadlines->count && heap[child + 1]->deadline_s < heap[child]->deadline_s)
            child++;
        if (heap[child]->deadline_s >= peer->deadline_s)
            break;
        place(deadlines, at, heap[child]);
        at = child;
    }
    place(deadlines, at, peer);
}

bool deadlines_set(struct deadlines *deadlines, struct peer *peer)
{
    if (peer->deadline_s) {
        if (!peer->timer) {
            if (deadlines->count + 1 >= deadlines->room) {
                size_t room = deadlines->room ? 2 * deadlines->room : 16;
                struct peer **heap = realloc(deadlines->heap, room * sizeof *heap);
                if (!heap)
                    return false;
                deadlines->heap = heap;
                deadlines->room = room;
            }
            peer->timer = (uint32_t) ++deadlines->count;
        }
        settle(deadlines, peer->timer, peer);
    } else if (peer->timer) {
        size_t at = peer->timer;
        struct peer *last = deadlines->heap[deadlines->count--];
        peer->timer = 0;
        if (last != peer)
            settle(deadlines, at, last);
    }
    return true;
}

struct peer *deadlines_first(const struct deadlines *deadlines)
{
    return deadlines->count ? deadlines->heap[1] : NULL;
}

void deadlines_free(struct deadlines *deadlines)
{
    free(deadlines->heap);
    *deadlines = (struct deadlines){0};
}
