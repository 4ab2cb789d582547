#include "map.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t PRIME = ((uint64_t) 1 << 61) - 1;
static uint64_t factor = 0x9e3779b97f4a7c15 & (((uint64_t) 1 << 61) - 1);

void map_set_secret(uint64_t secret)
{
    secret &= PRIME;
    if (secret > 0xffff && secret != PRIME)
        factor = secret;
}

enum { AT_ONCE = 7 };

static uint64_t hash_next(uint64_t hash, uint64_t number)
{
    unsigned __int128 product = (unsigned __int128) hash * factor + number;
    uint64_t sum = (uint64_t) (product & PRIME) + (uint64_t) (product >> 61);

    return sum >= PRIME ? sum - PRIME : sum;
}

uint64_t map_hash_prefix(struct hashed *hashed, const uint8_t *bytes, size_t size)
{
    while (size - hashed->size >= AT_ONCE) {
        uint64_t number = 0;
        memcpy(&number, bytes + hashed->size, AT_ONCE);
        hashed->hash = hash_next(hashed->hash, number);
        hashed->size += AT_ONCE;
    }
    uint64_t number = 1; /* in front of the bytes that are left, so that it tells how many there are */
    for (size_t i = hashed->size; i < size; i++)
        number = number << 8 | bytes[i];
    return hash_next(hashed->hash, number);
}

uint64_t map_hash(const uint8_t *bytes, size_t size)
{
    return map_hash_prefix(&(struct hashed){0}, bytes, size);
}

/* Where a key of this hash is looked for first. The hash itself is linear in its last bytes, so it is mixed. */
static size_t home(const struct map *map, uint64_t hash)
{
    hash *= 0x9e3779b97f4a7c15;
    return (size_t) (hash ^ hash >> 32) & (map->capacity - 1);
}

struct key *map_find(const struct map *map, const uint8_t *bytes, size_t size, uint64_t hash)
{
    if (!map->count)
        return NULL;
    for (size_t i = home(map, hash); map->slots[i]; i = (i + 1) & (map->capacity - 1)) {
        struct key *key = map->slots[i];
        if (key->hash == hash && key->size == size && !memcmp(key->bytes, bytes, size))
            return key;
    }
    return NULL;
}

static void insert(struct map *map, struct key *key)
{
    size_t i = home(map, key->hash);

    while (map->slots[i])
        i = (i + 1) & (map->capacity - 1);
    map->slots[i] = key;
}

bool map_put(struct map *map, struct key *key)
{
    if (2 * (map->count + 1) > map->capacity) {
        struct map grown = {.capacity = map->capacity ? 2 * map->capacity : 8};
        if (!(grown.slots = calloc(grown.capacity, sizeof *grown.slots)))
            return false;
        for (size_t i = 0; i < map->capacity; i++)
            if (map->slots[i])
                insert(&grown, map->slots[i]);
        grown.count = map->count;
        free(map->slots);
        *map = grown;
    }
    insert(map, key);
    map->count++;
    return true;
}

void map_remove(struct map *map, struct key *key)
{
    size_t mask = map->capacity - 1, hole = home(map, key->hash);

    while (map->slots[hole] != key)
        hole = (hole + 1) & mask;
    /* Close the gap, so that every key is still found from its home. */
    for (size_t i = (hole + 1) & mask; map->slots[i]; i = (i + 1) & mask) {
        size_t wanted = home(map, map->slots[i]->hash);
        if (((i - wanted) & mask) >= ((i - hole) & mask)) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole] = NULL;
    if (!--map->count) {
        free(map->slots);
        *map = (struct map){0};
    }
}

void map_free(struct map *map)
{
    free(map->slots);
    *map = (struct map){0};
}
