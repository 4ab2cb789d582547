#include "map.h"

#include <stdlib.h>
#include <string.h>

static uint64_t secret[2] = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9};

void map_set_secret(uint64_t first, uint64_t second)
{
    secret[0] = first;
    secret[1] = second;
}

static uint64_t rotate(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

/* A round of SipHash. There is one for each eight bytes, and three at the end. */
static void mix(uint64_t *words)
{
    words[0] += words[1];
    words[2] += words[3];
    words[1] = rotate(words[1], 13) ^ words[0];
    words[3] = rotate(words[3], 16) ^ words[2];
    words[0] = rotate(words[0], 32);
    words[2] += words[1];
    words[0] += words[3];
    words[1] = rotate(words[1], 17) ^ words[2];
    words[3] = rotate(words[3], 21) ^ words[0];
    words[2] = rotate(words[2], 32);
}

static void add(uint64_t *words, uint64_t number)
{
    words[3] ^= number;
    mix(words);
    words[0] ^= number;
}

struct hashed map_hash_nothing(void)
{
    return (struct hashed){{
        secret[0] ^ 0x736f6d6570736575,
        secret[1] ^ 0x646f72616e646f6d,
        secret[0] ^ 0x6c7967656e657261,
        secret[1] ^ 0x7465646279746573,
    }};
}

uint64_t map_hash_prefix(struct hashed *hashed, const uint8_t *bytes, size_t size)
{
    uint64_t number;

    for (; size - hashed->size >= sizeof number; hashed->size += sizeof number) {
        memcpy(&number, bytes + hashed->size, sizeof number);
        add(hashed->words, number);
    }
    struct hashed last = *hashed;
    number = (uint64_t) size << 56;
    for (size_t i = 0; i < size - hashed->size; i++)
        number |= (uint64_t) bytes[hashed->size + i] << 8 * i;
    add(last.words, number);
    last.words[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        mix(last.words);
    return last.words[0] ^ last.words[1] ^ last.words[2] ^ last.words[3];
}

uint64_t map_hash(const uint8_t *bytes, size_t size)
{
    struct hashed hashed = map_hash_nothing();

    return map_hash_prefix(&hashed, bytes, size);
}

/* Where a key of this hash is looked for first. */
static size_t home(const struct map *map, uint64_t hash)
{
    return (size_t) hash & (map->capacity - 1);
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
