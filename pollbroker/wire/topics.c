#include "topics.h"

#include <stdlib.h>
#include <string.h>

struct prefix *prefixes_find(const struct prefixes *prefixes, const uint8_t *bytes, size_t size)
{
    return (struct prefix *) map_find(&prefixes->map, bytes, size, map_hash(bytes, size));
}

static bool count_length(struct prefixes *prefixes, size_t size)
{
    if (size >= prefixes->room) {
        size_t words = size / 64 + 1, room = 64 * words;
        uint64_t *lengths = realloc(prefixes->lengths, room * sizeof *lengths);
        if (!lengths)
            return false;
        prefixes->lengths = lengths;
        uint64_t *used = realloc(prefixes->used, words * sizeof *used);
        if (!used)
            return false;
        prefixes->used = used;
        memset(lengths + prefixes->room, 0, (room - prefixes->room) * sizeof *lengths);
        memset(used + prefixes->room / 64, 0, (words - prefixes->room / 64) * sizeof *used);
        prefixes->room = room;
    }
    prefixes->lengths[size]++;
    prefixes->used[size / 64] |= 1ull << size % 64;
    if (size > prefixes->longest)
        prefixes->longest = size;
    return true;
}

static void discount_length(struct prefixes *prefixes, size_t size)
{
    if (!--prefixes->lengths[size])
        prefixes->used[size / 64] &= ~(1ull << size % 64);
    while (prefixes->longest && !prefixes->lengths[prefixes->longest])
        prefixes->longest--;
}

static void free_lengths(struct prefixes *prefixes)
{
    free(prefixes->lengths);
    free(prefixes->used);
    prefixes->lengths = prefixes->used = NULL;
    prefixes->room = 0;
}

struct prefix *prefixes_get(struct prefixes *prefixes, const uint8_t *bytes, size_t size)
{
    struct prefix *prefix = prefixes_find(prefixes, bytes, size);

    if (prefix)
        return prefix;
    if (!(prefix = malloc(sizeof *prefix + size)))
        return NULL;
    memcpy(prefix->bytes, bytes, size);
    prefix->key = (struct key){.hash = map_hash(bytes, size), .bytes = prefix->bytes, .size = size};
    prefix->count = 0;
    link_init(&prefix->subscriptions);
    if (!count_length(prefixes, size)) {
        free(prefix);
        return NULL;
    }
    if (!map_put(&prefixes->map, &prefix->key)) {
        discount_length(prefixes, size);
        free(prefix);
        return NULL;
    }
    return prefix;
}

void prefixes_remove(struct prefixes *prefixes, struct prefix *prefix)
{
    map_remove(&prefixes->map, &prefix->key);
    discount_length(prefixes, prefix->key.size);
    free(prefix);
    if (!prefixes->map.count)
        free_lengths(prefixes);
}

void prefixes_free(struct prefixes *prefixes)
{
    for (size_t i = 0; i < prefixes->map.capacity; i++)
        free(prefixes->map.slots[i]);
    map_free(&prefixes->map);
    free_lengths(prefixes);
    *prefixes = (struct prefixes){0};
}

void prefixes_of(const struct prefixes *prefixes, const uint8_t *bytes, size_t size,
                 bool (*found)(struct prefix *prefix, void *data), void *data)
{
    struct hashed hashed = map_hash_nothing();

    if (!prefixes->map.count)
        return;
    for (size_t word = 0; word <= prefixes->longest / 64; word++)
        for (uint64_t bits = prefixes->used[word]; bits; bits &= bits - 1) {
            size_t length = 64 * word + (size_t) __builtin_ctzll(bits);
            if (length > size)
                return;
            uint64_t hash = map_hash_prefix(&hashed, bytes, length);
            struct prefix *prefix = (struct prefix *) map_find(&prefixes->map, bytes, length, hash);
            if (prefix && !found(prefix, data))
                return;
        }
}

enum subscribed topics_subscribe(struct topics *topics, struct subscriber *subscriber, const uint8_t *bytes, size_t size)
{
    struct prefix *topic = prefixes_get(&topics->prefixes, bytes, size);
    struct subscription *subscription;

    if (!topic)
        return SUBSCRIBED_NOT;
    bool first = list_is_empty(&topic->subscriptions);
    struct topic_and_subscriber pair = {topic, subscriber};
    uint64_t hash = map_hash((const uint8_t *) &pair, sizeof pair);
    if (map_find(&topics->subscriptions, (const uint8_t *) &pair, sizeof pair, hash))
        return SUBSCRIBED_AGAIN;
    if (!(subscription = malloc(sizeof *subscription)))
        goto no_memory;
    subscription->pair = pair;
    subscription->key = (struct key){.hash = hash, .bytes = (const uint8_t *) &subscription->pair, .size = sizeof pair};
    if (!map_put(&topics->subscriptions, &subscription->key)) {
        free(subscription);
        goto no_memory;
    }
    link_init(&subscription->of_topic);
    link_init(&subscription->of_subscriber);
    list_append(&topic->subscriptions, &subscription->of_topic);
    list_append(&subscriber->subscriptions, &subscription->of_subscriber);
    subscriber->count++;
    return first ? SUBSCRIBED_FIRST : SUBSCRIBED;

no_memory:
    if (first)
        prefixes_remove(&topics->prefixes, topic);
    return SUBSCRIBED_NOT;
}

bool topics_remove(struct topics *topics, struct subscription *subscription)
{
    struct prefix *topic = subscription->pair.topic;

    map_remove(&topics->subscriptions, &subscription->key);
    link_remove(&subscription->of_topic);
    link_remove(&subscription->of_subscriber);
    subscription->pair.subscriber->count--;
    free(subscription);
    if (!list_is_empty(&topic->subscriptions))
        return false;
    prefixes_remove(&topics->prefixes, topic);
    return true;
}

static struct subscription *find(const struct topics *topics, struct subscriber *subscriber, const uint8_t *bytes, size_t size)
{
    struct topic_and_subscriber pair = {prefixes_find(&topics->prefixes, bytes, size), subscriber};

    if (!pair.topic)
        return NULL;
    uint64_t hash = map_hash((const uint8_t *) &pair, sizeof pair);
    return (struct subscription *) map_find(&topics->subscriptions, (const uint8_t *) &pair, sizeof pair, hash);
}

bool topics_have(const struct topics *topics, struct subscriber *subscriber, const uint8_t *bytes, size_t size)
{
    return find(topics, subscriber, bytes, size);
}

enum cancelled topics_cancel(struct topics *topics, struct subscriber *subscriber, const uint8_t *bytes, size_t size)
{
    struct subscription *subscription = find(topics, subscriber, bytes, size);

    if (!subscription)
        return CANCELLED_NOTHING;
    return topics_remove(topics, subscription) ? CANCELLED_LAST : CANCELLED;
}

void topics_forget(struct subscriber *subscriber)
{
    while (!list_is_empty(&subscriber->subscriptions)) {
        struct subscription *first = LISTED(subscriber->subscriptions.next, struct subscription, of_subscriber);
        link_remove(&first->of_subscriber);
        free(first);
    }
    subscriber->count = 0;
}

void topics_free(struct topics *topics)
{
    prefixes_free(&topics->prefixes);
    map_free(&topics->subscriptions);
}
