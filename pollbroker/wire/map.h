/* A hash map from strings of bytes to things that have their key in them.
 *
 * The hash is a polynomial over the bytes with a secret factor, modulo 2^61 - 1. Peers choose the keys, and cannot choose
 * such that collide. It can be computed byte by byte, so that all prefixes of a topic are hashed in one go. */
#ifndef POLLBROKER_WIRE_MAP_H
#define POLLBROKER_WIRE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct key {
    uint64_t hash;
    const uint8_t *bytes;
    size_t size;
};

struct map {
    struct key **slots; /* NULL: free. Open addressing */
    size_t capacity, count;
};

/* Choose the secret factor, once in a process. */
void map_set_secret(uint64_t secret);

/* The hash of a string and one more byte, from the hash of the string; that of the empty string is 0. */
uint64_t map_hash_next(uint64_t hash, uint8_t byte);

uint64_t map_hash(const uint8_t *bytes, size_t size);

struct key *map_find(const struct map *map, const uint8_t *bytes, size_t size, uint64_t hash);

/* Put a key that is not in the map. Return false if there is no memory. */
bool map_put(struct map *map, struct key *key);

/* Remove a key that is in the map. */
void map_remove(struct map *map, struct key *key);

void map_free(struct map *map);

#endif
