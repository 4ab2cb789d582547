#include "turns.h"

#include "wire.h"

#include <stdlib.h>

enum { EXACT_BELOW = 32, STEPS = 2 };

void turns_init(struct turns *turns)
{
    *turns = (struct turns){0};
    link_init(&turns->in_turn);
}

bool turns_compare_loads(struct turns *turns)
{
    if (turns->by_load)
        return true;
    if (!(turns->by_load = malloc(LOAD_LEVELS * sizeof *turns->by_load)))
        return false;
    for (unsigned i = 0; i < LOAD_LEVELS; i++)
        link_init(&turns->by_load[i]);
    return true;
}

void turns_free(struct turns *turns)
{
    free(turns->by_load);
    turns->by_load = NULL;
}

static unsigned level_of(const struct peer *peer)
{
    bool answers = peer->port->type == TYPE_DEALER && !peer->port->nobody_takes;
    uint64_t load = answers ? peer->sharer.outstanding : peer->out.messages;

    if (load < EXACT_BELOW)
        return (unsigned) load;
    unsigned magnitude = 63 - (unsigned) __builtin_clzll(load), first = (unsigned) __builtin_ctz(EXACT_BELOW);
    unsigned level = EXACT_BELOW + STEPS * (magnitude - first) + (unsigned) (load >> (magnitude - 1) & (STEPS - 1));
    return level < LOAD_LEVELS ? level : LOAD_LEVELS - 1;
}

static struct link *list_of(const struct turns *turns, unsigned level)
{
    return &turns->by_load[level];
}

struct peer *turns_next(const struct turns *turns)
{
    if (turns->by_load)
        return turns->levels ? LISTED(list_of(turns, (unsigned) __builtin_ctzll(turns->levels))->next, struct peer, sharer.turn) : NULL;
    return list_is_empty(&turns->in_turn) ? NULL : LISTED(turns->in_turn.next, struct peer, sharer.turn);
}

bool turns_has_one(const struct turns *turns)
{
    const struct link *list = &turns->in_turn;

    if (turns->by_load) {
        if (!turns->levels || turns->levels & (turns->levels - 1))
            return false;
        list = list_of(turns, (unsigned) __builtin_ctzll(turns->levels));
    }
    return !list_is_empty(list) && list->next == list->previous;
}

void turns_add(struct turns *turns, struct peer *peer)
{
    if (!turns->by_load) {
        list_append(&turns->in_turn, &peer->sharer.turn);
        return;
    }
    peer->sharer.load_level = (uint8_t) level_of(peer);
    turns->levels |= 1ull << peer->sharer.load_level;
    list_append(list_of(turns, peer->sharer.load_level), &peer->sharer.turn);
}

void turns_remove(struct turns *turns, struct peer *peer)
{
    link_remove(&peer->sharer.turn);
    if (turns->by_load && list_is_empty(list_of(turns, peer->sharer.load_level)))
        turns->levels &= ~(1ull << peer->sharer.load_level);
}

void turns_pass(struct turns *turns, struct peer *peer)
{
    if (turns->by_load || turns->in_turn.next != turns->in_turn.previous) {
        turns_remove(turns, peer);
        turns_add(turns, peer);
    }
}

void turns_weigh(struct turns *turns, struct peer *peer)
{
    if (turns->by_load && link_is_in(&peer->sharer.turn) && level_of(peer) != peer->sharer.load_level) {
        turns_remove(turns, peer);
        turns_add(turns, peer);
    }
}
