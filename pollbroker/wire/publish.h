/* Ports that publish, which are PUB and XPUB, and ports that subscribe, which are SUB and XSUB. */
#ifndef POLLBROKER_WIRE_PUBLISH_H
#define POLLBROKER_WIRE_PUBLISH_H

#include "wire.h"

/* -- publish.c: PUB and XPUB, to each peer what it has subscribed to -- */

/* A peer has shaken hands. Return false if there is no memory. */
bool publish_attach(struct port *port);
enum put publish_put(struct port *port, const struct message *message, struct account *account);

/* -- subscribers.c: PUB and XPUB, what their peers have subscribed to -- */

/* How many topics it has subscribed to. */
uint64_t peer_subscription_count(const struct peer *peer);

/* A peer that is attached subscribes. An XPUB tells nobody of it. */
enum subscribed peer_subscribe(struct peer *peer, const uint8_t *topic, size_t size);

/* A peer subscribes or cancels. Return the reason to end its connection, or NO_REASON. */
enum reason publish_on_subscription(struct port *port, struct peer *peer, bool subscribe, const uint8_t *topic, size_t size);

/* A peer leaves. Its subscriptions are removed, as far as this turn allows. */
void publish_detach(struct port *port, struct peer *peer);

/* A turn begins: remove subscriptions of peers that have left, as many as one turn may. */
void wire_remove_subscriptions(struct wire *wire);

/* Remove all subscriptions of peers of a port that have left, in however many turns that would have been. */
void publish_remove_all(struct port *port);

/* A port ends that has no peers any more. */
void publish_end(struct port *port);

/* -- subscribe.c: SUB and XSUB -- */

/* Subscribe, or cancel, and tell every publisher. Return false if there is no memory. */
bool port_subscribe(struct port *port, const uint8_t *topic, size_t size);
bool port_unsubscribe(struct port *port, const uint8_t *topic, size_t size);

/* A publisher has shaken hands: it is told what there is. */
void subscribe_attach(struct port *port, struct peer *peer);
enum put subscribe_put(struct port *port, const struct message *message, struct account *account);

/* -- both -- */

/* Messages that were for this peer are not given to it, for lack of room or of memory. */
static inline void peer_drop(struct peer *peer, uint64_t messages)
{
    peer->dropped += messages;
    peer->port->missed += messages;
}

#endif
