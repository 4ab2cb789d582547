/* A hash map from strings of bytes to things that have their key in them.
 *
 * The hash is SipHash-1-3 with a secret of the process. Peers choose the keys, and cannot choose such that are looked for in
 * the same place, not even if they see in which order the map has them. All prefixes of a topic can be hashed in one go. */
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

/* Choose the secret, once in a process, before anything is hashed. */
void map_set_secret(uint64_t first, uint64_t second);

uint64_t map_hash(const uint8_t *bytes, size_t size);

/* How far a string was hashed: so many bytes at its beginning. */
struct hashed {
    uint64_t words[4];
    size_t size;
};

struct hashed map_hash_nothing(void);

/* The hash of the first `size` bytes of a string, which may not be fewer than at the last call. */
uint64_t map_hash_prefix(struct hashed *hashed, const uint8_t *bytes, size_t size);

struct key *map_find(const struct map *map, const uint8_t *bytes, size_t size, uint64_t hash);

/* Put a key that is not in the map. Return false if there is no memory. */
bool map_put(struct map *map, struct key *key);

/* Remove a key that is in the map. */
void map_remove(struct map *map, struct key *key);

void map_free(struct map *map);

#endif
