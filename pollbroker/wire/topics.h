/* Topics: which peers have subscribed to what, and what a port itself has subscribed to. */
#ifndef POLLBROKER_WIRE_TOPICS_H
#define POLLBROKER_WIRE_TOPICS_H

#include "list.h"
#include "map.h"

/* A set of prefixes, in which a string finds those that it begins with: for each length that there is, one look-up. */
struct prefixes {
    struct map map;     /* of struct prefix, by their key */
    uint64_t *lengths;  /* how many prefixes there are of each length */
    uint64_t *used;     /* a bit for each length that there is */
    size_t room;        /* lengths that there is room for, 64 for each number of `used` */
    size_t longest;     /* the longest length that there is */
};

/* True if the empty string is in the set, which everything begins with. */
static inline bool prefixes_have_empty(const struct prefixes *prefixes)
{
    return prefixes->room && prefixes->lengths[0];
}

struct prefix {
    struct key key;
    uint64_t count;            /* SUB, XSUB: how often it was subscribed to */
    struct link subscriptions; /* PUB, XPUB: of the peers */
    uint8_t bytes[];
};

/* The prefix, which is made if there is none. NULL if there is no memory. */
struct prefix *prefixes_get(struct prefixes *prefixes, const uint8_t *bytes, size_t size);
struct prefix *prefixes_find(const struct prefixes *prefixes, const uint8_t *bytes, size_t size);
void prefixes_remove(struct prefixes *prefixes, struct prefix *prefix);
void prefixes_free(struct prefixes *prefixes);

/* Call `found` for each prefix of the string, the shorter ones first, until it returns false. */
void prefixes_of(const struct prefixes *prefixes, const uint8_t *bytes, size_t size,
                 bool (*found)(struct prefix *prefix, void *data), void *data);

struct peer;
struct port;

/* A peer that has subscribed to something, and what. */
struct subscriber {
    struct port *port;
    struct peer *peer; /* NULL if it has left */
    struct link left;  /* in the list of the wire, of those that have left */
    struct link subscriptions;
    uint32_t count; /* of these */
    uint64_t epoch; /* of the last message that was for it: see struct topics */
};

/* That one peer has subscribed to one topic. It is in the list of the topic, and in that of the subscriber. */
struct subscription {
    struct key key; /* the bytes of `pair` */
    struct topic_and_subscriber {
        struct prefix *topic;
        struct subscriber *subscriber;
    } pair;
    struct link of_topic, of_subscriber;
};

struct topics {
    struct prefixes prefixes;
    struct map subscriptions;
    uint64_t epoch; /* grows with each message, so that a peer that two topics match is given it once */
};

enum subscribed { SUBSCRIBED_AGAIN, SUBSCRIBED, SUBSCRIBED_FIRST, SUBSCRIBED_NOT };

/* A peer subscribes: SUBSCRIBED_FIRST if it is the first to subscribe to this, SUBSCRIBED_NOT if there is no memory. */
enum subscribed topics_subscribe(struct topics *topics, struct subscriber *subscriber, const uint8_t *bytes, size_t size);

/* True if a peer has subscribed to this. */
bool topics_have(const struct topics *topics, struct subscriber *subscriber, const uint8_t *bytes, size_t size);

enum cancelled { CANCELLED_NOTHING, CANCELLED, CANCELLED_LAST };

/* A peer cancels a subscription: CANCELLED_LAST if nobody is subscribed to this any more. */
enum cancelled topics_cancel(struct topics *topics, struct subscriber *subscriber, const uint8_t *bytes, size_t size);

/* Remove a subscription. Return true if nobody is subscribed to its topic any more. */
bool topics_remove(struct topics *topics, struct subscription *subscription);

/* Free the subscriptions of a subscriber. Nothing but `topics_free` can be done with the topics then. */
void topics_forget(struct subscriber *subscriber);
void topics_free(struct topics *topics);

#endif
